from libc.stdint cimport uint32_t, uint64_t

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.string cimport Slice

# What a writer finds beyond JSON_* of ``json.text``; FASTJSON_* of ``dubbo.fastjson`` are below it.
cdef enum:
    FASTJSON_TOO_LONG = 21

# What a request says beside its arguments. UTF-8, borrowed; data == NULL is absent.
cdef struct Invocation:
    Slice version          # of the protocol; absent: 2.0.1, to which replies carry no attachments
    Slice interface
    Slice service_version  # absent: null
    Slice method
    Slice descriptor
    Slice group            # absent: no such attachment
    Slice path             # what the interface is served under; absent: its name
    Slice token            # absent: no such attachment
    uint32_t timeout_ms    # how long the call may take; 0: no such attachments
    Slice attachments      # more members as JSON text without braces: "color":"red"
    bint lengths           # the later wire form, with a length before each field

cdef int write_string_request(
    Buffer out, uint64_t id, const Invocation* call, const char* argument, Py_ssize_t n
) except -1
cdef int write_json_request(
    Buffer out, uint64_t id, const Invocation* call, const Slice* arguments, Py_ssize_t count
) except -1
