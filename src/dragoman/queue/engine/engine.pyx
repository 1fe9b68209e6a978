"""The queue store's engine: what Python calls, and the lock around it.

``dragoman.queue.api.store.QueueStore`` builds on ``Engine``, which knows neither options nor names
of files beyond its numbered ones. It is built in layers, each a class on the one before: ``held``
(the memory, the files, the lock), ``puts``, ``gets``, ``kept`` (upkeep), and here the rest. Work
that is longer than some hundred nanoseconds runs without the GIL.

Invariants: nobody sleeps for the store's lock while holding the GIL; nothing that may run Python
code is called while the store's lock is held.
"""

from array import array

from dragoman.errors import UsageError

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from dragoman.queue.engine.base cimport Use, enter, name_of, storage_error
from dragoman.queue.write.journal cimport journal_tails, journal_wait, log_flushed
from dragoman.queue.engine.maintenance cimport Kept
from dragoman.queue.format.meta cimport meta_commit, meta_flush
from dragoman.queue.memory.state cimport (
    DONE, NAME_MAX, QUEUE_ALIVE, Queue, Store, Table, hash_name, pthread_mutex_lock,
    pthread_mutex_unlock, queue_first, queue_name, queue_name_length,
)
from dragoman.queue.memory.table cimport table_find
from dragoman.queue.reclaim.trim cimport queue_delete, queue_trim


cdef uint64_t EVERYTHING = 0xFFFFFFFFFFFFFFFF


