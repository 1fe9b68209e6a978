"""A queue's index: which of its messages are in which block.

Called by the engine, the log, compaction and recovery, always under the store's lock. It is one
allocation of 64-bit words:

    word 0   first offset that is still there
    word 1   entries removed from the front over the queue's life
    then groups: the first offset of the group's first block, and up to 63 entries

so that finding an offset is a binary search over groups and a walk of at most 63 words.

Invariant: blocks follow each other: a block's first offset is its group's plus the messages of
those before it in the group.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc

from dragoman.queue.memory.errors cimport DONE, NO_MEMORY
from dragoman.queue.memory.layout cimport GROUP, entry_count, entry_word
from dragoman.queue.memory.state cimport Queue, Table


cdef inline uint64_t _words(uint64_t entries) noexcept nogil:
    return 2 + entries + (entries + GROUP - 1) // GROUP


cdef inline uint64_t _capacity(uint64_t words) noexcept nogil:
    # Small ones fill an allocator's block; large ones grow by an eighth at most.
    cdef uint64_t grain = 2
    while grain * 16 < words:
        grain *= 2
    words = (words + grain) // grain * grain
    return words - 1 if words < 4096 else words


cdef int index_append(Table* t, Queue* q, uint64_t first, uint64_t entry) noexcept nogil:
    """Add an entry whose first message is ``first``. DONE or NO_MEMORY."""
    cdef uint64_t old = _capacity(_words(q.entries)) if q.index != NULL else 0
    cdef uint64_t new = _capacity(_words(q.entries + 1))
    cdef uint64_t* words
    if new != old:
        words = <uint64_t*>realloc(q.index, new * 8)
        if words == NULL:
            return NO_MEMORY
        if q.index == NULL:
            words[0] = first
            words[1] = 0
        q.index = words
        t.index_bytes += (new - old) * 8
    if q.entries % GROUP == 0:
        q.index[entry_word(q.entries) - 1] = first
    q.index[entry_word(q.entries)] = entry
    q.entries += 1
    return DONE


cdef int index_set_first(Table* t, Queue* q, uint64_t first) noexcept nogil:
    """Everything before ``first`` is gone; entries go by ``index_rebuild``."""
    if q.index == NULL:
        q.index = <uint64_t*>malloc(_capacity(2) * 8)
        if q.index == NULL:
            return NO_MEMORY
        q.index[1] = 0
        t.index_bytes += _capacity(2) * 8
    q.index[0] = first
    return DONE


cdef void index_rebuild(Table* t, Queue* q, uint32_t removed) noexcept nogil:
    """Drop the first ``removed`` entries."""
    cdef uint32_t i
    cdef uint64_t offset, entry, old, new
    cdef uint64_t* words
    if removed == 0:
        return
    old = _capacity(_words(q.entries))
    offset = q.index[2]
    for i in range(removed):
        if i % GROUP == 0:
            offset = q.index[entry_word(i) - 1]
        offset += entry_count(q.index[entry_word(i)])
    for i in range(removed, q.entries):
        entry = q.index[entry_word(i)]
        if i % GROUP == 0:
            offset = q.index[entry_word(i) - 1]
        if (i - removed) % GROUP == 0:
            q.index[entry_word(i - removed) - 1] = offset
        q.index[entry_word(i - removed)] = entry
        offset += entry_count(entry)
    q.entries -= removed
    q.index[1] += removed
    new = _capacity(_words(q.entries))
    if new != old:
        words = <uint64_t*>realloc(q.index, new * 8)
        if words != NULL:
            q.index = words
        t.index_bytes -= (old - new) * 8


cdef void index_free(Table* t, Queue* q) noexcept nogil:
    """Give it back, if there is one."""
    if q.index != NULL:
        t.index_bytes -= _capacity(_words(q.entries)) * 8
        free(q.index)


cdef void index_cut(Table* t, Queue* q, uint32_t entries) noexcept nogil:
    """Drop entries at the end that have been moved to the front of others'."""
    cdef uint64_t old = _capacity(_words(q.entries))
    cdef uint64_t new = _capacity(_words(entries))
    cdef uint64_t* words
    q.index[1] += q.entries - entries
    q.entries = entries
    if new != old:
        words = <uint64_t*>realloc(q.index, new * 8)
        if words != NULL:
            q.index = words
        t.index_bytes -= (old - new) * 8


cdef uint32_t index_find(Queue* q, uint64_t offset, uint64_t* first) noexcept nogil:
    """The entry that holds ``offset`` and its first offset; ``entries`` when it is the tail's."""
    cdef uint32_t groups, low, high, middle, entry
    cdef uint64_t at
    if q.entries == 0 or offset >= q.next - q.count:
        first[0] = q.next - q.count
        return q.entries
    groups = (q.entries + GROUP - 1) // GROUP
    low = 0
    high = groups
    while high - low > 1:
        middle = (low + high) // 2
        if q.index[entry_word(middle * GROUP) - 1] <= offset:
            low = middle
        else:
            high = middle
    entry = low * GROUP
    at = q.index[entry_word(entry) - 1]
    while at + entry_count(q.index[entry_word(entry)]) <= offset:
        at += entry_count(q.index[entry_word(entry)])
        entry += 1
    first[0] = at
    return entry
