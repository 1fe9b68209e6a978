"""The log of blocks: one thread gathers tails into large writes.

``log_run`` is the writer's thread. It takes tails from the ring, copies them block by block into
one buffer of 4 MiB, and writes that when it is full; then it tells the queues where their blocks
are. A block that is not yet on the disk is read from the buffer.

Invariants: only the writer's thread moves ``gather_*``, and under the lock; bytes of the buffer
that an index entry points to never change until ``gather_start`` has passed them; a segment is
sealed and synced before the next one exists.
"""

from libc.errno cimport EEXIST, ENOMEM, ENOSPC
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_CREAT, O_EXCL, O_RDWR

from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.format.meta cimport meta_dropped, meta_flush
from dragoman.queue.format.segments cimport Header, file_name, header_seal, slot_of
from dragoman.queue.memory.buffer cimport bytes_add
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.layout cimport (
    BATCH, BLOCK_HEADER, CHUNK_DATA, DIRECTORY_ENTRY, FILE_NAME, FLAG_UNIFORM, GATHERED,
    KIND_DIRECTORY, KIND_MARK, KIND_PADDING, KIND_TRAILER, OVERCOPY, PLACE_PENDING,
    PLACE_SLOT_SHIFT, QUEUE_ALIVE, SECTOR, align_up, block_cost, code_of_size, entry_count,
    entry_of, entry_place, entry_word, varint_size,
)
from dragoman.queue.memory.state cimport (
    SEGMENT_SEALED, SEGMENT_UNSETTLED, SEGMENT_WRITING, Chunk, Pending, Queue, Segment, Store,
    Table,
)
from dragoman.queue.memory.tail cimport chunks_give, chunks_shrink, tail_copy, tail_detach
from dragoman.queue.memory.threads cimport (
    SPIN_WRITER, cond_wait_ms, flag_set, prefetch, pthread_cond_broadcast, pthread_cond_wait,
    pthread_mutex_lock, pthread_mutex_trylock, pthread_mutex_unlock, spin_lock, unix_s,
)

cdef extern from "fcntl.h" nogil:
    int O_DIRECT

crc_prepare()

cdef uint64_t RETRY_MS = 50
# No file has a higher number (see ``replay``).
cdef uint64_t NUMBER_TOP = 0xFFF00000


# Writing. All of this runs in the writer's thread, without the lock unless said.


cdef int _failed(Store* s, int error, bint patient) noexcept nogil:
    # Tell those who wait, then wait before trying again. 0: try again.
    cdef int result = 0
    pthread_mutex_lock(&s.lock)
    s.log_error = -error
    pthread_cond_broadcast(&s.space)
    if not patient or s.closing or s.poison:
        result = error
    else:
        cond_wait_ms(&s.work, &s.lock, RETRY_MS)
    pthread_mutex_unlock(&s.lock)
    return result


cdef int _write_out(Store* s, bint patient) noexcept nogil:
    # The buffer holds whole sectors. It stays as it is until the disk has taken it.
    cdef int error
    if s.gather_fill == 0:
        return 0
    while True:
        error = s.disk.write(
            s.disk, s.segments[s.slot].fd, s.gather, s.gather_fill, s.gather_start
        )
        if error == 0:
            break
        error = _failed(s, error, patient)
        if error < 0:
            return error
    pthread_mutex_lock(&s.lock)
    s.log_written += s.gather_fill
    s.gather_start += s.gather_fill
    s.gather_fill = 0
    s.mark_due = True
    s.log_error = 0
    s.segments[s.slot].length = s.gather_start
    pthread_mutex_unlock(&s.lock)
    return 0


cdef int _emit(Store* s, const char* data, uint64_t n, bint patient) noexcept nogil:
    # NULL stands for zeros.
    cdef uint64_t part
    cdef int error
    while n:
        if s.gather_fill == GATHERED:
            error = _write_out(s, patient)
            if error < 0:
                return error
        part = GATHERED - s.gather_fill
        if part > n:
            part = n
        if data != NULL:
            memcpy(s.gather + s.gather_fill, data, part)
            data += part
        else:
            memset(s.gather + s.gather_fill, 0, part)
        s.gather_fill += part
        n -= part
    return 0


