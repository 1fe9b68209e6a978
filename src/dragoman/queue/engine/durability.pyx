"""Waiting until what was put, committed or trimmed is on the disk."""

from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.engine.core cimport Core, storage_error
from dragoman.queue.format.meta cimport meta_commit, meta_flush
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.state cimport Store
from dragoman.queue.memory.threads cimport pthread_mutex_lock, pthread_mutex_unlock
from dragoman.queue.write.journal cimport journal_tails, journal_wait, log_flushed


cdef int sync_all(Core core) except -1:
    """Everything put before the call is durable, and META too."""
    cdef Store* s = &core.s
    cdef int error
    with nogil:
        if s.durability:
            pthread_mutex_lock(&s.lock)
            error = -s.poison
            if error == 0:
                error = journal_wait(
                    s, s.frame_number if s.frame_entries else s.frame_number - 1
                )
            pthread_mutex_unlock(&s.lock)
        else:
            error = journal_tails(s, 0)
            if error == 0:
                error = log_flushed(s)
        if error == 0:
            error = meta_flush(s, True)
    if error < 0:
        if s.poison or s.journal_error or s.log_error:
            raise core.failure()
        raise storage_error(error, core.path)
    return 0


cdef int flush_log(Core core) except -1:
    """The blocks on their way to the log are durable."""
    cdef int error
    with nogil:
        error = log_flushed(&core.s)
    if error < 0:
        raise core.failure()
    return 0


cdef int note_position(Core core, uint32_t id, bytes group, uint64_t position) except -1:
    """META's next records say where a group stands in the queue with this number."""
    cdef int result
    core.lock()
    result = meta_commit(&core.s, id, position, <char*>group, len(group))
    core.unlock()
    if result != DONE:
        raise MemoryError
    return 0


cdef int sync_meta(Core core, bint sync) except -1:
    """META's records are written, and durable if asked for."""
    cdef int error
    with nogil:
        error = meta_flush(&core.s, sync)
    if error < 0:
        if core.s.poison:
            raise core.failure()
        raise storage_error(error, f"{core.path}/META")
    return 0
