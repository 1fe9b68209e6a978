from dragoman.dubbo.requests cimport Asked
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.jsonstring cimport Slice


cdef class Replies:
    cdef Buffer _scratch
    cdef Slice answer      # what goes back to the caller; valid until the next call
    cdef str problem       # or why nothing does

    cdef int read(
        self, const Asked* asked, int serialization, const char* body, Py_ssize_t n
    ) except -1
    cdef int _malformed(self, const char* why) except -1
    cdef int _fastjson(self, const Asked* asked, const char* body, Py_ssize_t n) except -1
    cdef int _hessian2(self, const Asked* asked, const char* body, Py_ssize_t n) except -1
