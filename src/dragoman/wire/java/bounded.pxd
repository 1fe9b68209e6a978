from libc.stdint cimport uint8_t

cdef enum:
    # Deeper values are refused: each level costs a few hundred bytes of the thread's stack.
    DEPTH = 256
    # Lists, maps and objects of one stream. An empty one is a single byte on the wire.
    CONTAINERS = 500_000
    # What they weigh beyond what a value does.
    CONTAINER_WEIGHT = 8
    ENTRY_WEIGHT = 4


cdef class BoundedReader:
    cdef str format              # for messages
    cdef object owner
    cdef const uint8_t* data
    cdef Py_ssize_t n
    cdef readonly Py_ssize_t at
    cdef bint exact, typed
    cdef int depth, depth_max
    cdef Py_ssize_t containers_left, containers_max, costly_keys
    # How much more may be read, as ``weigh`` counts; whoever bounds it sets it after ``start``.
    cdef Py_ssize_t weight_left

    cdef int start(
        self, object owner, const uint8_t* data, Py_ssize_t n, bint exact, int depth_max,
        Py_ssize_t containers_max
    ) except -1
    cdef object bad(self, str what, Py_ssize_t at)
    cdef object cut(self, str what)
    cdef int weigh(self, int more) except -1
    cdef int enter(self, Py_ssize_t at) except -1
    cdef int too_deep(self, Py_ssize_t at) except -1
    cdef object key_of(self, object key, Py_ssize_t at)
