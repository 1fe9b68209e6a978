from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.disk.files cimport Files
from dragoman.queue.memory.state cimport Store

cdef object storage_error(int error, str where)


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


cdef class Core:
    cdef Store s
    cdef State state
    cdef Use* uses
    cdef object idle  # told when the last call that closing waits for has ended
    cdef Files files
    cdef list contexts  # read windows that nobody uses now
    cdef object recovery
    cdef str path
    cdef uint64_t reserved  # META has room up to here
    cdef uint64_t reserved_generation  # if it is this one

    cdef void release(self) noexcept
    cdef int refuse(self) except -1
    cdef void tell_idle(self) noexcept
    cdef int close_uses(self) except -1
    cdef void lock(self) noexcept
    cdef void unlock(self) noexcept nogil
    cdef object failure(self)
    cdef uint32_t find(self, object queue) except? 0
    cdef void poison_removed(self) noexcept
    cdef void disown(self) noexcept


cdef inline int enter(Core core, Use* use, bint writing) except -1:
    # A call begins: until ``leave`` what the store holds stays. With the GIL held.
    if core.state != OPEN or (writing and core.s.read_only):
        core.refuse()
    use.thread = PyThread_get_thread_ident()
    use.before = NULL
    use.after = core.uses
    if use.after != NULL:
        use.after.before = use
    core.uses = use
    return 0


cdef inline void leave(Core core, Use* use) noexcept:
    # It ends. With the GIL held.
    if use.before != NULL:
        use.before.after = use.after
    else:
        core.uses = use.after
    if use.after != NULL:
        use.after.before = use.before
    if core.uses == NULL and core.state == CLOSING:
        core.tell_idle()


cdef class Using:
    cdef Core core
    cdef Use use
    cdef bint writing
