"""What opening found: the damage, positions of groups, and blocks for the indexes of their queues.

``meta``, ``scan`` and ``strays`` fill it in, ``replay`` goes on with it; afterwards the engine and
users' reports read it.

Invariant: a queue's index has no holes; messages that are not there have an entry that says so.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from dragoman.queue.memory.buffer cimport bytes_add
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.index cimport index_append
from dragoman.queue.memory.layout cimport (
    PLACE_LOST, PLACE_SLOT_SHIFT, QUEUE_ALIVE, block_cost, code_of_size, entry_count, entry_of,
    entry_place, entry_word,
)
from dragoman.queue.memory.state cimport Queue, Segment, Table


cdef class Recovery:
    """What opening found. ``damage`` holds (file, offset, queue id, first, messages, reason)."""

    def __cinit__(self):
        self.damage = []
        self.groups = {}
        self.worked = {}
        self.known_lost = []
        self.dropped = []
        self.missing = []
        self.meta_evidence = {}
        self.journals = []
        self.beyond = []
        self.cuts = []
        self.unsealed = None

    def __dealloc__(self):
        free(self.strays.data)
        free(self.apart.data)

    def lost_ranges(self):
        """(queue id, first, messages) of every gap; for reports."""
        cdef Table* t = &self.s.table
        cdef uint32_t id, i
        cdef uint64_t at
        cdef Queue* q
        result = []
        for id in range(1, t.ids):
            q = &t.queues[id]
            if not q.flags & QUEUE_ALIVE or q.entries == 0:
                continue
            at = q.index[2]
            for i in range(q.entries):
                if entry_place(q.index[entry_word(i)]) == PLACE_LOST():
                    result.append((id, at, entry_count(q.index[entry_word(i)])))
                at += entry_count(q.index[entry_word(i)])
        return result


cdef int block_found(
    Recovery r, int slot, uint64_t first, uint32_t count, uint32_t queue, uint64_t place16,
    uint32_t length, uint32_t time_s
) except -1:
    """A block of the log joins its queue's index."""
    cdef Table* t = &r.s.table
    cdef Queue* q
    cdef Segment* segment = &r.s.segments[slot]
    cdef uint64_t entry, code
    if time_s > segment.newest_s:
        segment.newest_s = time_s
    if queue >= t.ids or not t.queues[queue].flags & QUEUE_ALIVE:
        if queue >= t.ids:
            r.orphans += 1
        return 0
    q = &t.queues[queue]
    code = code_of_size(length)
    entry = entry_of(<uint64_t>slot << PLACE_SLOT_SHIFT | place16, <uint32_t>code, count)
    if q.index != NULL and first + count <= q.index[0]:
        return 0
    if first == q.next or (q.entries == 0 and first < q.next):
        # The second: a block of which the front has been trimmed.
        if index_append(t, q, first, entry) != DONE:
            raise MemoryError
        q.next = first + count
        segment.live += block_cost(<uint32_t>code)
        return 0
    if first < q.next:
        _stray(r, queue, first, count, entry)
        return 0
    gap_found(r, queue, first)
    if index_append(t, q, first, entry) != DONE:
        raise MemoryError
    q.next = first + count
    segment.live += block_cost(<uint32_t>code)
    return 0


cdef int _stray(
    Recovery r, uint32_t queue, uint64_t first, uint32_t count, uint64_t entry
) except -1:
    cdef Stray stray
    memset(&stray, 0, sizeof(Stray))
    stray.queue = queue
    stray.first = first
    stray.count = count
    stray.entry = entry
    if bytes_add(&r.strays, &stray, sizeof(Stray)) != DONE:
        raise MemoryError
    return 0


cdef int gap_found(Recovery r, uint32_t queue, uint64_t to) except -1:
    """Messages from the queue's end to ``to`` are not there, at least not yet."""
    r.gaps = True
    cdef Table* t = &r.s.table
    cdef Queue* q = &t.queues[queue]
    cdef uint64_t part
    while q.next < to:
        part = min(to - q.next, 65535)
        if index_append(t, q, q.next, entry_of(PLACE_LOST(), 0, part)) != DONE:
            raise MemoryError
        q.next += part
    return 0
