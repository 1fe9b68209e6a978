from libc.stdint cimport uint64_t

from dragoman.queue.engine.get cimport Gets


cdef class Kept(Gets):
    cdef uint64_t reserved  # META has room up to here
    cdef uint64_t reserved_generation  # if it is this one
