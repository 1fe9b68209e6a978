"""Queues in memory: a record of one cache line each, by number, and found by name.

Called by the engine and recovery, always under the store's lock. Knows nothing of files. Address
space is reserved once, so that nothing moves; pages come as they are touched. What a queue has
beside its record is of its own: its tail (``tail``) and the index of its blocks (``index``).

Invariant: a queue's messages are those of its entries, in order, then those of its tail; what a
damaged disk lost is an entry whose place is LOST.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap
)

from dragoman.queue.memory.errors cimport DONE, NO_MEMORY
from dragoman.queue.memory.index cimport index_free
from dragoman.queue.memory.layout cimport (
    INLINE_NAME, QUEUE_ALIVE, RETIRE, RING, RING_BYTES_MAX, align_up,
)
from dragoman.queue.memory.state cimport (
    Chunk, Pending, Queue, Table, queue_name, queue_name_length,
)
from dragoman.queue.memory.tail cimport tail_drop

cdef extern from "sys/mman.h" nogil:
    int MAP_NORESERVE
    int MADV_HUGEPAGE
    int madvise(void*, size_t, int)

cdef extern from *:
    """
    #include <sys/mman.h>
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    """
    int MADV_POPULATE_WRITE

# Reserved, not used.
cdef uint64_t IDS_MAX = 1ULL << 28
cdef uint64_t CHUNKS_MAX = 1ULL << 28
cdef uint64_t SLOTS_LEAST = 1024


cdef void* _reserve(uint64_t size, bint huge) noexcept nogil:
    cdef void* at = mmap(
        NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    )
    if at == MAP_FAILED:
        return NULL
    if huge:
        madvise(at, size, MADV_HUGEPAGE)
    return at


cdef int table_open(Table* t, uint64_t seed) noexcept nogil:
    """Reserve address space; DONE or NO_MEMORY."""
    memset(t, 0, sizeof(Table))
    t.seed = seed
    t.ids = 1
    t.ids_max = <uint32_t>IDS_MAX
    t.chunks_top = 1
    t.chunks_max = <uint32_t>CHUNKS_MAX
    t.queues = <Queue*>_reserve(IDS_MAX * sizeof(Queue), True)
    t.chunks = <Chunk*>_reserve(CHUNKS_MAX * sizeof(Chunk), True)
    t.free = <uint32_t*>_reserve(CHUNKS_MAX * sizeof(uint32_t), False)
    t.retired = <uint32_t*>malloc(RETIRE * sizeof(uint32_t))
    t.ring = <Pending*>malloc(RING * sizeof(Pending))
    t.slots = <uint64_t*>_reserve(SLOTS_LEAST * 8, False)
    t.mask = SLOTS_LEAST - 1
    t.limit = 65536
    t.ring_size = RING
    t.ring_mask = RING - 1
    t.ring_bytes_max = RING_BYTES_MAX
    if not (t.queues and t.chunks and t.free and t.retired and t.ring and t.slots):
        return NO_MEMORY
    return DONE


cdef int table_touch(Table* t, uint64_t queues, uint64_t chunk_bytes) noexcept nogil:
    """Have the memory of so many queues and so many bytes of tails now rather than bit by bit."""
    while queues * 8 >= (t.mask + 1) * 5:
        if _grow(t) != DONE:
            return NO_MEMORY
    if queues:
        madvise(t.queues, align_up((queues + 1) * sizeof(Queue), 4096), MADV_POPULATE_WRITE)
        madvise(t.slots, (t.mask + 1) * 8, MADV_POPULATE_WRITE)
    if chunk_bytes:
        madvise(t.chunks, align_up(chunk_bytes, 4096), MADV_POPULATE_WRITE)
        t.touched = align_up(chunk_bytes, 4096)
        madvise(t.free, align_up(chunk_bytes // 64, 4096), MADV_POPULATE_WRITE)
    return DONE


cdef void table_close(Table* t) noexcept nogil:
    """Give everything back."""
    cdef uint32_t id
    cdef Queue* q
    if t.queues != NULL:
        for id in range(1, t.ids):
            q = &t.queues[id]
            free(q.index)
            if q.flags & QUEUE_ALIVE and queue_name_length(q) > INLINE_NAME:
                free((<char**>q.name)[0])
        munmap(t.queues, IDS_MAX * sizeof(Queue))
    while t.ring != NULL and t.ring_head < t.ring_tail:
        free(t.ring[t.ring_head & t.ring_mask].big)
        t.ring_head += 1
    if t.chunks != NULL:
        munmap(t.chunks, CHUNKS_MAX * sizeof(Chunk))
    if t.free != NULL:
        munmap(t.free, CHUNKS_MAX * sizeof(uint32_t))
    if t.slots != NULL:
        munmap(t.slots, (t.mask + 1) * 8)
    free(t.ring)
    free(t.retired)
    memset(t, 0, sizeof(Table))


# Names: open addressing, a slot is hash << 32 | id.


cdef uint32_t table_find(Table* t, const char* name, uint32_t n, uint32_t hash) noexcept nogil:
    """The id of the queue with this name, 0 for none."""
    cdef uint64_t at = hash & t.mask
    cdef uint64_t slot
    cdef Queue* q
    while True:
        slot = t.slots[at]
        if slot == 0:
            return 0
        if slot >> 32 == hash:
            q = &t.queues[<uint32_t>slot]
            if queue_name_length(q) == n and memcmp(queue_name(q), name, n) == 0:
                return <uint32_t>slot
        at = (at + 1) & t.mask


cdef int _grow(Table* t) noexcept nogil:
    cdef uint64_t old_mask = t.mask
    cdef uint64_t mask = old_mask * 2 + 1
    cdef uint64_t* old = t.slots
    cdef uint64_t* slots = <uint64_t*>_reserve((mask + 1) * 8, mask > 200000)
    cdef uint64_t i, at
    if slots == NULL:
        return NO_MEMORY
    for i in range(old_mask + 1):
        if old[i]:
            at = (old[i] >> 32) & mask
            while slots[at]:
                at = (at + 1) & mask
            slots[at] = old[i]
    munmap(old, (old_mask + 1) * 8)
    t.slots = slots
    t.mask = mask
    return DONE


cdef uint32_t table_add(
    Table* t, uint32_t id, const char* name, uint32_t n, uint32_t hash
) noexcept nogil:
    """A new queue; ``id`` 0 takes the next. Returns its id, or 0 when there is no memory."""
    cdef uint64_t at
    cdef Queue* q
    cdef char* copy
    if <uint64_t>t.alive * 8 >= (t.mask + 1) * 5 and _grow(t) != DONE:
        return 0
    if id == 0:
        id = t.ids
    if id >= t.ids_max:
        return 0
    q = &t.queues[id]
    if n > INLINE_NAME:
        copy = <char*>malloc(n)
        if copy == NULL:
            return 0
        memcpy(copy, name, n)
        (<char**>q.name)[0] = copy
        t.name_bytes += n + 16
    else:
        memcpy(q.name, name, n)
    q.name_length = <uint16_t>(n - 1)
    q.hash = hash
    q.flags |= QUEUE_ALIVE
    if id >= t.ids:
        t.ids = id + 1
    at = hash & t.mask
    while t.slots[at]:
        at = (at + 1) & t.mask
    t.slots[at] = <uint64_t>hash << 32 | id
    t.alive += 1
    return id


cdef void table_remove(Table* t, uint32_t id) noexcept nogil:
    """Forget a queue, its name, its tail and its index. Its id never comes back."""
    cdef Queue* q = &t.queues[id]
    cdef uint64_t at = q.hash & t.mask
    cdef uint64_t hole, home
    while <uint32_t>t.slots[at] != id:
        at = (at + 1) & t.mask
    hole = at
    while True:
        at = (at + 1) & t.mask
        if t.slots[at] == 0:
            break
        home = (t.slots[at] >> 32) & t.mask
        # It may move into the hole unless its home lies behind the hole.
        if ((at - home) & t.mask) >= ((at - hole) & t.mask):
            t.slots[hole] = t.slots[at]
            hole = at
    t.slots[hole] = 0
    tail_drop(t, q)
    index_free(t, q)
    if queue_name_length(q) > INLINE_NAME:
        t.name_bytes -= queue_name_length(q) + 16
        free((<char**>q.name)[0])
    memset(q, 0, sizeof(Queue))
    t.alive -= 1
