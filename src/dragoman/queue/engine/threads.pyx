"""The work of a store's own threads.

``QueueStore`` starts them with a ``StoreThreads`` rather than with itself, so that it can be
dropped while they run; closing waits for them.
"""

from libc.stdint cimport uint64_t

from dragoman.queue.memory.state cimport Store
from dragoman.queue.memory.threads cimport cond_wait_ms, pthread_mutex_lock, pthread_mutex_unlock
from dragoman.queue.write.journal cimport journal_run
from dragoman.queue.write.log cimport log_run


cdef class StoreThreads:
    """The part of a store that its threads keep."""

    def write_log(self):
        """Write blocks to the log until the store closes."""
        with nogil:
            log_run(&self.core.s)

    def write_journal(self):
        """Write frames to the journal until the store closes."""
        with nogil:
            journal_run(&self.core.s)

    def await_upkeep(self, uint64_t ms):
        """Wait that long, or until the journal needs work (True) or the store closes."""
        cdef Store* s = &self.core.s
        cdef bint due
        with nogil:
            pthread_mutex_lock(&s.lock)
            if not s.closing and not s.journal_due:
                cond_wait_ms(&s.upkeep, &s.lock, ms)
            due = s.journal_due
            s.journal_due = False
            pthread_mutex_unlock(&s.lock)
        return due
