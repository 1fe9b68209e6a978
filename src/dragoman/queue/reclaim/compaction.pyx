"""Compaction: segments of which most is dead give their space back before all of it is.

Called by the engine for the store's compaction thread, one run of neighbouring segments at a time:
the blocks that queues still have are copied into one new segment, which takes the number of the
first of them by a rename; then queues are told where their blocks are, and the others go. Format
and order of the steps are in docs/formats/queue.md, "Compaction".

Invariants: the old segments stay until the new one and its name are on the disk; whatever fails
before the rename leaves the store as it was; the store's lock is held for some ten microseconds at
a time; memory is bounded by the caller's setting and 24 bytes for each block of the new segment.
"""

import os

from libc.errno cimport ENOMEM, ENOSPC
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_CREAT, O_EXCL, O_RDWR

from dragoman.queue.reclaim.copying cimport (
    DAMAGED, OUT_BYTES, RUN_MOST, STOPPED, Living, Run, write_segment,
)
from dragoman.queue.format.segments cimport file_name, slot_of, slot_open, slot_remove
from dragoman.queue.memory.index cimport index_cut, index_find
from dragoman.queue.memory.layout cimport (
    BLOCK_HEADER, DIRECTORY_ENTRY, FILE_NAME, GROUP, PLACE_LOST, PLACE_PENDING, PLACE_SLOT_SHIFT,
    QUEUE_ALIVE, SECTOR, block_cost, code_of_size, entry_code, entry_count, entry_of, entry_place,
    entry_word,
)
from dragoman.queue.memory.state cimport (
    SEGMENT_COMPACTING, SEGMENT_COPYING, SEGMENT_FREE, SEGMENT_REMOVING, SEGMENT_SEALED, Queue,
    Segment, Store, Table,
)
from dragoman.queue.memory.threads cimport (
    monotonic_ms, prefetch, pthread_cond_broadcast, pthread_mutex_lock, pthread_mutex_unlock,
)

cdef extern from "fcntl.h" nogil:
    int O_DIRECT
cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

cdef uint64_t OFFSET_MASK = (1ULL << 48) - 1


# Telling the queues.


cdef inline bint _ours(Run* r, uint64_t entry) noexcept nogil:
    cdef uint64_t place = entry_place(entry)
    cdef uint32_t i
    if place == PLACE_LOST() or place & PLACE_PENDING():
        return False
    for i in range(r.count):
        if place >> PLACE_SLOT_SHIFT == <uint64_t>r.slots[i]:
            return True
    return False


cdef inline uint32_t _copied(
    Run* r, Queue* q, uint32_t number, uint64_t offset, uint64_t end
) noexcept nogil:
    # The entry behind those from ``number`` on that hold just the messages from ``offset`` to
    # ``end`` in the old segments; ``number`` if there are none.
    cdef uint32_t at = number
    while at < q.entries and offset < end and _ours(r, q.index[entry_word(at)]):
        offset += entry_count(q.index[entry_word(at)])
        at += 1
    return at if offset == end else number


cdef inline void _put_entry(
    Queue* q, uint32_t number, uint64_t offset, uint64_t entry
) noexcept nogil:
    # The first entry of a group has its offset before it.
    if number % GROUP == 0:
        q.index[entry_word(number) - 1] = offset
    q.index[entry_word(number)] = entry


cdef void _renew(Run* r, uint32_t id, const char* entries, uint64_t n) noexcept nogil:
    # Under the lock: a queue's blocks, ascending, are now in the new segment.
    cdef Store* s = r.store
    cdef Table* t = &s.table
    cdef Queue* q = &t.queues[id]
    cdef uint64_t first, offset, entry, end = 0
    cdef uint64_t k = 0
    cdef uint64_t start = 0
    cdef uint32_t place16, length, old, new, at, code
    if not q.flags & QUEUE_ALIVE or q.entries == 0:
        return
    # What was trimmed meanwhile is passed over.
    while k < n:
        memcpy(&first, entries + k * 24, 8)
        start = first & OFFSET_MASK
        end = start + (first >> 48)
        if end > q.index[0] and end > q.index[2]:
            break
        k += 1
    if k == n:
        return
    old = index_find(q, start if start > q.index[2] else q.index[2], &offset)
    new = old
    while old < q.entries:
        while k < n:
            memcpy(&first, entries + k * 24, 8)
            start = first & OFFSET_MASK
            end = start + (first >> 48)
            if start >= offset or (old == 0 and end > offset):
                break
            k += 1
        if k == n and new == old:
            return
        at = old
        if k < n and (start == offset or (old == 0 and start < offset)):
            at = _copied(r, q, old, offset, end)
        if at > old:
            memcpy(&place16, entries + k * 24 + 12, 4)
            memcpy(&length, entries + k * 24 + 16, 4)
            while old < at:
                entry = q.index[entry_word(old)]
                s.segments[entry_place(entry) >> PLACE_SLOT_SHIFT].live -= (
                    block_cost(entry_code(entry))
                )
                old += 1
            code = code_of_size(length)
            s.segments[r.slot].live += block_cost(code)
            entry = <uint64_t>r.slot << PLACE_SLOT_SHIFT | place16
            _put_entry(q, new, start, entry_of(entry, code, <uint32_t>(end - start)))
            offset = end
            k += 1
        else:
            entry = q.index[entry_word(old)]
            _put_entry(q, new, offset, entry)
            offset += entry_count(entry)
            old += 1
        new += 1
    if new < q.entries:
        index_cut(t, q, new)


