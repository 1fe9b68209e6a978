from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t

from dragoman.queue.files cimport Files
from dragoman.queue.state cimport NAME_MAX, Store

cdef int name_slowly(object queue, const char** name, Py_ssize_t* n) except -1
cdef object storage_error(int error, str where)


cdef inline int name_of(object queue, const char** name, Py_ssize_t* n) except -1:
    # The bytes of a queue's name, which ``queue`` keeps.
    if PyBytes_CheckExact(queue):
        name[0] = PyBytes_AS_STRING(queue)
        n[0] = PyBytes_GET_SIZE(queue)
        if 0 < n[0] <= NAME_MAX:
            return 0
    return name_slowly(queue, name, n)


cdef class Held:
    cdef Store s
    cdef Files files
    cdef list contexts  # windows that nobody uses now
    cdef readonly object recovery
    cdef str path
    cdef readonly bint open

    cdef void _release(self) noexcept
    cdef int _sync_file(self, str path, int64_t length=*) except -1
    cdef int _check(self, bint writing) except -1
    cdef void _lock(self) noexcept
    cdef void _unlock(self) noexcept nogil
    cdef object _failure(self)
    cdef uint32_t _find(self, object queue) except? 0
