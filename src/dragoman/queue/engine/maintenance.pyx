"""What keeps a store in shape: retention, space given back, compaction, META, old journal files.

Of ``engine.Engine``, for the threads and methods of ``store.QueueStore`` that decide when. Each
works in pieces, between which others have the lock. What a segment's removal, a compaction and a
rewriting of META must not meet is kept apart by the caller's lock (``store._kept``).

Invariant: what is removed has durably been said to be gone before.
"""

from dragoman.errors import StorageError

from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.reclaim.compaction cimport compact
from dragoman.queue.engine.get cimport Gets
from dragoman.queue.engine.base cimport OPEN, Use, enter, storage_error
from dragoman.queue.write.journal cimport (
    journal_files_max, journal_is_stray, journal_measure, journal_tails, log_flushed,
)
from dragoman.queue.format.meta cimport meta_dropped, meta_flush, meta_lost
from dragoman.queue.reclaim.meta_rewrite cimport rewrite
from dragoman.queue.format.segments cimport file_name, slot_remove
from dragoman.queue.memory.state cimport (
    DONE, FILE_NAME, NO_MEMORY, WAIT, Store, pthread_cond_broadcast,
    pthread_cond_signal, pthread_cond_wait, pthread_mutex_lock, pthread_mutex_unlock,
)
from dragoman.queue.memory.table cimport tail_detach
from dragoman.queue.reclaim.trim cimport (
    dead_slot, drop_slot, oldest_birth, oldest_slot, tails_to_log, trim_lengths,
)
from dragoman.queue.recovery.verify cimport SegmentCheck, blocks_between

# Room that META has on the disk beyond its end: for this, and the trims of all queues.
cdef uint64_t META_RESERVE = 1048576

cdef enum:
    REMOVED_AT_ONCE = 256


