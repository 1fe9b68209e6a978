from dragoman.dubbo.upstream.encode_request cimport Asked
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.dubbo.fastjson cimport FastjsonReply
from dragoman.wire.hessian2 cimport Hessian2Scanner
from dragoman.wire.json.string cimport Slice


cdef class Replies:
    cdef Buffer _first
    cdef Buffer _second
    cdef Hessian2Scanner _scanner
    cdef bytes _kept         # a reply made hessian2, while it is read
    cdef Slice answer        # what goes back to the caller; valid until the next call
    cdef Slice attachments   # as JSON; absent if there are none
    cdef str problem         # or why nothing goes back

    cdef int read(
        self, const Asked* asked, int serialization, const char* body, Py_ssize_t n
    ) except -1
    cdef int _bad(self, str why) except -1
    cdef int _unsayable(self, str why) except -1
    cdef int _bad_json(self, int code) except -1
    cdef int _fastjson(self, const Asked* asked, const char* body, Py_ssize_t n) except -1
    cdef int _fastjson_body(self, const FastjsonReply* reply) except -1
    cdef int _fastjson2(self, const Asked* asked, const char* body, Py_ssize_t n) except -1
    cdef int _hessian2_exception(self, bytes rest) except -1
    cdef int _hessian2(self, const Asked* asked, const char* body, Py_ssize_t n) except -1
    cdef Buffer _other(self)
    cdef void _take(self, Buffer made) noexcept
    cdef int _as_text(self) except -1
    cdef int _as_json(self, const Asked* asked) except -1