cdef class Engine(Kept):
    """A store that is open. Every method may be called from any thread."""

    # Looking.

    def length(self, queue):
        """The offset that the next message will get: how many were ever put."""
        cdef Use use
        cdef uint32_t id
        enter(self, &use, False)
        try:
            id = self._find(queue)
            return self.s.table.queues[id].next if id else 0
        finally:
            self._leave(&use)

    def first_offset(self, queue):
        """The offset of the oldest message that is still there (``length`` when there is none)."""
        cdef uint64_t result = 0
        cdef Use use
        cdef uint32_t id
        enter(self, &use, False)
        try:
            id = self._find(queue)
            if id:
                self._lock()
                result = queue_first(&self.s.table.queues[id])
                self._unlock()
        finally:
            self._leave(&use)
        return result

    def __contains__(self, queue):
        return self._id(queue) != 0

    def _names(self, uint32_t start, uint32_t count):
        # (next start, names) of up to ``count`` ids; start 0 of the answer: no more.
        cdef Use use
        enter(self, &use, False)
        try:
            return self._names_from(start, count)
        finally:
            self._leave(&use)

    cdef tuple _names_from(self, uint32_t start, uint32_t count):
        cdef Table* t = &self.s.table
        cdef Queue* q
        cdef uint32_t id = start
        cdef list pieces = []
        cdef char* copy
        cdef uint64_t n = 0
        cdef uint64_t room = <uint64_t>count * 64 + NAME_MAX + 8
        cdef uint32_t length
        copy = <char*>malloc(room)
        if copy == NULL:
            raise MemoryError
        self._lock()
        while id < t.ids and n + NAME_MAX + 4 < room:
            q = &t.queues[id]
            if q.flags & QUEUE_ALIVE:
                length = queue_name_length(q)
                memcpy(copy + n, &length, 4)
                memcpy(copy + n + 4, queue_name(q), length)
                n += 4 + length
            id += 1
        if id >= t.ids:
            id = 0
        self._unlock()
        cdef uint64_t at = 0
        while at < n:
            memcpy(&length, copy + at, 4)
            pieces.append(PyBytes_FromStringAndSize(copy + at + 4, length))
            at += 4 + length
        free(copy)
        return id, pieces

    def _id(self, queue):
        # The queue's number in the files, 0 for none.
        cdef Use use
        enter(self, &use, False)
        try:
            return self._find(queue)
        finally:
            self._leave(&use)

    def _name(self, uint32_t id):
        # Its name, or None.
        cdef Queue* q
        cdef bytes result = None
        if 0 < id < self.s.table.ids and self.s.table.queues[id].flags & QUEUE_ALIVE:
            q = &self.s.table.queues[id]
            result = PyBytes_FromStringAndSize(queue_name(q), queue_name_length(q))
        return result

    def _lengths(self):
        # How long queues are, by their numbers; for whoever opens the store.
        cdef uint32_t id
        cdef uint64_t[::1] lengths
        result = array("Q", bytes(8 * self.s.table.ids))
        lengths = result
        for id in range(1, self.s.table.ids):
            lengths[id] = self.s.table.queues[id].next
        return result

    # Keeping.

    def sync(self):
        """Everything put before the call is durable when it returns."""
        cdef Use use
        enter(self, &use, True)
        try:
            self._sync_all()
        finally:
            self._leave(&use)

    def _sync_all(self):
        # ``sync``, for whoever closes the store too.
        cdef Store* s = &self.s
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
                raise self._failure()
            raise storage_error(error, self.path)

    def _flush_log(self):
        # The blocks on their way are durable.
        cdef int error
        with nogil:
            error = log_flushed(&self.s)
        if error < 0:
            raise self._failure()

    def _commit(self, uint32_t id, bytes group, uint64_t position):
        # Note a group's position in the queue with this number.
        cdef int result
        self._lock()
        result = meta_commit(&self.s, id, position, <char*>group, len(group))
        self._unlock()
        if result != DONE:
            raise MemoryError

    def _sync_meta(self, bint sync):
        # META's records are written, and durable if asked for.
        cdef int error
        with nogil:
            error = meta_flush(&self.s, sync)
        if error < 0:
            raise self._failure() if self.s.poison else storage_error(error, f"{self.path}/META")

    # What goes.

    def trim(self, queue, before):
        """The queue's messages before offset ``before`` are gone; beyond its end: all are.

        Durable when it returns under ``always``, within a second under ``interval``, with the next
        sync or close under ``none``.
        """
        if not isinstance(before, int) or before < 0:
            raise UsageError(f"messages are trimmed before an offset, not {before!r:.100}")
        self._gone(queue, min(before, (1 << 48) - 1))

    def delete(self, queue):
        """The queue and all its messages are gone; False when there was none. As durable as
        ``trim``."""
        return self._gone(queue, EVERYTHING)

    cdef bint _gone(self, queue, uint64_t before) except -1:
        cdef int result = DONE
        cdef uint32_t id
        cdef const char* name
        cdef Py_ssize_t n
        cdef Use use
        name_of(queue, &name, &n)
        enter(self, &use, True)
        try:
            self._lock()
            id = table_find(&self.s.table, name, n, <uint32_t>hash_name(name, n, self.s.table.seed))
            if id:
                if before == EVERYTHING:
                    result = queue_delete(&self.s, id)
                else:
                    result = queue_trim(&self.s, id, before)
            self._unlock()
            if result != DONE:
                raise MemoryError
            if before == EVERYTHING:
                self._forget(id)
            if id and self.s.durability == 2:
                self._sync_meta(True)
        finally:
            self._leave(&use)
        return id != 0

    def _forget(self, uint32_t id):
        # A queue with this number is no more; for those who keep more about it.
        pass

    def _tail_memory(self):
        # Bytes that tails have of the system, in use or not.
        return <uint64_t>self.s.table.chunks_top * 256

    def _statistics(self):
        cdef Store* s = &self.s
        cdef Table* t = &s.table
        cdef uint32_t i
        cdef uint64_t live = 0, whole = 0, segments = 0
        self._lock()
        for i in range(s.slots_top):
            if s.segments[i].state:
                segments += 1
                live += s.segments[i].live
                whole += s.segments[i].length
        result = dict(
            queues=t.alive,
            messages_put=t.messages,
            bytes_put=t.message_bytes,
            block_bytes=t.limit,
            blocks_written=s.blocks_written,
            messages_in_blocks=s.block_messages,
            blocks_waiting=t.ring_tail - t.ring_head,
            blocks_read=s.blocks_read,
            bytes_read=s.bytes_read,
            cache_hits=s.cache_hits,
            evicted=s.swept_blocks,
            meta_rewrites=s.meta_rewrites,
            compactions=s.compactions,
            compacted_bytes=s.compacted_written,
            segments=segments,
            log_bytes=whole,
            live_bytes=live,
            log_written=s.log_written,
            journal_written=s.journal_written,
            meta_bytes=s.meta_start + s.meta.length,
            syncs=s.syncs,
            tail_bytes=t.chunks_used * 256,
            index_bytes=t.index_bytes,
            open_files=s.open_files,
            direct=bool(s.direct),
            poisoned=bool(s.poison),
        )
        self._unlock()
        return result
