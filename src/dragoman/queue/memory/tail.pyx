"""Tails: messages of a queue that are in no block yet, in chunks of 256 bytes.

Called by the engine's puts, the log's writer, the journal and recovery, always under the store's
lock. A tail is a chain of chunks: memory is used as it grows, not by the block, which halves what a
million tails need. A tail that is long enough is detached: its chain goes to the ring of what the
log's writer has to write (``Pending``), and an entry of the index stands for it meanwhile.

Invariant: a chunk is in one tail, in one detached chain, or in one list: of those that are free, or
of those whose memory is about to go back to the system.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from dragoman.queue.memory.errors cimport DONE, NO_MEMORY, WAIT
from dragoman.queue.memory.index cimport index_append
from dragoman.queue.memory.layout cimport (
    BLOCK_MESSAGES_MAX, CHUNK_DATA, MIXED, PLACE_PENDING, QUEUE_DIRTY, RETIRE, RETIRE_LEAST,
    TAIL_RECORD_MAX, align_up, code_of_size, entry_of, varint_put, varint_size,
)
from dragoman.queue.memory.state cimport Chunk, Pending, Queue, Table
from dragoman.queue.memory.threads cimport prefetch

cdef extern from "sys/mman.h" nogil:
    int MADV_DONTNEED
    int madvise(void*, size_t, int)

# Chunks.


cdef inline uint32_t _chunk(Table* t) noexcept nogil:
    cdef uint32_t id
    if t.free_count == 0 and t.retiring:
        _end_retiring(t)
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


cdef void _end_retiring(Table* t) noexcept nogil:
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
    cdef uint32_t left = 0
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
            t.free[left] = t.free[i]
            left += 1
    t.free_count = left


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


# Tails.


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


cdef void tail_copy_part(
    Table* t, uint32_t head, uint64_t start, uint64_t n, char* into
) noexcept nogil:
    """``n`` of the chain's bytes from ``start`` on, all of which there are."""
    cdef uint64_t part
    while start >= CHUNK_DATA:
        head = t.chunks[head].next
        start -= CHUNK_DATA
    part = min(n, CHUNK_DATA - start)
    memcpy(into, t.chunks[head].data + start, part)
    if n > part:
        tail_copy(t, t.chunks[head].next, n - part, into + part)
