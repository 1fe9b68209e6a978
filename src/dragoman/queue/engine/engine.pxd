from libc.stdint cimport uint64_t

from dragoman.queue.engine.core cimport Core


cdef class Engine:
    cdef Core core

    cdef bint remove(self, queue, uint64_t before) except -1