cdef class Kept(Gets):
    """What upkeep, compaction, ``verify`` and ``repair`` do with a store."""

    def _trim_lengths(self, uint64_t most):
        # Every queue keeps ``most`` messages and what shares a block with them.
        cdef uint32_t start = 1
        cdef int result = DONE
        with nogil:
            while start < self.s.table.ids and result == DONE:
                pthread_mutex_lock(&self.s.lock)
                result = trim_lengths(&self.s, start, start + 1024, most)
                pthread_mutex_unlock(&self.s.lock)
                start += 1024
        if result != DONE:
            raise MemoryError

    def _oldest(self):
        # (slot, newest time) of the oldest sealed segment, or None.
        cdef int slot
        self._lock()
        slot = oldest_slot(&self.s)
        newest = self.s.segments[slot].newest_s if slot >= 0 else 0
        self._unlock()
        return (slot, newest) if slot >= 0 else None

    def _drop(self, int slot):
        # All queues lose their blocks in the oldest segment.
        cdef uint32_t start = 1
        cdef int result = DONE
        with nogil:
            while start < self.s.table.ids and result == DONE:
                pthread_mutex_lock(&self.s.lock)
                result = drop_slot(&self.s, slot, start, start + 1024)
                pthread_mutex_unlock(&self.s.lock)
                start += 1024
        if result != DONE:
            raise MemoryError

    def _remove_dead(self):
        # Segments that nobody refers to go; how many bytes that gave back. Those that die while it
        # runs are for the next time, and many go with one sync: on a slow disk a writer that trims
        # would keep it here for ever.
        cdef Store* s = &self.s
        cdef int slots[REMOVED_AT_ONCE]
        cdef uint64_t numbers[REMOVED_AT_ONCE]
        cdef int slot, count, gone, synced, i, error = 0
        cdef uint32_t at = 0, top = s.slots_top
        cdef char name[FILE_NAME]
        cdef uint64_t bytes_back = 0
        while error == 0 and at < top:
            count = gone = 0
            self._lock()
            while count < REMOVED_AT_ONCE:
                slot = dead_slot(s, at, top)
                if slot < 0 or meta_dropped(s, s.segments[slot].number) != DONE:
                    at = top
                    break
                at = <uint32_t>slot + 1
                s.segments[slot].state = 3
                slots[count] = slot
                numbers[count] = s.segments[slot].number
                count += 1
            self._unlock()
            if count == 0:
                break
            # First that they are gone, then that: a file that comes back is not believed.
            with nogil:
                error = meta_flush(s, True)
                while error == 0 and gone < count:
                    file_name(numbers[gone], b"seg", name)
                    error = s.disk.unlink(s.disk, name)
                    gone += error == 0
                if gone:
                    synced = s.disk.sync_directory(s.disk)
                    if synced < 0:
                        error = synced
                        gone = 0
                pthread_mutex_lock(&s.lock)
                for i in range(count):
                    if i < gone:
                        bytes_back += s.segments[slots[i]].length
                        slot_remove(s, slots[i])
                    else:
                        s.segments[slots[i]].state = 1
                pthread_mutex_unlock(&s.lock)
        if error < 0:
            raise storage_error(error, f"{self.path}: removing a segment")
        return bytes_back

    def _compact(
        self, object kept, double below, uint64_t before, uint64_t bytes_s,
        uint64_t memory_bytes
    ):
        # One run of segments: (bytes before, after), None when nothing is worth it. Segments with
        # numbers from ``before`` on are left alone.
        try:
            return compact(
                &self.s, self.files, self.path, kept, below, before, bytes_s,
                memory_bytes
            )
        except OSError as error:
            raise StorageError(
                f"{self.path}: compaction: {error.strerror}", errno=error.errno
            ) from error

    def _meta_dead(self):
        # (bytes of META, of which so many are dead).
        return self.s.meta_start + self.s.meta.length, self.s.meta_dead

    def _reserve_meta(self):
        # META can always say what goes, or a full disk could not be given space back.
        cdef Store* s = &self.s
        cdef uint64_t end = s.meta_start + s.meta.length
        cdef uint64_t want = META_RESERVE + 32 * <uint64_t>s.table.alive
        if s.meta_generation != self.reserved_generation:
            self.reserved = 0
        if self.reserved < end + want // 2 and self.files.reserve(s.meta_fd, end, want):
            self.reserved = end + want
            self.reserved_generation = s.meta_generation

    def _rewrite_meta(self, object committing, dict groups):
        # META without what is dead; False when the store closes meanwhile.
        try:
            return rewrite(
                &self.s, self.files, self.path, committing, groups, self.recovery.known_lost,
                self.recovery.missing,
            )
        except OSError as error:
            raise StorageError(
                f"{self.path}: META cannot be rewritten: {error.strerror}", errno=error.errno
            ) from error

    def _segments(self):
        # (slot, number, bytes) of all segments there are.
        cdef uint32_t i
        cdef list result = []
        for i in range(self.s.slots_top):
            if self.s.segments[i].state in (1, 2, 4, 5):
                result.append((i, self.s.segments[i].number, self.s.segments[i].length))
        return result

    def _verify_segment(self, int slot, object progress):
        # (bytes, [(offset, end, queue id, first, messages, reason)]); ``progress``: by bytes.
        cdef SegmentCheck check = SegmentCheck.__new__(SegmentCheck)
        cdef uint64_t before = 0
        cdef bint more = True
        cdef Use use
        enter(self, &use, False)
        try:
            check.begin(&self.s, slot)
            if check.error == -2:
                return []  # gone meanwhile
            try:
                while more and not check.error:
                    if self.state != OPEN:
                        self._refuse()
                    more = check.step()
                    progress(check.at - before)
                    before = check.at
            finally:
                check.end()
            return self._problems(check, slot)
        finally:
            self._leave(&use)

    def _problems(self, SegmentCheck check, int slot):
        # What the check found, by the queues that are concerned.
        cdef list found = []
        if check.error:
            raise storage_error(check.error, f"{self.path}/{check.number:010}.seg")
        for start, end, queue, first, messages, reason in check.problems:
            # What queues have there, be it by the directory, says who is concerned.
            blocks = blocks_between(&self.s, slot, start, max(end, start + 1))
            for id, at, count, offset in blocks:
                found.append((offset, end, id, at, count, reason))
            if not blocks:
                found.append((start, end, queue, first, 0, reason))
        return found

    def _note_lost(self, uint32_t id, uint64_t first, uint64_t messages):
        # A repair gives these messages up.
        cdef int result
        self._lock()
        result = meta_lost(&self.s, id, first, messages)
        self._unlock()
        if result != DONE:
            raise MemoryError

    def _note_dropped(self, uint64_t number):
        # A repair gives this segment up.
        cdef int result
        self._lock()
        result = meta_dropped(&self.s, number)
        self._unlock()
        if result != DONE:
            raise MemoryError

    def _detach_tails(self):
        # All tails become blocks on their way to the log.
        cdef Store* s = &self.s
        cdef uint32_t id = 1
        cdef int result = DONE
        with nogil:
            pthread_mutex_lock(&s.lock)
            while id < s.table.ids and result == DONE:
                if s.table.queues[id].count:
                    result = tail_detach(&s.table, id)
                    if result == WAIT and not s.log_error and s.writer_alive:
                        pthread_cond_signal(&s.work)
                        pthread_cond_wait(&s.space, &s.lock)
                        result = DONE
                        continue
                id += 1
            pthread_cond_signal(&s.work)
            pthread_mutex_unlock(&s.lock)
        if result != DONE:
            raise MemoryError if result == NO_MEMORY else self._failure()

    def _leave_journal(self):
        # Tails go to a new journal file, all others go; the journal's thread must be running.
        cdef Store* s = &self.s
        cdef int error
        if s.journal_file <= s.journal_oldest:
            return
        with nogil:
            error = journal_tails(s, s.journal_file - 1)
        if error < 0:
            raise storage_error(error, f"{self.path}: the journal")
        self._collect_journal()
        with nogil:
            error = s.disk.sync_directory(s.disk)
        if error < 0:
            raise storage_error(error, self.path)

    def _collect_journal(self):
        # Journal files that no tail needs go. Tails leave the oldest ones first: near the bound
        # they are written to the newest file again, at the bound they become blocks.
        cdef Store* s = &self.s
        cdef uint32_t current = s.journal_file
        cdef uint32_t files = journal_files_max(s)
        cdef uint32_t some = files - files // 8
        cdef uint32_t needed
        cdef int error = 0
        cdef char name[FILE_NAME]
        if current <= s.journal_oldest:
            return 0
        with nogil:
            if s.journal_full:
                error = tails_to_log(s, current - some // 2)
            elif current - s.journal_oldest > some:
                error = journal_tails(s, current - some)
            needed = oldest_birth(s)
            if error == 0 and needed > s.journal_oldest:
                # What has left the tails meanwhile is durable in blocks before the files go.
                error = log_flushed(s)
            while error == 0 and s.journal_oldest < needed and s.journal_oldest < current:
                if not journal_is_stray(s, s.journal_oldest):
                    file_name(s.journal_oldest, b"jnl", name)
                    error = s.disk.unlink(s.disk, name)
                    if error == -2:
                        error = 0
                if error == 0:
                    s.journal_oldest += 1
            pthread_mutex_lock(&s.lock)
            journal_measure(s)
            pthread_cond_broadcast(&s.durable)
            pthread_mutex_unlock(&s.lock)
        if error < 0:
            raise storage_error(error, f"{self.path}: removing a journal file")
        return needed
