"""The log of blocks: one thread gathers tails into large writes.

``log_run`` is the writer's thread. It takes tails from the ring, copies them block by block into
one buffer of 4 MiB, and writes that when it is full; then it tells the queues where their blocks
are. A block that is not yet on the disk is read from the buffer.

Invariant: bytes of the buffer that an index entry points to never change until ``gather_start`` has
passed them.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.format.meta cimport meta_flush
from dragoman.queue.format.segments cimport Header, header_seal
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.layout cimport (
    BATCH, BLOCK_HEADER, CHUNK_DATA, FLAG_UNIFORM, GATHERED, OVERCOPY, PLACE_PENDING,
    PLACE_SLOT_SHIFT, QUEUE_ALIVE, align_up, block_cost, code_of_size, entry_count, entry_of,
    entry_place, entry_word, varint_size,
)
from dragoman.queue.memory.state cimport (
    SEGMENT_SEALED, SEGMENT_UNSETTLED, Chunk, Pending, Queue, Segment, Store, Table,
)
from dragoman.queue.memory.tail cimport chunks_give, chunks_shrink, tail_copy, tail_detach
from dragoman.queue.memory.threads cimport (
    SPIN_WRITER, cond_wait_ms, flag_set, prefetch, pthread_cond_broadcast, pthread_cond_wait,
    pthread_mutex_lock, pthread_mutex_trylock, pthread_mutex_unlock, spin_lock, unix_s,
)
from dragoman.queue.write.blocks cimport directory_add
from dragoman.queue.write.segment cimport (
    log_failed, segment_append, segment_flush, segment_make_room, segment_seal,
)

crc_prepare()

cdef uint64_t RETRY_MS = 50

cdef void _lock(Store* s) noexcept nogil:
    # Puts come without a pause and would not let a sleeper in: they are asked to (``wanted``).
    if pthread_mutex_trylock(&s.lock) == 0:
        return
    flag_set(&s.wanted, 1)
    if not spin_lock(&s.lock, SPIN_WRITER):
        pthread_mutex_lock(&s.lock)
    flag_set(&s.wanted, 0)


cdef inline void _prefetch_chunk(Table* t, uint32_t id) noexcept nogil:
    prefetch(&t.chunks[id])
    prefetch(<char*>&t.chunks[id] + 64)
    prefetch(<char*>&t.chunks[id] + 128)
    prefetch(<char*>&t.chunks[id] + 192)


cdef void _note_chunks(Store* s, Pending* p) noexcept nogil:
    # They go when the block is published: until then readers have the tail.
    cdef uint64_t left = (p.bytes + CHUNK_DATA - 1) // CHUNK_DATA
    cdef uint32_t id = p.head
    while left:
        s.freed[s.freed_count] = id
        s.freed_count += 1
        left -= 1
        if left:
            id = s.table.chunks[id].next


cdef uint32_t _strip(Store* s, Pending* p, char* into) noexcept nogil:
    # The messages of a uniform tail without their lengths, back to back.
    cdef Table* t = &s.table
    cdef uint64_t length = p.uniform - 1
    cdef uint64_t prefix = varint_size(length)
    cdef uint64_t record = prefix + length
    cdef uint64_t phase = 0
    cdef uint64_t left = p.bytes
    cdef uint64_t have, part
    cdef uint32_t id = p.head
    cdef Chunk* chunk
    cdef const char* data
    cdef char* at = into
    while left:
        chunk = &t.chunks[id]
        s.freed[s.freed_count] = id
        s.freed_count += 1
        have = left if left < CHUNK_DATA else CHUNK_DATA
        left -= have
        if left:
            id = chunk.next
            _prefetch_chunk(t, id)
        data = chunk.data
        while have:
            if phase == 0 and have >= record:
                # Messages that lie within the chunk.
                if prefix == 1 and length <= OVERCOPY:
                    # A copy of fixed length; what is too much of it is overwritten.
                    while have >= record:
                        memcpy(at, data + 1, OVERCOPY)
                        at += length
                        data += record
                        have -= record
                else:
                    while have >= record:
                        memcpy(at, data + prefix, length)
                        at += length
                        data += record
                        have -= record
                continue
            if phase < prefix:
                part = prefix - phase
                if part > have:
                    part = have
            else:
                part = record - phase
                if part > have:
                    part = have
                memcpy(at, data, part)
                at += part
            phase += part
            if phase == record:
                phase = 0
            data += part
            have -= part
    return <uint32_t>(at - into)


cdef inline void _copy_tail(Store* s, Pending* p, uint64_t payload, char* into) noexcept nogil:
    if p.uniform:
        _strip(s, p, into)
    else:
        tail_copy(&s.table, p.head, payload, into)
        _note_chunks(s, p)


cdef int _emit_tail(Store* s, Pending* p, Header* h) noexcept nogil:
    # The block of a tail: copied to its place in the buffer, or first together when it goes beyond.
    cdef uint64_t payload = h.length
    cdef uint64_t whole = BLOCK_HEADER + align_up(payload, 16)
    cdef char* into
    cdef int error
    if s.gather_fill + whole <= GATHERED:
        into = s.gather + s.gather_fill + BLOCK_HEADER
        _copy_tail(s, p, payload, into)
        memset(into + payload, 0, whole - BLOCK_HEADER - payload)
        h.payload_check = crc(0, into, payload)
        header_seal(h, s.number, s.gather_start + s.gather_fill)
        memcpy(into - BLOCK_HEADER, h, BLOCK_HEADER)
        s.gather_fill += whole
        return 0
    into = <char*>malloc(payload + OVERCOPY)
    if into == NULL:
        return log_failed(s, -ENOMEM, False)
    _copy_tail(s, p, payload, into)
    h.payload_check = crc(0, into, payload)
    error = segment_append(s, h, into, True)
    free(into)
    return error


cdef int _gather(Store* s, Pending* p) noexcept nogil:
    # One block. ``place`` is set, or a negative errno returned.
    cdef Header h
    cdef uint64_t at
    cdef int error
    memset(&h, 0, sizeof(h))
    h.queue = p.queue
    h.offset = p.first | <uint64_t>p.count << 48
    h.time_s = unix_s()
    if p.big != NULL or p.uniform:
        h.flags = FLAG_UNIFORM
    h.length = p.bytes if p.big != NULL or not p.uniform else <uint32_t>p.count * (p.uniform - 1)
    error = segment_make_room(s, BLOCK_HEADER + align_up(h.length, 16))
    if error < 0:
        return error
    at = s.gather_start + s.gather_fill
    if p.big != NULL:
        h.payload_check = crc(0, p.big, h.length)
        error = segment_append(s, &h, p.big, True)
    else:
        error = _emit_tail(s, p, &h)
    if error < 0:
        return error
    if directory_add(&s.directory, &h, at) != DONE:
        return log_failed(s, -ENOMEM, False)
    p.place = <uint64_t>s.slot << PLACE_SLOT_SHIFT | at // 16
    p.length = h.length
    return 0


cdef inline void _prefetch_entry(Queue* q) noexcept nogil:
    # Without the lock: what is read here may be changing, it only says what to prefetch.
    cdef uint64_t* index = q.index
    if index != NULL:
        prefetch(index)
        prefetch(index + entry_word(q.entries))


cdef void _publish(Store* s, Pending* p, uint64_t number) noexcept nogil:
    # Under the lock: the queue's entry, which may have been trimmed or deleted meanwhile.
    cdef Queue* q = &s.table.queues[p.queue]
    cdef uint32_t code = code_of_size(p.length)
    cdef Segment* segment = &s.segments[p.place >> PLACE_SLOT_SHIFT]
    cdef uint64_t* entry
    if (
        q.flags & QUEUE_ALIVE and q.index != NULL and p.block >= q.index[1]
        and p.block - q.index[1] < q.entries
    ):
        entry = &q.index[entry_word(<uint32_t>(p.block - q.index[1]))]
        if entry_place(entry[0]) == (PLACE_PENDING() | (number & s.table.ring_mask)):
            entry[0] = entry_of(p.place, code, entry_count(entry[0]))
            segment.live += block_cost(code)
    segment.newest_s = unix_s()
    if p.big != NULL:
        free(p.big)
        s.table.ring[number & s.table.ring_mask].big = NULL
    s.table.ring_bytes -= p.bytes
    s.blocks_written += 1
    s.block_messages += p.count


cdef void log_published(Store* s) noexcept nogil:
    """Under the lock: the queues know of all blocks of the segments that were sealed."""
    cdef uint32_t i
    for i in range(s.slots_top):
        if s.segments[i].state == SEGMENT_UNSETTLED:
            s.segments[i].state = SEGMENT_SEALED


cdef void _evict(Store* s) noexcept nogil:
    # Under the lock: tails use more than they may. Every queue in turn gives what is worth a block.
    cdef Table* t = &s.table
    cdef uint64_t looked = 0
    cdef Queue* q
    while (
        t.chunks_used * 256 > s.tail_bytes_max and looked < 4096
        and t.ring_tail - t.ring_head < t.ring_size // 2
    ):
        if s.swept == 0 or s.swept >= t.ids:
            s.swept = 1
        if s.swept >= t.ids:
            return
        q = &t.queues[s.swept]
        if q.count and q.bytes * 2 >= t.limit:
            if tail_detach(t, <uint32_t>s.swept) != DONE:
                return
            s.swept_blocks += 1
        s.swept += 1
        looked += 1


cdef void log_adapt(Store* s) noexcept nogil:
    """Under the lock: how long blocks may get, by what memory there is and who shares it."""
    cdef Table* t = &s.table
    cdef uint64_t fixed, share, most
    # The allocator takes up to three quarters more for indexes that grow than is in them.
    fixed = (
        t.ids * sizeof(Queue) + (t.mask + 1) * 8 + t.index_bytes * 7 // 4 + t.name_bytes
        + s.cache_bytes + GATHERED + s.directory.capacity + t.ring_bytes
    )
    most = s.memory - fixed if s.memory > fixed else 0
    # Every queue needs a chunk.
    if most < <uint64_t>t.alive * 384:
        most = <uint64_t>t.alive * 384
    if most < 16777216:
        most = 16777216
    s.tail_bytes_max = most
    chunks_shrink(t, most)
    # On average a tail is half full, and half of its last chunk is empty.
    share = most // (t.alive if t.alive else 1)
    share = 2 * (share - 128) if share > 384 else 512
    share = share * 15 // 16
    if share > 65536:
        share = 65536
    if share < 512:
        share = 512
    if (
        share < 65536 and t.chunks_used * 256 < most // 2
        and t.message_bytes > 4 * most and s.blocks_written > 2 * t.alive
    ):
        # Many queues are seldom written to: the others may have their memory.
        if t.limit < 65536:
            t.limit += (t.limit >> 4) + 16
    elif t.limit > share and t.message_bytes > 4 * most:
        t.limit -= t.limit >> 4
    else:
        t.limit = <uint32_t>share
    if t.limit < share:
        t.limit = <uint32_t>share
    if t.limit > 65536:
        t.limit = 65536


cdef int _write_meta(Store* s) noexcept nogil:
    # META has what blocks refer to before they are written.
    cdef int error
    while s.meta.length:
        error = meta_flush(s, False)
        if error == 0:
            break
        error = log_failed(s, error, True)
        if error < 0:
            return error
    return 0


cdef int _gather_batch(Store* s, Pending* batch, uint64_t* n) noexcept nogil:
    # Up to the first that fails, whose number ``n`` is then.
    cdef Table* t = &s.table
    cdef uint64_t i
    cdef uint32_t freed = 0
    cdef int error
    for i in range(n[0]):
        if i + 2 < n[0] and batch[i + 2].big == NULL:
            _prefetch_chunk(t, batch[i + 2].head)
        error = _gather(s, &batch[i])
        if error < 0:
            # What is known of its chunks is forgotten: it stays in the ring.
            s.freed_count = freed
            n[0] = i
            return error
        freed = s.freed_count
        prefetch(&t.queues[batch[i].queue])
    return 0


cdef void _end(Store* s) noexcept nogil:
    # Under the lock, which is let go of meanwhile: the writer writes no more.
    if s.closing and not s.poison and s.log_error == 0 and not s.read_only:
        # A store that was closed in order need not be scanned, and what is cut from it is damage.
        pthread_mutex_unlock(&s.lock)
        segment_seal(s, False)
        pthread_mutex_lock(&s.lock)
    s.writer_alive = False
    s.flush_done = s.flush_asked
    pthread_cond_broadcast(&s.space)


cdef void _publish_batch(Store* s, Pending* batch, uint64_t n) noexcept nogil:
    # Under the lock: queues know of their blocks, and the ring has room.
    cdef Table* t = &s.table
    cdef uint64_t i
    for i in range(n):
        _publish(s, &batch[i], t.ring_head + i)
    chunks_give(t, s.freed, s.freed_count)
    s.freed_count = 0
    t.ring_head += n


cdef void log_run(Store* s) noexcept nogil:
    """The writer's thread, until the store closes."""
    cdef Pending batch[BATCH]
    cdef Table* t = &s.table
    cdef uint64_t n, i, adapted = 0
    cdef uint64_t asked = s.flush_done
    cdef uint64_t barrier = 0
    cdef uint64_t sealed = s.number
    cdef int error
    pthread_mutex_lock(&s.lock)
    while True:
        while t.ring_head == t.ring_tail and s.flush_asked == s.flush_done and not s.closing:
            pthread_cond_wait(&s.work, &s.lock)
        n = t.ring_tail - t.ring_head
        if s.flush_asked != s.flush_done:
            # Up to what was there when it was asked for: puts without a pause must not hold it up.
            if asked == s.flush_done:
                asked = s.flush_asked
                barrier = t.ring_tail
            n = min(n, barrier - t.ring_head)
        n = min(n, <uint64_t>BATCH)
        if n == 0 and s.flush_asked == s.flush_done:
            break  # closing
        for i in range(n):
            batch[i] = t.ring[(t.ring_head + i) & t.ring_mask]
        pthread_mutex_unlock(&s.lock)
        s.freed_count = 0
        error = _write_meta(s)
        if error < 0:
            n = 0
        else:
            error = _gather_batch(s, batch, &n)
        if n == 0 and error == 0:
            error = segment_flush(s)
        for i in range(n):
            _prefetch_entry(&t.queues[batch[i].queue])
        _lock(s)
        _publish_batch(s, batch, n)
        if sealed != s.number:
            sealed = s.number
            log_published(s)
        if n == 0 and (error == 0 or s.closing or s.poison):
            s.flush_done = asked
        if error < 0:
            s.log_error = -error
            if s.closing or s.poison:
                break
            s.flush_done = asked
            pthread_cond_broadcast(&s.space)
            cond_wait_ms(&s.work, &s.lock, RETRY_MS)
        elif n == 0:
            s.log_error = 0
        if s.blocks_written - adapted >= 1024 or n == 0:
            adapted = s.blocks_written
            log_adapt(s)
        if t.chunks_used * 256 > s.tail_bytes_max:
            _evict(s)
        pthread_cond_broadcast(&s.space)
    _end(s)
    pthread_mutex_unlock(&s.lock)