cdef int _emit_block(
    Store* s, Header* h, const char* payload, bint patient
) noexcept nogil:
    # The checksum of the payload is in the header already.
    cdef int error
    header_seal(h, s.number, s.gather_start + s.gather_fill)
    error = _emit(s, <char*>h, BLOCK_HEADER, patient)
    if error == 0:
        error = _emit(s, payload, h.length, patient)
    if error == 0:
        error = _emit(s, NULL, align_up(h.length, 16) - h.length, patient)
    return error


cdef int _emit_special(
    Store* s, uint8_t kind, uint64_t value, const char* payload, uint32_t n, bint patient
) noexcept nogil:
    cdef Header h
    cdef char zeros[4096]
    cdef uint64_t left = n
    memset(&h, 0, sizeof(h))
    h.kind = kind
    h.offset = value
    h.length = n
    h.time_s = unix_s()
    if payload != NULL:
        h.payload_check = crc(0, payload, n)
    elif n:
        memset(zeros, 0, 4096)
        while left:
            h.payload_check = crc(h.payload_check, zeros, left if left < 4096 else 4096)
            left -= left if left < 4096 else 4096
    return _emit_block(s, &h, payload, patient)


cdef int _pad(Store* s, uint64_t behind, bint patient) noexcept nogil:
    # Padding so that the position plus ``behind`` is a whole sector.
    cdef uint64_t gap = (SECTOR - (s.gather_fill + behind) % SECTOR) % SECTOR
    if gap == 0:
        return 0
    if gap < BLOCK_HEADER:
        gap += SECTOR
    return _emit_special(s, KIND_PADDING, 0, NULL, <uint32_t>(gap - BLOCK_HEADER), patient)


cdef int _begin(Store* s, bint patient) noexcept nogil:
    # The next segment.
    cdef char name[FILE_NAME]
    cdef char header[64]
    cdef int fd, slot, error
    cdef uint64_t number = s.number + 1
    cdef uint32_t check
    while True:
        file_name(number, b"seg", name)
        fd = s.disk.open(
            s.disk, name, O_RDWR | O_CREAT | O_EXCL | (O_DIRECT if s.direct else 0)
        )
        if fd == -EEXIST and number < NUMBER_TOP:
            # It is none of ours: the number counts as that of a segment that is no more.
            pthread_mutex_lock(&s.lock)
            error = 0 if meta_dropped(s, number) == DONE else -ENOMEM
            pthread_mutex_unlock(&s.lock)
            if error == 0:
                error = meta_flush(s, True)
            if error == 0:
                number += 1
                continue
            fd = error
        if fd >= 0:
            error = s.disk.sync_directory(s.disk)
            if error == 0:
                break
            s.disk.close(s.disk, fd)
            s.disk.unlink(s.disk, name)
            fd = error
        error = _failed(s, fd, patient)
        if error < 0:
            return error
    pthread_mutex_lock(&s.lock)
    slot = slot_of(s)
    if slot < 0:
        pthread_mutex_unlock(&s.lock)
        s.disk.close(s.disk, fd)
        s.disk.unlink(s.disk, name)
        return _failed(s, -ENOSPC, False)
    s.segments[slot].number = number
    s.segments[slot].fd = fd
    s.segments[slot].state = SEGMENT_WRITING
    s.open_files += 1
    s.number = number
    s.slot = slot
    s.gather_start = 0
    s.gather_fill = 0
    s.mark_due = False
    s.directory.length = 0
    pthread_mutex_unlock(&s.lock)
    memset(header, 0, 64)
    memcpy(header, b"DRGQSEGM", 8)
    header[8] = 1
    memcpy(header + 16, s.identity, 16)
    memcpy(header + 32, &number, 8)
    check = crc(0, header, 60)
    memcpy(header + 60, &check, 4)
    _emit(s, header, 64, patient)
    return _emit_special(s, KIND_MARK, s.synced, NULL, 0, patient)


cdef int _sync(Store* s) noexcept nogil:
    # What was written of this segment is on the disk, or the store is poisoned.
    cdef int error
    if s.poison:
        return -s.poison
    error = s.disk.sync(s.disk, s.segments[s.slot].fd)
    pthread_mutex_lock(&s.lock)
    s.syncs += 1
    if error < 0:
        s.poison = -error
        pthread_cond_broadcast(&s.space)
        pthread_cond_broadcast(&s.durable)
    else:
        s.synced = s.number << 32 | s.gather_start
    pthread_mutex_unlock(&s.lock)
    return error