cdef void _switch(Run* r) noexcept nogil:
    # Takes and leaves the lock. Afterwards nobody begins to read from the old segments.
    cdef Store* s = r.store
    cdef uint64_t i = 0
    cdef uint64_t n = r.directory.length // DIRECTORY_ENTRY
    cdef uint64_t k, turn = 0
    cdef uint32_t queue, other
    cdef const char* entries = r.directory.data
    pthread_mutex_lock(&s.lock)
    s.segments[r.slot].length = r.out_start
    s.segments[r.slot].newest_s = r.newest_s
    while i < n:
        memcpy(&queue, entries + i * 24 + 8, 4)
        k = i + 1
        while k < n:
            memcpy(&other, entries + k * 24 + 8, 4)
            if other != queue:
                break
            k += 1
        if k < n:
            prefetch(&s.table.queues[other])
        _renew(r, queue, entries + i * 24, k - i)
        i = k
        turn += 1
        if turn % 64 == 0:
            pthread_mutex_unlock(&s.lock)
            pthread_mutex_lock(&s.lock)
    pthread_mutex_unlock(&s.lock)


# One run.


cdef list _segments(Store* s, uint64_t before):
    # (number, slot, length, live bytes, whether it may be compacted) of each, ascending.
    cdef uint32_t i, n = 0
    cdef uint64_t newest = 0
    cdef uint64_t limit
    cdef uint32_t top = s.slots_top
    cdef Segment* copies = <Segment*>malloc((top + 1) * sizeof(Segment))
    if copies == NULL:
        raise MemoryError
    result = []
    with nogil:
        pthread_mutex_lock(&s.lock)
        while n < s.slots_top and n < top:
            copies[n] = s.segments[n]
            n += 1
        pthread_mutex_unlock(&s.lock)
    for i in range(n):
        if copies[i].state and copies[i].number > newest:
            newest = copies[i].number
    limit = min(newest, before)
    for i in range(n):
        if copies[i].state:
            usable = (
                copies[i].state == SEGMENT_SEALED
                and not copies[i].aside
                and copies[i].number < limit
            )
            result.append((copies[i].number, i, copies[i].length, copies[i].live, usable))
    free(copies)
    result.sort()
    return result


