"""Queues in memory: names, tails and the index of blocks. Knows nothing of files.

Called by the engine, the log and recovery, always under the store's lock. A queue is one cache
line. Its tail is a chain of chunks of 256 bytes: memory is used as a tail grows, not by the block,
which halves what a million tails need. Its index is one allocation of 64-bit words:

    word 0   first offset that is still there
    word 1   entries removed from the front over the queue's life
    then groups: the first offset of the group's first block, and up to 63 entries

so that finding an offset is a binary search over groups and a walk of at most 63 words. Blocks
follow each other: a block's first offset is its base plus the messages of those before it.

Invariant: a queue's messages are those of its entries, in order, then those of its tail; what a
damaged disk lost is an entry whose place is LOST.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from posix.mman cimport (
    MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap
)

from dragoman.queue.memory.errors cimport DONE, NO_MEMORY, WAIT
from dragoman.queue.memory.layout cimport (
    BLOCK_MESSAGES_MAX, CHUNK_DATA, GROUP, INLINE_NAME, MIXED, PLACE_PENDING, QUEUE_ALIVE,
    QUEUE_DIRTY, RETIRE, RETIRE_LEAST, RING, RING_BYTES_MAX, TAIL_RECORD_MAX, align_up,
    code_of_size, entry_count, entry_of, entry_word, varint_put, varint_size,
)
from dragoman.queue.memory.state cimport (
    Bytes, Chunk, Pending, Queue, Table, queue_name, queue_name_length,
)
from dragoman.queue.memory.threads cimport prefetch

cdef extern from "sys/mman.h" nogil:
    int MADV_DONTNEED
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

# Reserved, not used: pages come as they are touched.
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
    if q.index != NULL:
        t.index_bytes -= _index_capacity(_index_words(q.entries)) * 8
        free(q.index)
    if queue_name_length(q) > INLINE_NAME:
        t.name_bytes -= queue_name_length(q) + 16
        free((<char**>q.name)[0])
    memset(q, 0, sizeof(Queue))
    t.alive -= 1


# Chunks and tails.


cdef inline uint32_t _chunk(Table* t) noexcept nogil:
    cdef uint32_t id
    if t.free_count == 0 and t.retiring:
        _keep_all(t)
    if t.free_count:
        t.free_count -= 1
        id = t.free[t.free_count]
        if t.free_count > 4:
            prefetch(&t.chunks[t.free[t.free_count - 4]])
    elif t.chunks_top < t.chunks_max:
        id = t.chunks_top
        t.chunks_top += 1
    else:
        return 0
    t.chunks_used += 1
    return id


cdef inline void _give(Table* t, uint32_t id) noexcept nogil:
    if t.retiring and id >= t.retiring:
        t.retired[t.retired_count] = id
        t.retired_count += 1
    else:
        t.free[t.free_count] = id
        t.free_count += 1


cdef void _keep_all(Table* t) noexcept nogil:
    # Chunks are needed after all.
    while t.retired_count:
        t.retired_count -= 1
        t.free[t.free_count] = t.retired[t.retired_count]
        t.free_count += 1
    t.retiring = 0


cdef void chunks_shrink(Table* t, uint64_t bytes_max) noexcept nogil:
    """Let memory go that tails, which may have ``bytes_max`` now, do not use any more.

    The topmost chunks are not lent again; when the last of them has come back, which takes as long
    as the tails that are there need to become blocks, their pages go back to the system.
    """
    cdef uint64_t top, end, i
    cdef uint32_t kept = 0
    cdef uint32_t part
    if t.retiring:
        if t.retired_count < t.chunks_top - t.retiring:
            return
        end = <uint64_t>t.chunks_top * sizeof(Chunk)
        if t.touched > end:
            end = t.touched
        top = align_up(<uint64_t>t.retiring * sizeof(Chunk), 4096)
        if end > top:
            madvise(<char*>t.chunks + top, align_up(end - top, 4096), MADV_DONTNEED)
        t.touched = 0
        t.chunks_top = t.retiring
        t.retired_count = 0
        t.retiring = 0
    part = t.chunks_top // 16
    if part > RETIRE:
        part = RETIRE
    if part < RETIRE_LEAST:
        return
    if (
        <uint64_t>(t.chunks_top - part) * sizeof(Chunk) < bytes_max or t.free_count < 2 * part
    ):
        return
    t.retiring = t.chunks_top - part
    for i in range(t.free_count):
        if t.free[i] >= t.retiring:
            t.retired[t.retired_count] = t.free[i]
            t.retired_count += 1
        else:
            t.free[kept] = t.free[i]
            kept += 1
    t.free_count = kept


cdef void chunks_give(Table* t, const uint32_t* ids, uint32_t n) noexcept nogil:
    """Give back chunks that were ``n`` in a list."""
    cdef uint32_t i
    t.chunks_used -= n
    if t.retiring:
        for i in range(n):
            _give(t, ids[n - 1 - i])
        return
    # The last first, so that they go out again in the order in which they came.
    for i in range(n):
        t.free[t.free_count + i] = ids[n - 1 - i]
    t.free_count += n


cdef void chunks_free(Table* t, uint32_t head, uint64_t n) noexcept nogil:
    """Give back the chain that holds ``n`` bytes."""
    cdef uint64_t count = (n + CHUNK_DATA - 1) // CHUNK_DATA
    t.chunks_used -= count
    while count:
        count -= 1
        _give(t, head)
        if count:
            head = t.chunks[head].next


cdef int _spill(Table* t, Queue* q, const char* data, size_t n) noexcept nogil:
    # Append where the last chunk may be too short.
    cdef size_t room, part
    cdef uint32_t id
    while n:
        room = CHUNK_DATA - q.used if q.cur else 0
        if room == 0:
            id = _chunk(t)
            if id == 0:
                return NO_MEMORY
            if q.cur:
                t.chunks[q.cur].next = id
            else:
                q.head = id
            q.cur = id
            q.used = 0
            room = CHUNK_DATA
        part = n if n < room else room
        memcpy(t.chunks[q.cur].data + q.used, data, part)
        q.used += <unsigned char>part
        data += part
        n -= part
    return DONE


cdef int tail_put_record(Table* t, Queue* q, const char* message, size_t n) noexcept nogil:
    """Append to the tail, which has room by every bound. DONE or NO_MEMORY."""
    cdef char length[8]
    cdef uint32_t prefix
    cdef uint64_t chunks
    if n < 128 and q.cur and q.used + n + 1 <= CHUNK_DATA:
        t.chunks[q.cur].data[q.used] = <char>n
        memcpy(t.chunks[q.cur].data + q.used + 1, message, n)
        q.used += <unsigned char>(n + 1)
        prefix = 1
    else:
        # All or nothing: chunks first.
        prefix = varint_put(length, n)
        chunks = (prefix + n) // CHUNK_DATA + 2
        if t.free_count + <uint64_t>(t.chunks_max - t.chunks_top) < chunks:
            return NO_MEMORY
        _spill(t, q, length, prefix)
        _spill(t, q, message, n)
    if q.count == 0:
        q.uniform = <uint16_t>(n + 1)
    elif q.uniform != n + 1:
        q.uniform = MIXED
    q.count += 1
    q.bytes += <uint32_t>(prefix + n)
    q.next += 1
    q.flags |= QUEUE_DIRTY
    return DONE


cdef inline uint32_t _limit(Table* t, Queue* q, uint32_t id) noexcept nogil:
    # The first block of a queue is cut anywhere: so queues that are written to in step do not all
    # have full tails at the same time.
    cdef uint32_t part
    if q.entries or q.index != NULL:
        return t.limit
    part = (id * 2654435761u) >> 20  # 12 bits
    return 256 + ((t.limit - 256) * part >> 12 if t.limit <= 65536 else t.limit)


cdef int tail_put(Table* t, uint32_t id, const char* message, size_t n) noexcept nogil:
    """Put one message. DONE, NO_MEMORY, or WAIT: the writer must first make room."""
    cdef Queue* q = &t.queues[id]
    cdef uint64_t record = n + varint_size(n)
    cdef Pending* p
    cdef int result
    if record > TAIL_RECORD_MAX:
        if q.count:
            result = tail_detach(t, id)
            if result != DONE:
                return result
        if t.ring_tail - t.ring_head >= t.ring_size or t.ring_bytes > t.ring_bytes_max:
            return WAIT
        p = &t.ring[t.ring_tail & t.ring_mask]
        p.big = <char*>malloc(n)
        if p.big == NULL:
            return NO_MEMORY
        memcpy(p.big, message, n)
        p.queue = id
        p.head = 0
        p.bytes = <uint32_t>n
        p.count = 1
        p.uniform = MIXED
        p.first = q.next
        p.block = (q.index[1] if q.index != NULL else 0) + q.entries
        if index_append(t, q, q.next, entry_of(
            PLACE_PENDING() | (t.ring_tail & t.ring_mask), code_of_size(n), 1
        )) != DONE:
            free(p.big)
            return NO_MEMORY
        q.next += 1
        q.flags |= QUEUE_DIRTY
        t.ring_tail += 1
        t.ring_bytes += n
        return DONE
    if q.count and (
        q.bytes + record > _limit(t, q, id) or q.count == BLOCK_MESSAGES_MAX
    ):
        result = tail_detach(t, id)
        if result != DONE:
            return result
    return tail_put_record(t, q, message, n)


cdef int tail_detach(Table* t, uint32_t id) noexcept nogil:
    """Give the tail, which is not empty, to the log's writer. DONE, WAIT or NO_MEMORY."""
    cdef Queue* q = &t.queues[id]
    cdef Pending* p
    if t.ring_tail - t.ring_head >= t.ring_size or t.ring_bytes > t.ring_bytes_max:
        return WAIT
    p = &t.ring[t.ring_tail & t.ring_mask]
    p.queue = id
    p.head = q.head
    p.bytes = q.bytes
    p.count = q.count
    p.uniform = q.uniform
    p.first = q.next - q.count
    p.block = (q.index[1] if q.index != NULL else 0) + q.entries
    p.big = NULL
    if index_append(t, q, p.first, entry_of(
        PLACE_PENDING() | (t.ring_tail & t.ring_mask), code_of_size(q.bytes), q.count
    )) != DONE:
        return NO_MEMORY
    t.ring_tail += 1
    t.ring_bytes += q.bytes
    q.head = q.cur = 0
    q.bytes = 0
    q.count = 0
    q.used = 0
    q.birth = 0
    return DONE


