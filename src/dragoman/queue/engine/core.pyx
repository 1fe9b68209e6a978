"""The core of an open store: its memory and files, the lock around them, the calls under way.

``engine.Engine`` holds one; ``put``, ``get``, ``queues``, ``durability`` and ``maintenance`` are
functions on it, ``opening`` fills it and ``closing`` empties it.

Invariants: nobody sleeps for the store's lock while holding the GIL; nothing that may run Python
code is called while the store's lock is held. Every public call is a *use*: it begins with
``enter`` (``with store._using()`` in Python), which refuses when the store is not open, and ends
with ``leave``; memory and descriptors are let go of only when no use is left. The store's own
threads are none: they are waited for instead.
"""

cimport cython
import os
import threading

from dragoman.errors import StorageError, UsageError

from libc.stdint cimport uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

from dragoman.queue.disk.readahead cimport touching_end
from dragoman.queue.engine.arguments cimport name_of
from dragoman.queue.memory.layout cimport REMOVED, hash_name
from dragoman.queue.memory.state cimport Store
from dragoman.queue.memory.threads cimport (
    SPIN, cond_init, flag_set, pthread_cond_broadcast, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_unlock, spin_lock,
)
from dragoman.queue.memory.table cimport table_close, table_find


cdef object storage_error(int error, str where):
    """A failed call on a file."""
    return StorageError(f"{where}: {os.strerror(-error)}", errno=-error)


@cython.no_gc_clear
cdef class Core:
    """A store's memory, files and lock, from opening to closing."""

    def __cinit__(self):
        memset(&self.s, 0, sizeof(Store))
        pthread_mutex_init(&self.s.lock, NULL)
        pthread_mutex_init(&self.s.meta_lock, NULL)
        cond_init(&self.s.work)
        cond_init(&self.s.space)
        cond_init(&self.s.journal_work)
        cond_init(&self.s.durable)
        cond_init(&self.s.upkeep)
        self.s.meta_fd = -1
        self.s.journal_fd = -1
        self.s.slot = -1
        self.contexts = []
        self.idle = threading.Event()

    def __dealloc__(self):
        if self.state != FOREIGN:
            self.release()

    cdef void release(self) noexcept:
        cdef Store* s = &self.s
        cdef uint32_t i
        with nogil:
            touching_end(&s.touching)
        if s.segments != NULL:
            for i in range(s.slots_top):
                if s.segments[i].fd >= 0 and s.segments[i].state:
                    s.disk.close(s.disk, s.segments[i].fd)
        free(s.segments)
        s.segments = NULL
        s.slots_top = 0
        table_close(&s.table)
        free(s.gather)
        free(s.directory.data)
        free(s.meta.data)
        free(s.frame.data)
        free(s.frame_out.data)
        free(s.freed)
        s.freed = NULL
        free(s.cache)
        free(s.cache_slots)
        s.gather = s.cache = NULL
        s.cache_slots = NULL
        free(s.cursors)
        s.cursors = NULL
        s.directory.data = s.meta.data = s.frame.data = s.frame_out.data = NULL
        if s.meta_fd >= 0:
            s.disk.close(s.disk, s.meta_fd)
            s.meta_fd = -1
        if s.journal_fd >= 0:
            s.disk.close(s.disk, s.journal_fd)
            s.journal_fd = -1

    cdef int refuse(self) except -1:
        if self.state == FOREIGN:
            raise UsageError(
                "the store was opened by the process that this one was forked from: open it anew"
            )
        if self.state != OPEN:
            raise UsageError("the store is closed")
        raise UsageError("the store was opened read-only")

    cdef void tell_idle(self) noexcept:
        self.idle.set()

    cdef int close_uses(self) except -1:
        """Refuse calls from now on, and wait for those that are under way.

        Raises UsageError when one of them is this thread's own, which would wait for itself.
        """
        cdef Use* use = self.uses
        cdef unsigned long thread = PyThread_get_thread_ident()
        while use != NULL:
            if use.thread == thread:
                raise UsageError("a store cannot be closed from within a call of it")
            use = use.after
        self.state = CLOSING
        flag_set(&self.s.leaving, 1)
        while self.uses != NULL:
            self.idle.wait()
            self.idle.clear()
        return 0

    cdef void disown(self) noexcept:
        """After a fork, in the child: nothing here is this process's."""
        cdef Store* s = &self.s
        cdef uint32_t i
        if self.state == FOREIGN or (self.state == CLOSED and s.segments == NULL):
            return  # the numbers of descriptors may be those of others by now
        self.state = FOREIGN
        if s.disk == NULL or s.disk.context != NULL:
            return  # what the descriptors of a double are is for it to say
        if s.meta_fd >= 0:
            s.disk.close(s.disk, s.meta_fd)
        if s.journal_fd >= 0:
            s.disk.close(s.disk, s.journal_fd)
        for i in range(s.slots_top):
            if s.segments[i].fd >= 0 and s.segments[i].state:
                s.disk.close(s.disk, s.segments[i].fd)

    cdef void lock(self) noexcept:
        # With the GIL held; after a microsecond or two it is given up rather than waited with.
        if not spin_lock(&self.s.lock, SPIN):
            with nogil:
                pthread_mutex_lock(&self.s.lock)

    cdef void unlock(self) noexcept nogil:
        pthread_mutex_unlock(&self.s.lock)

    cdef object failure(self):
        # Why a put or sync could not be done.
        cdef Store* s = &self.s
        if s.poison == REMOVED:
            return StorageError(
                f"{self.path}: the store's files were removed or replaced under it, nothing is"
                " acknowledged any more",
                errno=REMOVED,
            )
        if s.poison:
            return storage_error(
                -s.poison, f"{self.path}: a sync has failed, nothing is acknowledged any more"
            )
        if s.journal_error:
            return storage_error(-s.journal_error, f"{self.path}: the journal cannot be written")
        if s.log_error:
            return storage_error(-s.log_error, f"{self.path}: the log cannot be written")
        if s.closing or self.state != OPEN:
            return UsageError("the store is closed")
        return StorageError(f"{self.path}: the store has stopped writing")

    cdef void poison_removed(self) noexcept:
        """The files have no names any more: nothing is acknowledged from now on."""
        cdef Store* s = &self.s
        self.lock()
        if not s.poison:
            s.poison = REMOVED
            pthread_cond_broadcast(&s.durable)
            pthread_cond_broadcast(&s.space)
        self.unlock()

    cdef uint32_t find(self, object queue) except? 0:
        # Takes and leaves the lock; 0 for none.
        cdef const char* name
        cdef Py_ssize_t n
        cdef uint32_t id
        name_of(queue, &name, &n)
        self.lock()
        id = table_find(
            &self.s.table, name, n, <uint32_t>hash_name(name, n, self.s.table.seed)
        )
        self.unlock()
        return id


cdef class Using:
    """A use of the store by a method that is written in Python."""

    def __enter__(self):
        enter(self.core, &self.use, self.writing)

    def __exit__(self, *_):
        leave(self.core, &self.use)
