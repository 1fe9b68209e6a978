from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.engine.base cimport Held


cdef struct Item:
    # One put of put_many.
    const char* name
    const char* message
    uint32_t name_length
    uint32_t message_length
    uint32_t hash
    uint32_t id
    uint64_t offset


cdef class Puts(Held):
    pass