cdef void tail_drop(Table* t, Queue* q) noexcept nogil:
    """Forget the tail's messages."""
    if q.count:
        chunks_free(t, q.head, q.bytes)
    q.head = q.cur = 0
    q.bytes = 0
    q.count = 0
    q.used = 0
    q.birth = 0


cdef void tail_copy(Table* t, uint32_t head, uint64_t n, char* into) noexcept nogil:
    """The chain's first ``n`` bytes in one piece."""
    cdef uint64_t part
    cdef Chunk* chunk
    while n:
        chunk = &t.chunks[head]
        part = n if n < CHUNK_DATA else CHUNK_DATA
        n -= part
        if n:
            head = chunk.next
            prefetch(&t.chunks[head])
        memcpy(into, chunk.data, part)
        into += part


# The index.


cdef inline uint64_t _index_words(uint64_t entries) noexcept nogil:
    return 2 + entries + (entries + GROUP - 1) // GROUP


cdef inline uint64_t _index_capacity(uint64_t words) noexcept nogil:
    # Small ones fill an allocator's block; large ones grow by an eighth at most.
    cdef uint64_t grain = 2
    while grain * 16 < words:
        grain *= 2
    words = (words + grain) // grain * grain
    return words - 1 if words < 4096 else words


cdef int index_append(Table* t, Queue* q, uint64_t first, uint64_t entry) noexcept nogil:
    """Add an entry whose first message is ``first``. DONE or NO_MEMORY."""
    cdef uint64_t old = _index_capacity(_index_words(q.entries)) if q.index != NULL else 0
    cdef uint64_t new = _index_capacity(_index_words(q.entries + 1))
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
        q.index = <uint64_t*>malloc(_index_capacity(2) * 8)
        if q.index == NULL:
            return NO_MEMORY
        q.index[1] = 0
        t.index_bytes += _index_capacity(2) * 8
    q.index[0] = first
    return DONE


