from libc.stdint cimport int64_t, uint32_t, uint64_t

from dragoman.queue.engine.core cimport Core
from dragoman.queue.read.reader cimport Window

cdef list get_messages(Core core, object requests, int64_t bytes_max)


cdef struct Request:
    const char* name
    uint32_t name_length
    uint32_t hash
    uint64_t offset  # where to go on
    uint64_t left  # messages that are still to be got


cdef struct Requests:
    Request* items
    Py_ssize_t count
    Py_ssize_t at  # the first that is not wholly in a window


cdef class Context:
    cdef Window w
