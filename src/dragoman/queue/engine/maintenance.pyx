"""Maintenance: retention, space given back, compaction, META, old journal files, verifying.

For the threads and methods of ``QueueStore`` that decide when. Each function works in pieces,
between which others have the lock; what must not run at one time with the removal of a segment, a
compaction or a rewriting of META is kept apart by the caller's own lock.

Invariant: META durably says that a segment is gone before its file goes.
"""

from dragoman.errors import StorageError

from libc.errno cimport ENOENT
from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.reclaim.compaction cimport compact
from dragoman.queue.engine.core cimport OPEN, Core, Use, enter, leave, storage_error
from dragoman.queue.write.journal cimport (
    journal_files_max, journal_is_stray, journal_measure, journal_tails, log_flushed,
)
from dragoman.queue.format.meta cimport meta_dropped, meta_flush, meta_lost
from dragoman.queue.reclaim.meta_rewrite cimport rewrite
from dragoman.queue.format.segments cimport file_name, slot_remove
from dragoman.queue.memory.errors cimport DONE, NO_MEMORY, WAIT
from dragoman.queue.memory.layout cimport FILE_NAME
from dragoman.queue.memory.state cimport (
    SEGMENT_COMPACTING, SEGMENT_REMOVING, SEGMENT_SEALED, SEGMENT_UNSETTLED, SEGMENT_WRITING, Store,
)
from dragoman.queue.memory.tail cimport tail_detach
from dragoman.queue.memory.threads cimport (
    pthread_cond_broadcast, pthread_cond_signal, pthread_cond_wait, pthread_mutex_lock,
    pthread_mutex_unlock,
)
from dragoman.queue.reclaim.trim cimport (
    dead_slot, drop_slot, oldest_birth, oldest_slot, tails_to_log, trim_lengths,
)
from dragoman.queue.recovery.verify cimport SegmentCheck, blocks_between

# Room that META has on the disk beyond its end: for this, and the trims of all queues.
cdef uint64_t META_RESERVE = 1048576

cdef enum:
    REMOVED_AT_ONCE = 256


cdef int keep_newest(Core core, uint64_t most) except -1:
    """Every queue keeps ``most`` messages and what shares a block with them."""
    cdef uint32_t start = 1
    cdef int result = DONE
    with nogil:
        while start < core.s.table.ids and result == DONE:
            pthread_mutex_lock(&core.s.lock)
            result = trim_lengths(&core.s, start, start + 1024, most)
            pthread_mutex_unlock(&core.s.lock)
            start += 1024
    if result != DONE:
        raise MemoryError


cdef tuple oldest_segment(Core core):
    """(slot, newest time) of the oldest sealed segment, or None."""
    cdef int slot
    core.lock()
    slot = oldest_slot(&core.s)
    newest = core.s.segments[slot].newest_s if slot >= 0 else 0
    core.unlock()
    return (slot, newest) if slot >= 0 else None


cdef int drop_segment(Core core, int slot) except -1:
    """All queues lose their blocks in the oldest segment."""
    cdef uint32_t start = 1
    cdef int result = DONE
    with nogil:
        while start < core.s.table.ids and result == DONE:
            pthread_mutex_lock(&core.s.lock)
            result = drop_slot(&core.s, slot, start, start + 1024)
            pthread_mutex_unlock(&core.s.lock)
            start += 1024
    if result != DONE:
        raise MemoryError


cdef struct Removal:
    # Segments that go with one sync.
    int slots[REMOVED_AT_ONCE]
    uint64_t numbers[REMOVED_AT_ONCE]
    int count
    uint32_t at  # the slot to go on from
    uint32_t top
    uint64_t bytes_back


cdef uint64_t remove_dead(Core core) except? 0xFFFFFFFFFFFFFFFF:
    """Remove segments that no queue refers to; how many bytes that gave back.

    Those that die while it runs are for the next time, and many go with one sync: on a slow disk a
    writer that trims would keep it here for ever.
    """
    cdef Store* s = &core.s
    cdef Removal r
    cdef int error = 0
    r.at = 0
    r.top = s.slots_top
    r.bytes_back = 0
    while error == 0 and r.at < r.top:
        core.lock()
        note_dead(s, &r)
        core.unlock()
        if r.count == 0:
            break
        with nogil:
            error = unlink_dead(s, &r)
    if error < 0:
        raise storage_error(error, f"{core.path}: removing a segment")
    return r.bytes_back


cdef void note_dead(Store* s, Removal* r) noexcept nogil:
    # Under the lock: META will say that these are gone.
    cdef int slot
    r.count = 0
    while r.count < REMOVED_AT_ONCE:
        slot = dead_slot(s, r.at, r.top)
        if slot < 0 or meta_dropped(s, s.segments[slot].number) != DONE:
            r.at = r.top
            return
        r.at = <uint32_t>slot + 1
        s.segments[slot].state = SEGMENT_REMOVING
        r.slots[r.count] = slot
        r.numbers[r.count] = s.segments[slot].number
        r.count += 1


cdef int unlink_dead(Store* s, Removal* r) noexcept nogil:
    # First that they are gone, then that: a file that comes back is not believed.
    cdef char name[FILE_NAME]
    cdef int i, synced, gone = 0
    cdef int error = meta_flush(s, True)
    while error == 0 and gone < r.count:
        file_name(r.numbers[gone], b"seg", name)
        error = s.disk.unlink(s.disk, name)
        gone += error == 0
    if gone:
        synced = s.disk.sync_directory(s.disk)
        if synced < 0:
            error = synced
            gone = 0
    pthread_mutex_lock(&s.lock)
    for i in range(r.count):
        if i < gone:
            r.bytes_back += s.segments[r.slots[i]].length
            slot_remove(s, r.slots[i])
        else:
            s.segments[r.slots[i]].state = SEGMENT_SEALED
    pthread_mutex_unlock(&s.lock)
    return error