cdef list choose(Store* s, double below, uint64_t before):
    """The slots of neighbouring segments that are worth compacting, None when there are none.

    Only segments with numbers below ``before`` are looked at.

    Worth it is what leaves at most ``below`` of its bytes, or four neighbours that together are
    small.
    """
    cdef uint64_t room = s.segment_bytes
    slots = _segments(s, before)
    best = None
    best_gain = 0.0
    for begin in range(len(slots)):
        whole = live = 0
        _, _, length, alive, usable = slots[begin]
        if not usable or not (alive <= below * length or length <= room // 4):
            continue
        for end in range(begin, min(begin + RUN_MOST, len(slots))):
            _, _, length, alive, usable = slots[end]
            if not usable:
                break
            whole += length
            live += alive
            after = (live + 64 + 2 * BLOCK_HEADER + 2 * SECTOR) // SECTOR * SECTOR
            if after > room and end > begin:
                break
            if after <= below * whole:
                gain = (whole - after) / after
            elif end - begin >= 3 and whole <= room and after < whole:
                gain = 0.001 * (end - begin)
            else:
                continue
            if live and gain > best_gain:
                best_gain = gain
                best = [slot for _, slot, _, _, _ in slots[begin : end + 1]]
    return best


cdef int _pin(Run* r, int* target) noexcept nogil:
    # The old files stay open: the name of one of them soon means another file.
    cdef Store* s = r.store
    cdef uint32_t n, count = r.count
    cdef int slot
    cdef int error = 0
    r.count = 0
    pthread_mutex_lock(&s.lock)
    for n in range(count):
        slot = r.slots[n]
        if s.segments[slot].state != SEGMENT_SEALED:
            error = STOPPED
            break
        r.fds[n] = slot_open(s, slot)
        if r.fds[n] < 0:
            error = r.fds[n]
            break
        s.segments[slot].state = SEGMENT_COMPACTING
        s.segments[slot].readers += 1
        r.count += 1
    if error == 0:
        target[0] = slot_of(s)
        if target[0] >= 0:
            s.segments[target[0]].state = SEGMENT_COPYING
            r.number = s.segments[r.slots[0]].number
            s.segments[target[0]].number = r.number
            r.slot = <uint32_t>target[0]
        else:
            error = -ENOSPC
    pthread_mutex_unlock(&s.lock)
    return error


cdef void _unpin(Run* r, int target) noexcept nogil:
    # The segments are as before, or the first of them is replaced.
    cdef Store* s = r.store
    cdef Segment* segment
    cdef uint32_t i
    pthread_mutex_lock(&s.lock)
    for i in range(r.count):
        segment = &s.segments[r.slots[i]]
        if r.renamed and i == 0 and segment.live:
            # A queue still needs what has no name any more: its descriptor stays.
            continue
        segment.readers -= 1
        segment.state = SEGMENT_SEALED
        if r.renamed and i == 0:
            segment.state = SEGMENT_REMOVING
            slot_remove(s, r.slots[i])
    if target >= 0:
        s.segments[target].state = SEGMENT_SEALED if r.renamed else SEGMENT_FREE
    pthread_mutex_unlock(&s.lock)


cdef int _allocate(Run* r, uint64_t memory_bytes) noexcept nogil:
    r.batch_bytes = memory_bytes // 4 * 3
    r.living_most = memory_bytes // 4 // sizeof(Living) + 1
    r.batch = <char*>malloc(r.batch_bytes)
    r.living = <Living*>malloc(r.living_most * sizeof(Living))
    if (
        r.batch == NULL or r.living == NULL
        or posix_memalign(<void**>&r.out, SECTOR, OUT_BYTES) != 0
    ):
        return -ENOMEM
    return 0


cdef int _write_new(Run* r, const char* temporary, uint64_t memory_bytes) noexcept nogil:
    # The new segment under its temporary name.
    cdef Store* s = r.store
    cdef int error = _allocate(r, memory_bytes)
    if error < 0:
        return error
    r.fd = s.disk.open(
        s.disk, temporary, O_RDWR | O_CREAT | O_EXCL | (O_DIRECT if s.direct else 0)
    )
    if r.fd < 0:
        return r.fd
    error = write_segment(r)
    if error == 0 and s.poison:
        return STOPPED
    return error


cdef int _change_over(Run* r, int target) noexcept nogil:
    # After the rename: queues are told, and the segment that had the name goes.
    cdef Store* s = r.store
    cdef int error = s.disk.sync_directory(s.disk)
    if error < 0:
        # Which of the two files the name means after a crash nobody knows.
        pthread_mutex_lock(&s.lock)
        s.poison = -error
        pthread_cond_broadcast(&s.durable)
        pthread_cond_broadcast(&s.space)
        pthread_mutex_unlock(&s.lock)
    _switch(r)
    _unpin(r, target)
    return error


cdef void _release(Run* r, int target, const char* temporary) noexcept nogil:
    # Descriptor and memory; without the rename everything is as before.
    cdef Store* s = r.store
    if not r.renamed:
        _unpin(r, target)
    if r.fd >= 0:
        s.disk.close(s.disk, r.fd)
    if r.fd >= 0 and not r.renamed:
        s.disk.unlink(s.disk, temporary)
    free(r.out)
    free(r.batch)
    free(r.living)
    free(r.window)
    free(r.merged)
    free(r.directory.data)


cdef object compact(
    Store* s, object files, str path, object maintaining, double below, uint64_t before,
    uint64_t bytes_s, uint64_t memory_bytes
):
    """One run. Returns (bytes before, bytes after), None when nothing was worth it.

    ``maintaining`` is a lock: while it is held no segment changes its slot.

    Raises OSError when the disk refuses; then the store is as it was, or is poisoned if the
    directory could not be synced. What is dead of the old segments is for ``_remove_dead``.
    """
    cdef Run r
    cdef uint32_t i
    cdef uint64_t whole = 0
    cdef int error = 0
    cdef int target = -1
    cdef char temporary[FILE_NAME]
    cdef char final[FILE_NAME]
    slots = choose(s, below, before)
    if slots is None:
        return None
    memset(&r, 0, sizeof(Run))
    r.store = s
    r.fd = -1
    r.bytes_s = bytes_s
    r.began_ms = monotonic_ms()
    for slot in slots:
        r.slots[r.count] = slot
        r.count += 1
    with nogil:
        error = _pin(&r, &target)
    for i in range(r.count):
        whole += s.segments[r.slots[i]].length
    try:
        file_name(r.number, b"seg", final)
        file_name(r.number, b"seg.new", temporary)
        name = os.fsdecode(<bytes>final)
        if error == 0:
            with nogil:
                error = _write_new(&r, temporary, memory_bytes)
        if error == 0:
            with maintaining:
                files.rename(f"{name}.new", name)
                r.renamed = True
                with nogil:
                    error = _change_over(&r, target)
    finally:
        with nogil:
            _release(&r, target, temporary)
    if error == DAMAGED:
        for i in range(r.count):
            s.segments[r.slots[i]].aside = True
        return 0, 0
    if error == STOPPED:
        return None
    if error < 0:
        raise OSError(-error, os.strerror(-error), f"{path}/{name}")
    s.compactions += 1
    s.compacted_written += r.out_start
    return whole, r.out_start
