# Kinds of values that descriptors ask for.
cdef enum:
    AS_IS
    BOOLEAN
    INTEGER
    LONG
    DOUBLE
    CHARACTER
    TEXT
    BYTES
    CHARACTERS
    ARRAY
    LIST
    SET
    MAP
    CONVERTED
    NUMBER
    OBJECT


cdef class Plan:
    cdef int kind
    cdef str java_class       # as people write it, for messages and for objects
    cdef str wire_class       # of the list, array or map; None for the untyped form
    cdef object least, most   # of integers
    cdef Plan element         # of arrays
    cdef bint nullable
    cdef object convert


cdef Plan plan_of(str descriptor)