cdef int log_seal(Store* s, bint patient) noexcept nogil:
    """End the segment that is being written with its directory and trailer, and sync it."""
    cdef uint64_t at
    cdef int error
    if s.slot < 0:
        return 0
    at = s.gather_start + s.gather_fill
    error = _emit_special(
        s, KIND_DIRECTORY, s.directory.length // DIRECTORY_ENTRY, s.directory.data,
        <uint32_t>s.directory.length, patient
    )
    if error == 0:
        error = _pad(s, BLOCK_HEADER, patient)
    if error == 0:
        error = _emit_special(s, KIND_TRAILER, at, NULL, 0, patient)
    if error == 0:
        error = _write_out(s, patient)
    if error == 0:
        error = _sync(s)
    if error < 0:
        return error
    pthread_mutex_lock(&s.lock)
    # Queues may not know yet of its last blocks: it must not be taken for dead.
    s.segments[s.slot].state = SEGMENT_UNSETTLED
    s.slot = -1
    s.directory.length = 0
    pthread_mutex_unlock(&s.lock)
    return 0


cdef int _flush(Store* s) noexcept nogil:
    # All that was gathered is on the disk.
    cdef int error
    if s.slot < 0:
        return 0
    if s.gather_fill:
        error = _pad(s, 0, False)
        if error == 0:
            error = _write_out(s, False)
        if error < 0:
            return error
    if s.synced == (s.number << 32 | s.gather_start):
        return 0
    return _sync(s)


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


cdef int _make_room(Store* s, uint64_t whole) noexcept nogil:
    # There is a segment with room for a block of ``whole`` bytes; it has the mark that is due.
    cdef int error
    # Segment, its directory with this block in it, padding and trailer.
    if s.slot >= 0 and s.directory.length and (
        s.gather_start + s.gather_fill + whole + 32 + s.directory.length + DIRECTORY_ENTRY
        + BLOCK_HEADER + 2 * SECTOR > s.segment_bytes
    ):
        error = log_seal(s, True)
        if error < 0:
            return error
    if s.slot < 0:
        error = _begin(s, True)
        if error < 0:
            return error
    if s.mark_due:
        s.mark_due = False
        error = _emit_special(s, KIND_MARK, s.synced, NULL, 0, True)
        if error < 0:
            return error
    if s.gather_fill == GATHERED:
        return _write_out(s, True)
    return 0


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
        return _failed(s, -ENOMEM, False)
    _copy_tail(s, p, payload, into)
    h.payload_check = crc(0, into, payload)
    error = _emit_block(s, h, into, True)
    free(into)
    return error


cdef int _gather(Store* s, Pending* p) noexcept nogil:
    # One block. ``place`` is set, or a negative errno returned.
    cdef Header h
    cdef uint64_t at
    cdef int error
    cdef unsigned char entry[24]
    cdef uint32_t place16
    memset(&h, 0, sizeof(h))
    h.queue = p.queue
    h.offset = p.first | <uint64_t>p.count << 48
    h.time_s = unix_s()
    if p.big != NULL or p.uniform:
        h.flags = FLAG_UNIFORM
    h.length = p.bytes if p.big != NULL or not p.uniform else <uint32_t>p.count * (p.uniform - 1)
    error = _make_room(s, BLOCK_HEADER + align_up(h.length, 16))
    if error < 0:
        return error
    at = s.gather_start + s.gather_fill
    if p.big != NULL:
        h.payload_check = crc(0, p.big, h.length)
        error = _emit_block(s, &h, p.big, True)
    else:
        error = _emit_tail(s, p, &h)
    if error < 0:
        return error
    place16 = <uint32_t>(at // 16)
    memcpy(entry, &h.offset, 8)
    memcpy(entry + 8, &h.queue, 4)
    memcpy(entry + 12, &place16, 4)
    memcpy(entry + 16, &h.length, 4)
    memcpy(entry + 20, &h.time_s, 4)
    if bytes_add(&s.directory, entry, 24) != DONE:
        return _failed(s, -ENOMEM, False)
    p.place = <uint64_t>s.slot << PLACE_SLOT_SHIFT | place16
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
        error = _failed(s, error, True)
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
        log_seal(s, False)
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
            error = _flush(s)
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