cdef void index_rebuild(Table* t, Queue* q, uint32_t removed) noexcept nogil:
    """Drop the first ``removed`` entries."""
    cdef uint32_t i
    cdef uint64_t offset, entry, old, new
    cdef uint64_t* words
    if removed == 0:
        return
    old = _index_capacity(_index_words(q.entries))
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
    new = _index_capacity(_index_words(q.entries))
    if new != old:
        words = <uint64_t*>realloc(q.index, new * 8)
        if words != NULL:
            q.index = words
        t.index_bytes -= (old - new) * 8


cdef void index_cut(Table* t, Queue* q, uint32_t entries) noexcept nogil:
    """Drop entries at the end that have been moved to the front of others'."""
    cdef uint64_t old = _index_capacity(_index_words(q.entries))
    cdef uint64_t new = _index_capacity(_index_words(entries))
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


# Growing buffers.


cdef int bytes_reserve(Bytes* b, size_t more) noexcept nogil:
    """Room for ``more`` bytes behind ``length``. DONE or NO_MEMORY."""
    cdef size_t capacity = b.capacity if b.capacity else 4096
    cdef char* data
    if b.length + more <= b.capacity:
        return DONE
    while capacity < b.length + more:
        capacity *= 2
    data = <char*>realloc(b.data, capacity)
    if data == NULL:
        return NO_MEMORY
    b.data = data
    b.capacity = capacity
    return DONE


cdef int bytes_add(Bytes* b, const void* data, size_t n) noexcept nogil:
    """Append. DONE or NO_MEMORY."""
    if bytes_reserve(b, n) != DONE:
        return NO_MEMORY
    memcpy(b.data + b.length, data, n)
    b.length += n
    return DONE
