"""The queue store's engine: the methods that Python calls, on a ``Core``.

``dragoman.queue.api.store.QueueStore`` builds on ``Engine``, which knows neither options nor names
of files beyond its numbered ones. What each method does stands in the module that it calls:
``opening``, ``put``, ``get``, ``queues``, ``durability``, ``maintenance``, ``closing``. Work that
is longer than some hundred nanoseconds runs without the GIL.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t

from dragoman.errors import UsageError

from dragoman.queue.disk.files cimport Files
from dragoman.queue.engine.closing cimport let_go, note_closed, stop_threads
from dragoman.queue.engine.core cimport OPEN, Core, Use, Using, enter, leave
from dragoman.queue.engine.durability cimport flush_log, note_position, sync_all, sync_meta
from dragoman.queue.engine.get cimport get_messages
from dragoman.queue.engine.maintenance cimport (
    collect_journal, compact_segments, detach_tails, drop_segment, keep_newest, leave_journal,
    note_dropped, note_lost, oldest_segment, remove_dead, reserve_meta, rewrite_meta, segments_of,
    verify_segment,
)
from dragoman.queue.engine.opening cimport open_store, replay_journal, touch_memory
from dragoman.queue.engine.put cimport put_message, put_messages
from dragoman.queue.engine.queues cimport (
    EVERYTHING, counters, first_of, length_of, lengths_by_id, name_by_id, names_from, trim_queue,
)
from dragoman.queue.engine.threads cimport StoreThreads
from dragoman.queue.memory.layout cimport CHUNK
from dragoman.queue.memory.state cimport DURABILITY_ALWAYS


# Its core is there as long as it is, also for a finalizer.
@cython.no_gc_clear
cdef class Engine:
    """A store that is open. Every method may be called from any thread."""

    def __cinit__(self):
        self.core = Core.__new__(Core)

    def __reduce__(self):
        raise TypeError(f"{type(self).__name__} cannot be pickled: pass its path instead")

    @property
    def open(self):
        """Whether it can be called."""
        return self.core.state == OPEN

    @property
    def recovery(self):
        """What opening found, a ``Recovery``."""
        return self.core.recovery

    # Messages.

    def put(self, queue, message):
        """Append one message; returns its offset in the queue."""
        return put_message(self.core, queue, message)

    def put_many(self, queues, messages=None):
        """Append many: ``pairs``, one queue with its messages, or queues beside messages."""
        return put_messages(self.core, queues, messages)

    def get(self, queue, offset, count=1):
        """Up to ``count`` messages from ``offset`` on, fewer only at the queue's end."""
        return get_messages(self.core, [(queue, offset, count)], 0)[0]

    def get_many(self, requests, int64_t bytes_max=0):
        """For each (queue, offset, count) what ``get`` returns; the disk is asked for all at once.

        With ``bytes_max``, what comes after about so many bytes of messages is left out: a request
        in the middle gets fewer, those behind it get none.
        """
        return get_messages(self.core, requests, bytes_max)

    # Queues.

    def length(self, queue):
        """The offset that the next message will get: how many were ever put."""
        cdef Use use
        enter(self.core, &use, False)
        try:
            return length_of(self.core, queue)
        finally:
            leave(self.core, &use)

    def first_offset(self, queue):
        """The offset of the oldest message that is still there (``length`` when there is none)."""
        cdef Use use
        enter(self.core, &use, False)
        try:
            return first_of(self.core, queue)
        finally:
            leave(self.core, &use)

    def __contains__(self, queue):
        return self._id(queue) != 0

    def _names(self, uint32_t start, uint32_t count):
        # (next start, names) of up to ``count`` ids; start 0 of the answer: no more.
        cdef Use use
        enter(self.core, &use, False)
        try:
            return names_from(self.core, start, count)
        finally:
            leave(self.core, &use)

    def _id(self, queue):
        # The queue's number in the files, 0 for none.
        cdef Use use
        enter(self.core, &use, False)
        try:
            return self.core.find(queue)
        finally:
            leave(self.core, &use)

    def _name(self, uint32_t id):
        return name_by_id(self.core, id)

    def _lengths(self):
        return lengths_by_id(self.core)

    def trim(self, queue, before):
        """The queue's messages before offset ``before`` are gone; beyond its end: all are.

        Durable when it returns under ``always``, within a second under ``interval``, with the next
        sync or close under ``none``.
        """
        if not isinstance(before, int) or before < 0:
            raise UsageError(f"messages are trimmed before an offset, not {before!r:.100}")
        self.remove(queue, min(before, (1 << 48) - 1))

    def delete(self, queue):
        """The queue and all its messages are gone; False when there was none. As durable as
        ``trim``."""
        return self.remove(queue, EVERYTHING)

    cdef bint remove(self, queue, uint64_t before) except -1:
        cdef uint32_t id
        cdef Use use
        enter(self.core, &use, True)
        try:
            id = trim_queue(self.core, queue, before)
            if before == EVERYTHING:
                self._forget(id)
            if id and self.core.s.durability == DURABILITY_ALWAYS:
                sync_meta(self.core, True)
        finally:
            leave(self.core, &use)
        return id != 0

    def _forget(self, uint32_t id):
        # A queue with this number is no more; for subclasses, which know more about it.
        pass

    # Durability.

    def sync(self):
        """Everything put before the call is durable when it returns."""
        cdef Use use
        enter(self.core, &use, True)
        try:
            sync_all(self.core)
        finally:
            leave(self.core, &use)

    def _sync_all(self):
        sync_all(self.core)

    def _flush_log(self):
        flush_log(self.core)

    def _commit(self, uint32_t id, bytes group, uint64_t position):
        note_position(self.core, id, group, position)

    def _sync_meta(self, bint sync):
        sync_meta(self.core, sync)

    # Opening and closing.

    def _open(self, str path, Files files not None, **settings):
        open_store(self.core, path, files, settings)

    def _touch(self, uint64_t queues, uint64_t chunk_bytes):
        touch_memory(self.core, queues, chunk_bytes)

    def _replay(self):
        replay_journal(self.core)

    def _threads_part(self):
        cdef StoreThreads part = StoreThreads.__new__(StoreThreads)
        part.core = self.core
        return part

    def _check(self):
        # Raises UsageError when it cannot be called.
        if self.core.state != OPEN:
            self.core.refuse()

    def _using(self, bint writing=False):
        # A context in which the store stays open. Raises UsageError when it cannot be called.
        cdef Using using = Using.__new__(Using)
        using.core = self.core
        using.writing = writing
        return using

    def _close_uses(self):
        self.core.close_uses()

    def _disown(self):
        self.core.disown()

    def _poison_removed(self):
        self.core.poison_removed()

    def _stop(self):
        stop_threads(self.core)

    def _end(self):
        note_closed(self.core)

    def _close(self):
        let_go(self.core)

    # Maintenance.

    def _trim_lengths(self, uint64_t most):
        keep_newest(self.core, most)

    def _oldest(self):
        return oldest_segment(self.core)

    def _drop(self, int slot):
        drop_segment(self.core, slot)

    def _remove_dead(self):
        return remove_dead(self.core)

    def _compact(
        self, object maintaining, double below, uint64_t before, uint64_t bytes_s,
        uint64_t memory_bytes,
    ):
        return compact_segments(self.core, maintaining, below, before, bytes_s, memory_bytes)

    def _meta_dead(self):
        # (bytes of META, of which so many are dead).
        return self.core.s.meta_start + self.core.s.meta.length, self.core.s.meta_dead

    def _reserve_meta(self):
        reserve_meta(self.core)

    def _rewrite_meta(self, object committing, dict groups):
        return rewrite_meta(self.core, committing, groups)

    def _segments(self):
        return segments_of(self.core)

    def _verify_segment(self, int slot, object progress):
        return verify_segment(self.core, slot, progress)

    def _note_lost(self, uint32_t id, uint64_t first, uint64_t messages):
        note_lost(self.core, id, first, messages)

    def _note_dropped(self, uint64_t number):
        note_dropped(self.core, number)

    def _detach_tails(self):
        detach_tails(self.core)

    def _leave_journal(self):
        leave_journal(self.core)

    def _collect_journal(self):
        collect_journal(self.core)

    def _tail_memory(self):
        # Bytes that tails have of the system, in use or not.
        return <uint64_t>self.core.s.table.chunks_top * CHUNK

    def _statistics(self):
        return counters(self.core)
