cdef enum:
    # A text for a peer is cut here.
    TEXT_MAX = 2000

cdef str words(error)
