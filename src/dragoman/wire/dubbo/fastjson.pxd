from libc.stdint cimport int32_t, uint64_t

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.string cimport Slice

# Outcomes beyond JSON_* of ``json.text``: all positive, 0 is success.
cdef enum:
    FASTJSON_OK = 0
    FASTJSON_TRUNCATED = 16
    FASTJSON_BAD_TYPE = 17
    FASTJSON_TRAILING = 18
    FASTJSON_BAD_DESCRIPTOR = 19
    FASTJSON_BAD_FIELD = 20

cdef enum:
    FASTJSON_ARGUMENTS_MAX = 255

# A request as a provider reads it: every Slice is JSON text, but descriptor is without its quotes.
cdef struct FastjsonRequest:
    Slice version
    Slice path
    Slice service_version
    Slice method
    Slice descriptor
    Slice attachments
    int count
    bint loose             # some argument is JSON only after jsonloose.write_strict_json
    Slice arguments[FASTJSON_ARGUMENTS_MAX]

cdef int read_request(const char* body, Py_ssize_t n, FastjsonRequest* request) noexcept nogil

cdef enum:
    REPLY_EXCEPTION = 0
    REPLY_VALUE = 1
    REPLY_NULL = 2

cdef struct FastjsonReply:
    int kind
    Slice value        # JSON text inside the body; `null` for REPLY_NULL
    bint loose         # the value is JSON only after jsonloose.write_strict_json
    Slice attachments  # absent unless the reply has them

cdef int read_reply(const char* body, Py_ssize_t n, FastjsonReply* reply) noexcept nogil
cdef const char* fastjson_problem(int code) noexcept nogil

cdef int write_value_reply(Buffer out, uint64_t id, const char* json, Py_ssize_t n) except -1
cdef int write_int_reply(Buffer out, uint64_t id, int32_t value) except -1
cdef int write_null_reply(Buffer out, uint64_t id) except -1
cdef int write_exception_reply(
    Buffer out, uint64_t id, const char* class_name, const char* utf8, Py_ssize_t n
) except -1
