"""The new segment of a compaction: what is alive of some old ones, read and written again.

Called by compaction, with the old segments held open. Blocks are read in the order of the old
directories, gathered up to a bound, sorted by queue, and those of a queue that follow each other
become one. It never goes faster than it is told to, and stops when the store closes.

Invariant: every block is checked before it is copied; memory is bounded by the caller's setting and
24 bytes for each block of the new segment.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcpy, memset
from posix.unistd cimport usleep

from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.format.meta cimport meta_flush
from dragoman.queue.format.segments cimport Header, header_seal, header_valid
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.index cimport index_find
from dragoman.queue.memory.layout cimport (
    BLOCK_HEADER, BLOCK_MESSAGES_MAX, DIRECTORY_ENTRY, FLAG_UNIFORM, KIND_DIRECTORY, KIND_MESSAGES,
    KIND_PADDING, KIND_TRAILER, PLACE_SLOT_SHIFT, QUEUE_ALIVE, SECTOR, align_up, entry_place,
    entry_word, varint_put,
)
from dragoman.queue.memory.state cimport Queue, Segment
from dragoman.queue.memory.threads cimport (
    flag, monotonic_ms, pthread_mutex_lock, pthread_mutex_unlock,
)
from dragoman.queue.write.blocks cimport (
    directory_add, padding_bytes, segment_header, special_header,
)

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

crc_prepare()

cdef enum:
    READ_BYTES = 1048576
    MERGED_MOST = 16384  # bytes of payload of a block made of several

cdef uint64_t OFFSET_MASK = (1ULL << 48) - 1


cdef int _by_offset(const void* a, const void* b) noexcept nogil:
    cdef const Living* x = <const Living*>a
    cdef const Living* y = <const Living*>b
    if x.queue != y.queue:
        return -1 if x.queue < y.queue else 1
    return -1 if x.first < y.first else 1 if x.first > y.first else 0


cdef int _moved(Run* r, uint64_t n) noexcept nogil:
    # So many bytes were read or written: wait until they might have been. STOPPED when closing.
    cdef uint64_t due, now
    r.moved += n
    while True:
        if r.store.closing or flag(&r.store.leaving) or r.store.poison:
            return STOPPED
        if r.bytes_s == 0:
            return 0
        due = r.began_ms + r.moved * 1000 // r.bytes_s
        now = monotonic_ms()
        if now >= due:
            return 0
        usleep(<unsigned int>(1000 * (due - now if due - now < 50 else 50)))


# Writing.


cdef int _write_out(Run* r) noexcept nogil:
    cdef int error
    if r.out_fill == 0:
        return 0
    error = r.store.disk.write(r.store.disk, r.fd, r.out, r.out_fill, r.out_start)
    if error < 0:
        return error
    r.out_start += r.out_fill
    error = _moved(r, r.out_fill)
    r.out_fill = 0
    return error


cdef int _emit(Run* r, const char* data, uint64_t n) noexcept nogil:
    # NULL stands for zeros.
    cdef uint64_t part
    cdef int error
    while n:
        if r.out_fill == OUT_BYTES:
            error = _write_out(r)
            if error:
                return error
        part = OUT_BYTES - r.out_fill
        if part > n:
            part = n
        if data != NULL:
            memcpy(r.out + r.out_fill, data, part)
            data += part
        else:
            memset(r.out + r.out_fill, 0, part)
        r.out_fill += part
        n -= part
    return 0


cdef int _emit_block(Run* r, Header* h, const char* payload) noexcept nogil:
    # Its payload's checksum is in the header already.
    cdef int error
    header_seal(h, r.number, r.out_start + r.out_fill)
    error = _emit(r, <char*>h, BLOCK_HEADER)
    if error == 0:
        error = _emit(r, payload, h.length)
    if error == 0:
        error = _emit(r, NULL, align_up(h.length, 16) - h.length)
    return error


cdef int _emit_special(
    Run* r, uint8_t kind, uint64_t value, const char* payload, uint32_t n
) noexcept nogil:
    cdef Header h
    special_header(&h, kind, value, payload, n)
    return _emit_block(r, &h, payload)


cdef int _emit_messages(
    Run* r, Living* first, uint64_t n, const char* payload, uint32_t length, uint32_t check,
    bint uniform
) noexcept nogil:
    # ``n`` blocks as one.
    cdef Header h
    cdef uint64_t i, count = 0
    memset(&h, 0, sizeof(Header))
    for i in range(n):
        count += first[i].count
        if first[i].time_s > h.time_s:
            h.time_s = first[i].time_s
    h.kind = KIND_MESSAGES
    h.flags = FLAG_UNIFORM if uniform else 0
    h.queue = first.queue
    h.length = length
    h.offset = first.first | count << 48
    h.payload_check = check
    if h.time_s > r.newest_s:
        r.newest_s = h.time_s
    if directory_add(&r.directory, &h, r.out_start + r.out_fill) != DONE:
        return -ENOMEM
    return _emit_block(r, &h, payload)


cdef int _emit_merged(Run* r, Living* first, uint64_t n) noexcept nogil:
    # Several blocks that follow each other in their queue, as one.
    cdef uint64_t i, k, size, need = 0
    cdef uint64_t at = 0
    cdef bint uniform = True
    cdef char* data
    size = first.length // first.count
    for i in range(n):
        if not first[i].flags & FLAG_UNIFORM or first[i].length != size * first[i].count:
            uniform = False
        need += first[i].length + 5 * <uint64_t>first[i].count
    if need > r.merged_bytes:
        free(r.merged)
        r.merged_bytes = 0
        r.merged = <char*>malloc(need)
        if r.merged == NULL:
            return -ENOMEM
        r.merged_bytes = need
    for i in range(n):
        data = r.batch + first[i].at
        if uniform or not first[i].flags & FLAG_UNIFORM:
            memcpy(r.merged + at, data, first[i].length)
            at += first[i].length
            continue
        size = first[i].length // first[i].count
        for k in range(first[i].count):
            at += varint_put(r.merged + at, size)
            memcpy(r.merged + at, data + k * size, size)
            at += size
    return _emit_messages(
        r, first, n, r.merged, <uint32_t>at, crc(0, r.merged, at), uniform
    )


cdef int _write_batch(Run* r) noexcept nogil:
    # What was read, queue by queue; small blocks that follow each other become one.
    cdef uint64_t i = 0
    cdef uint64_t n, count, length
    cdef Living* b
    cdef int error
    qsort(r.living, r.living_count, sizeof(Living), _by_offset)
    while i < r.living_count:
        b = &r.living[i]
        n = 1
        count = b.count
        length = b.length
        while i + n < r.living_count and length < MERGED_MOST:
            if (
                b[n].queue != b.queue or b[n].first != b.first + count
                or count + b[n].count > BLOCK_MESSAGES_MAX or length + b[n].length > MERGED_MOST
            ):
                break
            count += b[n].count
            length += b[n].length
            n += 1
        if n == 1:
            error = _emit_messages(
                r, b, 1, r.batch + b.at, b.length, b.check, b.flags & FLAG_UNIFORM
            )
        else:
            error = _emit_merged(r, b, n)
        if error:
            return error
        i += n
    r.living_count = 0
    r.batch_fill = 0
    return 0


cdef int _write_end(Run* r) noexcept nogil:
    # Directory, padding, trailer; the file is on the disk afterwards.
    cdef uint64_t at = r.out_start + r.out_fill
    cdef uint64_t gap
    cdef int error
    error = _emit_special(
        r, KIND_DIRECTORY, r.directory.length // DIRECTORY_ENTRY, r.directory.data,
        <uint32_t>r.directory.length
    )
    if error == 0:
        gap = padding_bytes(r.out_start + r.out_fill + BLOCK_HEADER)
        if gap:
            error = _emit_special(r, KIND_PADDING, 0, NULL, <uint32_t>(gap - BLOCK_HEADER))
    if error == 0:
        error = _emit_special(r, KIND_TRAILER, at, NULL, 0)
    if error == 0:
        error = _write_out(r)
    if error == 0:
        error = r.store.disk.sync(r.store.disk, r.fd)
    return error


# Reading.


cdef int _read(Run* r, int fd, uint64_t offset, uint64_t n, char** data) noexcept nogil:
    # ``n`` bytes of a file through the window, whose start is aligned. DAMAGED if it is too short.
    cdef uint64_t start = offset & ~<uint64_t>(SECTOR - 1)
    cdef uint64_t want = align_up(offset + n - start, SECTOR)
    cdef int64_t got
    if want > r.window_bytes:
        free(r.window)
        r.window = NULL
        r.window_bytes = 0
        if posix_memalign(<void**>&r.window, SECTOR, want) != 0:
            return -ENOMEM
        r.window_bytes = want
    got = r.store.disk.read(r.store.disk, fd, r.window, want, start)
    if got < 0:
        return <int>got
    if <uint64_t>got < offset + n - start:
        return DAMAGED
    data[0] = r.window + (offset - start)
    return _moved(r, want)


cdef bint _alive(Run* r, int slot, const char* entry) noexcept nogil:
    # Under the lock: does a queue have this block of the directory?
    cdef uint64_t first, offset, at
    cdef uint32_t queue, place16, number
    cdef Queue* q
    memcpy(&first, entry, 8)
    memcpy(&queue, entry + 8, 4)
    memcpy(&place16, entry + 12, 4)
    if queue >= r.store.table.ids:
        return False
    q = &r.store.table.queues[queue]
    if not q.flags & QUEUE_ALIVE or q.entries == 0:
        return False
    offset = first & OFFSET_MASK
    if offset + (first >> 48) <= q.index[0]:
        return False
    if offset < q.index[0]:
        offset = q.index[0]
    number = index_find(q, offset, &at)
    return number < q.entries and entry_place(q.index[entry_word(number)]) == (
        <uint64_t>slot << PLACE_SLOT_SHIFT | place16
    )


cdef int _take(Run* r, uint64_t number, const char* entry, char* block) noexcept nogil:
    # A block that was read joins the batch. DAMAGED if it is not what the directory says.
    cdef Header h
    cdef Living* b
    cdef void* grown
    cdef uint64_t offset
    cdef uint32_t place16
    memcpy(&place16, entry + 12, 4)
    memcpy(&h, block, BLOCK_HEADER)
    if (
        not header_valid(&h, number, <uint64_t>place16 * 16) or h.kind != KIND_MESSAGES
        or crc(0, block + BLOCK_HEADER, h.length) != h.payload_check
    ):
        return DAMAGED
    if r.batch_fill + h.length > r.batch_bytes:
        # One that is larger than the whole batch: alone.
        grown = realloc(r.batch, h.length)
        if grown == NULL:
            return -ENOMEM
        r.batch = <char*>grown
        r.batch_bytes = h.length
    b = &r.living[r.living_count]
    offset = h.offset
    b.first = offset & OFFSET_MASK
    b.count = <uint32_t>(offset >> 48)
    b.queue = h.queue
    b.length = h.length
    b.time_s = h.time_s
    b.check = h.payload_check
    b.flags = h.flags
    b.at = r.batch_fill
    memcpy(r.batch + r.batch_fill, block + BLOCK_HEADER, h.length)
    r.batch_fill += h.length
    r.living_count += 1
    return 0


cdef int _copy_blocks(
    Run* r, uint32_t which, const char* entries, const char* alive, uint32_t n
) noexcept nogil:
    # The living ones of these entries of a directory, which are in the order of the file.
    cdef uint64_t number = r.store.segments[r.slots[which]].number
    cdef uint64_t at, end, start = 0, stop = 0
    cdef uint32_t i, k, place16, length
    cdef char* data = NULL
    cdef int error
    for i in range(n):
        if not alive[i]:
            continue
        memcpy(&place16, entries + i * 24 + 12, 4)
        memcpy(&length, entries + i * 24 + 16, 4)
        at = <uint64_t>place16 * 16
        end = at + BLOCK_HEADER + length
        if (
            r.batch_fill + length > r.batch_bytes or r.living_count == r.living_most
        ) and r.living_count:
            error = _write_batch(r)
            if error:
                return error
        if data == NULL or end > stop:
            # As many of those that follow as fit a window.
            start = at
            stop = end
            for k in range(i + 1, n):
                memcpy(&place16, entries + k * 24 + 12, 4)
                memcpy(&length, entries + k * 24 + 16, 4)
                if <uint64_t>place16 * 16 + BLOCK_HEADER + length > start + READ_BYTES:
                    break
                if alive[k]:
                    stop = <uint64_t>place16 * 16 + BLOCK_HEADER + length
            error = _read(r, r.fds[which], start, stop - start, &data)
            if error:
                return error
        error = _take(r, number, entries + i * 24, data + (at - start))
        if error:
            return error
    return 0


cdef int _find_directory(
    Run* r, uint32_t which, uint64_t* start, uint64_t* bytes
) noexcept nogil:
    # Where the entries of a segment's directory are. DAMAGED if its checksum is wrong.
    cdef Segment* segment = &r.store.segments[r.slots[which]]
    cdef uint64_t number = segment.number
    cdef uint64_t length = segment.length
    cdef uint64_t offset, part, done = 0
    cdef uint32_t check = 0
    cdef Header h
    cdef char* data = NULL
    cdef int error
    error = _read(r, r.fds[which], length - BLOCK_HEADER, BLOCK_HEADER, &data)
    if error:
        return error
    memcpy(&h, data, BLOCK_HEADER)
    if not header_valid(&h, number, length - BLOCK_HEADER) or h.kind != KIND_TRAILER:
        return DAMAGED
    offset = h.offset
    if offset > length - BLOCK_HEADER:
        return DAMAGED
    error = _read(r, r.fds[which], offset, BLOCK_HEADER, &data)
    if error:
        return error
    memcpy(&h, data, BLOCK_HEADER)
    if (
        not header_valid(&h, number, offset) or h.kind != KIND_DIRECTORY
        or h.length != h.offset * DIRECTORY_ENTRY
    ):
        return DAMAGED
    offset += BLOCK_HEADER
    while done < h.length:
        part = h.length - done if h.length - done < READ_BYTES else READ_BYTES
        error = _read(r, r.fds[which], offset + done, part, &data)
        if error:
            return error
        check = crc(check, data, part)
        done += part
    start[0] = offset
    bytes[0] = h.length
    return 0 if check == h.payload_check else DAMAGED


cdef int _copy_segment(Run* r, uint32_t which) noexcept nogil:
    # All living blocks of one of the segments.
    cdef uint64_t start = 0, length = 0, done = 0
    cdef uint64_t part
    cdef uint32_t i, n
    cdef char* data = NULL
    cdef char entries[6144]  # 256 of 24 bytes
    cdef char alive[256]
    cdef bint any
    cdef int error = _find_directory(r, which, &start, &length)
    if error:
        return error
    while done < length:
        part = length - done if length - done < sizeof(entries) else sizeof(entries)
        error = _read(r, r.fds[which], start + done, part, &data)
        if error:
            return error
        memcpy(entries, data, part)
        done += part
        n = <uint32_t>(part // DIRECTORY_ENTRY)
        any = False
        pthread_mutex_lock(&r.store.lock)
        for i in range(n):
            alive[i] = _alive(r, r.slots[which], entries + i * 24)
            if alive[i]:
                any = True
        pthread_mutex_unlock(&r.store.lock)
        if any:
            error = _copy_blocks(r, which, entries, alive, n)
            if error:
                return error
    return 0


cdef int write_segment(Run* r) noexcept nogil:
    """The new file, complete and synced, under its temporary name."""
    cdef char header[64]
    cdef uint32_t i
    cdef int error
    segment_header(header, r.store.identity, r.number)
    error = _emit(r, header, 64)
    for i in range(r.count):
        if error == 0:
            error = _copy_segment(r, i)
    if error == 0:
        error = _write_batch(r)
    if error == 0:
        error = _write_end(r)
    if error == 0:
        # What was dead when blocks were left out must stay dead.
        error = meta_flush(r.store, True)
    return error
