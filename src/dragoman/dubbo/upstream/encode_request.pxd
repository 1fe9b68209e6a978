from libc.stdint cimport uint32_t, uint64_t

from dragoman.dubbo.upstream.target cimport Target
from dragoman.dubbo.upstream.usual_requests cimport UsualRequests
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.fastjson_request cimport Invocation
from dragoman.wire.json.string cimport Slice

cdef enum:
    # what the caller is given of a reply
    AS_TEXT = 0   # a string's text, all else as JSON
    AS_JSON = 1
    AS_BODY = 2   # the whole body of the reply, in hessian2

    # the mesh methods
    METHOD_FORM = 0
    METHOD_JSON = 1
    METHOD_HESSIAN2 = 2
    METHOD_HESSIAN2_ONE_WAY = 3

# What a caller asked for beside the call.
cdef struct Asked:
    int answer         # AS_*
    bint one_way       # no reply
    bint envelope      # with AS_JSON: an object of the result and its attachments
    bint class_names   # with AS_JSON: beans have the member `class`
    bint generic       # beans come back as maps that name their classes
    bint gson          # the result comes back as JSON in a string


cdef class Requests(Target):
    cdef readonly int serialization
    cdef Buffer _scratch
    cdef Requests _inner
    cdef UsualRequests _usual
    cdef bint _marks        # it is another's _inner: enums are to be told from beans
    cdef object _constants  # the classes that are enums in the latest request, if it says so

    cdef int write(
        self, int method, Buffer out, uint64_t id, const char* body, Py_ssize_t n,
        uint32_t timeout_ms, Asked* asked
    ) except -1
    cdef int write_echo(self, Buffer out, uint64_t id, bytes interface) except -1
    cdef int _fastjson2(self, Buffer out, uint64_t id, object constants) except -1
    cdef int _form(
        self, Buffer out, uint64_t id, const char* body, Py_ssize_t n, uint32_t timeout_ms
    ) except -1
    cdef int _form_json(
        self, Buffer out, uint64_t id, Invocation* invocation, const Slice* parameter
    ) except -1
    cdef int _json(
        self, Buffer out, uint64_t id, const char* body, Py_ssize_t n, uint32_t timeout_ms,
        Asked* asked
    ) except -1
    cdef int _form_hessian2(
        self, Buffer out, uint64_t id, Invocation* invocation, const Slice* parameter, int count
    ) except -1
    cdef int _json_hessian2(
        self, Buffer out, uint64_t id, Invocation* invocation, object call, Asked* asked
    ) except -1
    cdef int _json_fastjson(
        self, Buffer out, uint64_t id, Invocation* invocation, object asked_for, Asked* asked
    ) except -1
    cdef int _check(self, str what, const char* json, Py_ssize_t n) except -1
    cdef int _hessian2(
        self, Buffer out, uint64_t id, const char* body, Py_ssize_t n, uint32_t timeout_ms
    ) except -1
    cdef int _hessian2_as_fastjson(
        self, Buffer out, uint64_t id, Invocation* invocation, bytes arguments, bytes attachments
    ) except -1
