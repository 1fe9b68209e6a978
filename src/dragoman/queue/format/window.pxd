from libc.stdint cimport uint64_t

from dragoman.queue.disk.readahead cimport Reading
from dragoman.queue.memory.state cimport Store


cdef class Window:
    cdef Store* store
    cdef int fd
    cdef uint64_t length
    cdef char* buffer  # what was read begins AHEAD bytes behind
    cdef char* other  # where the next stretch is being read to
    cdef uint64_t capacity
    cdef char* base  # of what there is
    cdef uint64_t start
    cdef uint64_t have
    cdef Reading ahead
    cdef str name

    cdef char* at(self, uint64_t offset, uint64_t n) except? NULL
    cdef int _go_on(self, uint64_t offset) except -1
    cdef int _jump(self, uint64_t offset, uint64_t n, bint in_order) except -1
    cdef int _read_on(self) except -1


cdef Window window(Store* s, str path, str name, bint direct)
cdef bint file_header(Window w, bytes magic, bytes identity, uint64_t number) except -1
