"""Blocks that were met out of order: copies that compaction made, or what fills a gap.

Called by ``replay.recover`` once the log has been read. A queue whose index lacks messages that
such blocks have gets a new one, of those blocks that together give the most messages.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy, memset

from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.index cimport index_append, index_find, index_rebuild
from dragoman.queue.memory.layout cimport (
    PLACE_LOST, PLACE_SLOT_SHIFT, QUEUE_ALIVE, block_cost, entry_code, entry_count, entry_place,
    entry_word,
)
from dragoman.queue.memory.state cimport Bytes, Queue, Store, Table, queue_first
from dragoman.queue.recovery.findings cimport Recovery, Stray, gap_found


cdef int _by_place(const void* a, const void* b) noexcept nogil:
    # By queue, then offset, then the longest first: what was compacted covers its parts.
    cdef const Stray* x = <const Stray*>a
    cdef const Stray* y = <const Stray*>b
    if x.queue != y.queue:
        return -1 if x.queue < y.queue else 1
    if x.first != y.first:
        return -1 if x.first < y.first else 1
    if x.count != y.count:
        return -1 if x.count > y.count else 1
    return 0


cdef bint _covered(Queue* q, const Stray* strays, uint64_t n) noexcept nogil:
    # Whether the index has all these messages already, or they have been trimmed.
    cdef uint64_t i, offset, first
    cdef uint32_t number
    for i in range(n):
        offset = strays[i].first
        if offset < queue_first(q):
            offset = queue_first(q)
        while offset < strays[i].first + strays[i].count:
            number = index_find(q, offset, &first)
            if number == q.entries or entry_place(q.index[entry_word(number)]) == PLACE_LOST():
                return False
            offset = first + entry_count(q.index[entry_word(number)])
    return True


cdef uint64_t _take_index(Store* s, uint32_t id, Stray* into) noexcept nogil:
    # The blocks that the queue has, which are no part of what lives of their segments any more.
    cdef Queue* q = &s.table.queues[id]
    cdef uint64_t at = q.index[2] if q.entries else 0
    cdef uint64_t entry, i, n = 0
    for i in range(q.entries):
        entry = q.index[entry_word(<uint32_t>i)]
        if entry_place(entry) != PLACE_LOST():
            into[n].queue = id
            into[n].first = at
            into[n].count = entry_count(entry)
            into[n].entry = entry
            n += 1
            s.segments[entry_place(entry) >> PLACE_SLOT_SHIFT].live -= block_cost(
                entry_code(entry)
            )
        at += entry_count(entry)
    return n


cdef void _find_best(Stray* all, uint64_t total) noexcept nogil:
    # From behind: the most messages that a block and others after it hold. Those that give less
    # than others without them lose their entry.
    cdef uint64_t low, high, middle
    cdef uint64_t i = total
    while i:
        i -= 1
        low = i + 1
        high = total
        while low < high:
            middle = (low + high) // 2
            if all[middle].first < all[i].first + all[i].count:
                low = middle + 1
            else:
                high = middle
        all[i].best = all[i].count + (all[low].best if low < total else 0)
        all[i].next = low
        if i + 1 < total and all[i + 1].best > all[i].best:
            # Better without this one.
            all[i].best = all[i + 1].best
            all[i].next = i + 1
            all[i].entry = 0


cdef int _rebuild(Recovery r, uint32_t id, const Stray* strays, uint64_t n) except -1:
    # The queue's index from all blocks that there are: those that together give the most.
    cdef Store* s = r.s
    cdef Table* t = &s.table
    cdef Queue* q = &t.queues[id]
    cdef Stray* all = <Stray*>malloc((q.entries + n) * sizeof(Stray))
    cdef uint64_t i, total
    cdef uint64_t end = q.next
    cdef uint64_t start = q.index[0]
    cdef uint64_t removed = q.index[1]
    if all == NULL:
        raise MemoryError
    try:
        total = _take_index(s, id, all)
        memcpy(all + total, strays, n * sizeof(Stray))
        total += n
        qsort(all, total, sizeof(Stray), _by_place)
        _find_best(all, total)
        index_rebuild(t, q, q.entries)
        q.next = start
        i = 0
        while i < total:
            if all[i].entry:
                if q.entries or all[i].first > q.next:
                    gap_found(r, id, all[i].first)
                if index_append(t, q, all[i].first, all[i].entry) != DONE:
                    raise MemoryError
                q.next = all[i].first + all[i].count
                s.segments[entry_place(all[i].entry) >> PLACE_SLOT_SHIFT].live += block_cost(
                    entry_code(all[i].entry)
                )
            i = all[i].next
        gap_found(r, id, end)
        q.index[0] = start
        q.index[1] = removed
    finally:
        free(all)
    return 0


cdef int settle(Recovery r) except -1:
    """Let every queue have the best of its blocks; what a repair gave up is missing for good."""
    cdef Stray* strays = <Stray*>r.strays.data
    cdef uint64_t n = r.strays.length // sizeof(Stray)
    cdef uint64_t i = 0
    cdef uint64_t j
    if n:
        with nogil:
            qsort(strays, n, sizeof(Stray), _by_place)
    while i < n:
        j = i
        while j < n and strays[j].queue == strays[i].queue:
            j += 1
        if not _covered(&r.s.table.queues[strays[i].queue], strays + i, j - i):
            _rebuild(r, strays[i].queue, strays + i, j - i)
        i = j
    free(r.strays.data)
    memset(&r.strays, 0, sizeof(Bytes))
    for id, first, count in r.known_lost:
        if r.s.table.queues[<uint32_t>id].flags & QUEUE_ALIVE:
            gap_found(r, id, first + count)
    return 0