cdef object compact_segments(
    Core core, object maintaining, double below, uint64_t before, uint64_t bytes_s,
    uint64_t memory_bytes,
):
    """Compact one run of segments: (bytes before, after), None when nothing is worth it.

    Segments with numbers from ``before`` on are left alone.
    """
    try:
        return compact(
            &core.s, core.files, core.path, maintaining, below, before, bytes_s, memory_bytes
        )
    except OSError as error:
        raise StorageError(
            f"{core.path}: compaction: {error.strerror}", errno=error.errno
        ) from error


cdef int reserve_meta(Core core) except -1:
    """META can always say what goes, or a full disk could not be given space back."""
    cdef Store* s = &core.s
    cdef uint64_t end = s.meta_start + s.meta.length
    cdef uint64_t want = META_RESERVE + 32 * <uint64_t>s.table.alive
    if s.meta_generation != core.reserved_generation:
        core.reserved = 0
    if core.reserved < end + want // 2 and core.files.reserve(s.meta_fd, end, want):
        core.reserved = end + want
        core.reserved_generation = s.meta_generation
    return 0


cdef object rewrite_meta(Core core, object committing, dict groups):
    """META without what is dead; False when the store closes meanwhile."""
    try:
        return rewrite(
            &core.s, core.files, core.path, committing, groups, core.recovery.known_lost,
            core.recovery.missing,
        )
    except OSError as error:
        raise StorageError(
            f"{core.path}: META cannot be rewritten: {error.strerror}", errno=error.errno
        ) from error


cdef list segments_of(Core core):
    """(slot, number, bytes) of all segments there are."""
    cdef uint32_t i
    cdef list result = []
    for i in range(core.s.slots_top):
        if core.s.segments[i].state in (
            SEGMENT_SEALED, SEGMENT_WRITING, SEGMENT_COMPACTING, SEGMENT_UNSETTLED,
        ):
            result.append((i, core.s.segments[i].number, core.s.segments[i].length))
    return result


cdef list verify_segment(Core core, int slot, object progress):
    """[(offset, end, queue id, first, messages, reason)]; ``progress`` is called with bytes."""
    cdef SegmentCheck check = SegmentCheck.__new__(SegmentCheck)
    cdef uint64_t before = 0
    cdef bint more = True
    cdef Use use
    enter(core, &use, False)
    try:
        check.begin(&core.s, slot)
        if check.error == -ENOENT:
            return []  # gone meanwhile
        try:
            while more and not check.error:
                if core.state != OPEN:
                    core.refuse()
                more = check.step()
                progress(check.at - before)
                before = check.at
        finally:
            check.end()
        return problems_of(core, check, slot)
    finally:
        leave(core, &use)


cdef list problems_of(Core core, SegmentCheck check, int slot):
    # What the check found, by the queues that are concerned.
    cdef list found = []
    if check.error:
        raise storage_error(check.error, f"{core.path}/{check.number:010}.seg")
    for start, end, queue, first, messages, reason in check.problems:
        # What queues have there, be it by the directory, says who is concerned.
        blocks = blocks_between(&core.s, slot, start, max(end, start + 1))
        for id, at, count, offset in blocks:
            found.append((offset, end, id, at, count, reason))
        if not blocks:
            found.append((start, end, queue, first, 0, reason))
    return found


cdef int note_lost(Core core, uint32_t id, uint64_t first, uint64_t messages) except -1:
    """A repair gives these messages up."""
    cdef int result
    core.lock()
    result = meta_lost(&core.s, id, first, messages)
    core.unlock()
    if result != DONE:
        raise MemoryError


cdef int note_dropped(Core core, uint64_t number) except -1:
    """A repair gives this segment up."""
    cdef int result
    core.lock()
    result = meta_dropped(&core.s, number)
    core.unlock()
    if result != DONE:
        raise MemoryError


cdef int detach_tails(Core core) except -1:
    """All tails become blocks on their way to the log."""
    cdef Store* s = &core.s
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
        raise MemoryError if result == NO_MEMORY else core.failure()


cdef int leave_journal(Core core) except -1:
    """Tails go to a new journal file, all others go; the journal's thread must be running."""
    cdef Store* s = &core.s
    cdef int error
    if s.journal_file <= s.journal_oldest:
        return 0
    with nogil:
        error = journal_tails(s, s.journal_file - 1)
    if error < 0:
        raise storage_error(error, f"{core.path}: the journal")
    collect_journal(core)
    with nogil:
        error = s.disk.sync_directory(s.disk)
    if error < 0:
        raise storage_error(error, core.path)


cdef int collect_journal(Core core) except -1:
    """Journal files that no tail needs go.

    Tails leave the oldest ones first: near the bound they are written to the newest file again, at
    the bound they become blocks.
    """
    cdef Store* s = &core.s
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
                if error == -ENOENT:
                    error = 0
            if error == 0:
                s.journal_oldest += 1
        pthread_mutex_lock(&s.lock)
        journal_measure(s)
        pthread_cond_broadcast(&s.durable)
        pthread_mutex_unlock(&s.lock)
    if error < 0:
        raise storage_error(error, f"{core.path}: removing a journal file")
    return 0
