from libc.stdint cimport uint64_t

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.fastjson_request cimport Invocation
from dragoman.wire.json.string cimport Slice

# Outcomes: 0 is success.
cdef enum:
    HESSIAN_OK = 0
    HESSIAN_BAD_UTF8 = 1    # a text that is none
    HESSIAN_TOO_LONG = 32   # a body of 2 GiB
    HESSIAN_BAD_TYPE = 33   # a reply's type is not 0 to 5
    HESSIAN_BAD_MAP = 34    # attachments are no map of strings

# What the body of a reply under status 20 begins with; the rest is for a reader of hessian2.
cdef struct HessianReply:
    int kind               # REPLY_EXCEPTION, REPLY_VALUE or REPLY_NULL of fastjson.pxd
    bint has_attachments   # after the value
    Slice rest             # value or throwable (none for REPLY_NULL), then attachments

cdef int write_text(Buffer out, const char* utf8, Py_ssize_t n) except -1
cdef int write_hessian_text_request(
    Buffer out, uint64_t id, const Invocation* call, const char* argument, Py_ssize_t n
) except -1
cdef int write_hessian_request(
    Buffer out, uint64_t id, const Invocation* call, const char* arguments, Py_ssize_t n
) except -1
cdef int write_head(Buffer out, const Invocation* call) except -1
cdef int finish_request(Buffer out, const Invocation* call, Py_ssize_t start) except -1
cdef int write_own_attachments(
    Buffer out, const char* stream, Py_ssize_t n, bint* timed
) except -1
cdef int begin_hessian_reply(const char* body, Py_ssize_t n, HessianReply* reply) noexcept nogil
cdef const char* hessian_problem(int code) noexcept nogil
