from libc.stdint cimport uint32_t, uint64_t

from dragoman.dubbo.upstream.signatures cimport Signature
from dragoman.dubbo.upstream.target cimport Target
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.fastjson_request cimport Invocation
from dragoman.wire.hessian2 cimport Hessian2Writer
from dragoman.wire.json.string cimport Slice
from dragoman.wire.json.usual_call cimport UsualCall


cdef class UsualRequests:
    cdef bint _fastjson
    cdef Hessian2Writer _writer
    cdef Buffer _text       # of a string with escapes

    cdef Signature write(
        self, Target target, Buffer out, uint64_t id, const Slice* names, const UsualCall* call,
        uint32_t timeout_ms
    )
    cdef bint _request(
        self, Buffer out, uint64_t id, Invocation* invocation, const UsualCall* call,
        Signature signature
    ) except -1
    cdef bint _arguments(
        self, Buffer out, const UsualCall* call, Signature signature, const Slice* method
    ) except -1
    cdef bint _argument(self, const Slice* json, Signature signature, int i) except -1
    cdef bint _plain(self, const Slice* json, int form) except -1
    cdef bint _string(self, const Slice* json) except -1
