"""The last steps of closing a store, around the end of its threads.

The invariant: META says that the store was closed in order only when all else is on the disk.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint64_t

from dragoman.queue.engine.core cimport CLOSED, Core, storage_error
from dragoman.queue.format.meta cimport meta_closed, meta_flush
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.state cimport Store
from dragoman.queue.memory.threads cimport pthread_cond_broadcast
from dragoman.queue.write.journal cimport journal_end


cdef int stop_threads(Core core) except -1:
    """No put is taken from now on; the threads finish what there is and end."""
    cdef Store* s = &core.s
    core.lock()
    s.closing = True
    pthread_cond_broadcast(&s.work)
    pthread_cond_broadcast(&s.space)
    pthread_cond_broadcast(&s.journal_work)
    pthread_cond_broadcast(&s.durable)
    pthread_cond_broadcast(&s.upkeep)
    core.unlock()
    return 0


cdef int note_closed(Core core) except -1:
    """After the threads have ended in order: say that all is on the disk."""
    cdef Store* s = &core.s
    cdef int error = 0
    cdef uint64_t frame
    if s.poison or s.log_error or s.journal_error or s.slot >= 0 or s.frame_entries:
        return 0
    with nogil:
        error = journal_end(s)
        # None that proves anything if no file is left.
        frame = s.frame_number - 1
        if s.journal_fd < 0 and s.journal_oldest == s.journal_file:
            frame = 0
        if error == 0 and meta_closed(s, s.synced, frame) != DONE:
            error = -ENOMEM
        if error == 0:
            error = meta_flush(s, True)
    if error < 0:
        raise storage_error(error, core.path)
    return 0


cdef int let_go(Core core) except -1:
    """After the threads have ended, and all uses: memory and descriptors."""
    core.state = CLOSED
    core.contexts.clear()
    core.release()
    return 0
