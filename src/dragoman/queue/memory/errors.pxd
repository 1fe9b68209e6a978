# Results of the queue's functions, beside errnos as negative numbers where the disk is asked.

cdef enum:
    DONE = 0
    WAIT = 1  # for room; try again then
    NO_MEMORY = 2
    TOO_MANY = 3
