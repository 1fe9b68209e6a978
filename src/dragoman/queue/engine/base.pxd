from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t

from dragoman.queue.disk.files cimport Files
from dragoman.queue.memory.state cimport NAME_MAX, Store

cdef int name_slowly(object queue, const char** name, Py_ssize_t* n) except -1
cdef object storage_error(int error, str where)
cdef list listed(object values, str what)


cdef inline int name_of(object queue, const char** name, Py_ssize_t* n) except -1:
    # The bytes of a queue's name, which ``queue`` keeps.
    if PyBytes_CheckExact(queue):
        name[0] = PyBytes_AS_STRING(queue)
        n[0] = PyBytes_GET_SIZE(queue)
        if 0 < n[0] <= NAME_MAX:
            return 0
    return name_slowly(queue, name, n)


cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident()

cdef enum State:
    CLOSED  # not opened yet, or closed
    OPEN
    CLOSING  # calls are refused; those under way end
    FOREIGN  # opened by the process that this one was forked from


cdef struct Use:
    # A call that is under way, on its thread's stack. Linked and unlinked with the GIL held.
    unsigned long thread
    Use* before
    Use* after


cdef class Held:
    cdef Store s
    cdef State state
    cdef Use* uses
    cdef object idle  # told when the last call that closing waits for has ended
    cdef Files files
    cdef list contexts  # windows that nobody uses now
    cdef readonly object recovery
    cdef str path

    cdef void _release(self) noexcept
    cdef int _sync_file(self, str path, int64_t length=*) except -1
    cdef int _refuse(self) except -1
    cdef void _leave(self, Use* use) noexcept
    cdef void _lock(self) noexcept
    cdef void _unlock(self) noexcept nogil
    cdef object _failure(self)
    cdef uint32_t _find(self, object queue) except? 0


cdef inline int enter(Held store, Use* use, bint writing) except -1:
    # A call begins: until ``_leave`` what the store holds stays. With the GIL held.
    if store.state != OPEN or (writing and store.s.read_only):
        store._refuse()
    use.thread = PyThread_get_thread_ident()
    use.before = NULL
    use.after = store.uses
    if use.after != NULL:
        use.after.before = use
    store.uses = use
    return 0


cdef class Using:
    cdef Held store
    cdef Use use
    cdef bint writing


cdef class Part:
    cdef Store* s
