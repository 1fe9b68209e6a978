from libc.stdint cimport uint64_t

from dragoman.wire.buffer cimport Buffer

# What the body of an event says.
cdef enum:
    DUBBO_EVENT_UNKNOWN = 0
    DUBBO_EVENT_HEARTBEAT = 1
    DUBBO_EVENT_READONLY = 2   # "R": the provider is about to stop
    DUBBO_EVENT_WRITABLE = 3   # "W": it takes requests again

cdef int write_heartbeat(Buffer out, uint64_t id, int serialization) except -1
cdef int write_heartbeat_reply(
    Buffer out, uint64_t id, int serialization, const char* body, Py_ssize_t n
) except -1
cdef int write_readonly(Buffer out, uint64_t id, int serialization) except -1
cdef int event_kind(const char* body, Py_ssize_t n) noexcept nogil
