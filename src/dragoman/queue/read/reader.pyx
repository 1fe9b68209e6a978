"""Reading: which blocks hold a range, fetching many at once, and the cache of blocks.

A caller fills a ``Window`` under the store's lock (``resolve`` for each request, then
``window_place``), reads without it (``window_submit``, ``window_wait``) and gives it back under
the lock (``window_done``). What memory has is copied while the lock is held; nothing of it is
referred to later. Many reads go to the kernel at once through its asynchronous interface, which
works with O_DIRECT everywhere; where it cannot be had, or the files are the tests', they are read
one after the other.

Invariant: between ``resolve`` and ``window_done`` each segment that is read from counts this
reader.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from dragoman.queue.read.fetch cimport (
    fetch_begin, fetch_bytes, fetch_check, fetch_end, fetch_got, fetch_read,
)
from dragoman.queue.memory.buffer cimport bytes_add, bytes_reserve
from dragoman.queue.memory.errors cimport DONE, NO_MEMORY, WAIT
from dragoman.queue.memory.index cimport index_find
from dragoman.queue.memory.layout cimport (
    CURSORS, MIXED, PLACE_LOST, PLACE_PENDING, SECTOR, align_up, entry_code, entry_count,
    entry_place, entry_word, size_of_code, varint_get,
)
from dragoman.queue.memory.state cimport Pending, Queue, Store, Table, queue_first
from dragoman.queue.memory.tail cimport tail_copy, tail_copy_part

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

cdef extern from *:
    """
    #include <linux/aio_abi.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #include <errno.h>
    #include <string.h>

    /* The kernel's asynchronous reads, without a library. */
    static int dragoman_aio_setup(unsigned n, uint64_t *context) {
        aio_context_t c = 0;
        if (syscall(SYS_io_setup, n, &c) < 0) return -errno;
        *context = (uint64_t)c;
        return 0;
    }
    static void dragoman_aio_destroy(uint64_t context) {
        syscall(SYS_io_destroy, (aio_context_t)context);
    }
    static void dragoman_aio_prepare(struct iocb *b, int fd, void *into, uint64_t n, uint64_t at,
                                     uint64_t number) {
        memset(b, 0, sizeof *b);
        b->aio_lio_opcode = IOCB_CMD_PREAD;
        b->aio_fildes = (uint32_t)fd;
        b->aio_buf = (uint64_t)(uintptr_t)into;
        b->aio_nbytes = n;
        b->aio_offset = (int64_t)at;
        b->aio_data = number;
    }
    static long dragoman_aio_submit(uint64_t context, struct iocb *blocks, long n) {
        struct iocb *list[256];
        for (long i = 0; i < n; i++) list[i] = &blocks[i];
        long got;
        do got = syscall(SYS_io_submit, (aio_context_t)context, n, list);
        while (got < 0 && errno == EINTR);
        return got < 0 ? -errno : got;
    }
    static long dragoman_aio_wait(uint64_t context, struct io_event *events, long least, long n) {
        long got;
        do got = syscall(SYS_io_getevents, (aio_context_t)context, least, n, events, NULL);
        while (got < 0 && errno == EINTR);
        return got < 0 ? -errno : got;
    }
    """
    struct iocb:
        pass
    struct io_event:
        uint64_t data
        int64_t res
    int aio_setup "dragoman_aio_setup"(unsigned n, uint64_t* context) nogil
    void aio_destroy "dragoman_aio_destroy"(uint64_t context) nogil
    void aio_prepare "dragoman_aio_prepare"(
        iocb*, int fd, void* into, uint64_t n, uint64_t at, uint64_t number
    ) nogil
    long aio_submit "dragoman_aio_submit"(uint64_t context, iocb* blocks, long n) nogil
    long aio_wait "dragoman_aio_wait"(uint64_t context, io_event*, long least, long n) nogil

cdef uint64_t NO_AIO = 0xFFFFFFFFFFFFFFFF
# A window takes no more than this from the disk at once, but for one block that is larger.
cdef uint64_t WINDOW_BYTES = 8388608
# So much behind the block that it needs is read for whoever reads in order.
cdef uint64_t AHEAD_BYTES = 16384


cdef int window_clear(Window* w) noexcept nogil:
    """Ready for the next use."""
    w.piece_count = 0
    w.fetch_count = 0
    w.fetch_used = 0
    w.scratch.length = 0
    return 0


cdef void window_free(Window* w) noexcept nogil:
    """Give back what the window owns."""
    free(w.scratch.data)
    free(w.arena)
    if w.aio and w.aio != NO_AIO:
        aio_destroy(w.aio)
    memset(w, 0, sizeof(Window))


# The cache: payloads in a ring, found by the serial of their segment and their place in it.


cdef inline uint64_t _key(Store* s, uint64_t place) noexcept nogil:
    return s.segments[place >> 26].serial << 26 | (place & 0x3FFFFFF)


cdef inline uint64_t _way(Store* s, uint64_t key) noexcept nogil:
    return ((key * 0x9E3779B97F4A7C15ULL) >> 32) & s.cache_mask & ~<uint64_t>1


cdef char* _cached(Store* s, uint64_t key) noexcept nogil:
    # Under the lock; what it points to begins with length and uniform, 4 bytes each.
    cdef uint64_t way, i, at
    if s.cache == NULL:
        return NULL
    way = _way(s, key)
    for i in range(way, way + 2):
        if s.cache_slots[2 * i] == key:
            at = s.cache_slots[2 * i + 1]
            if s.cache_head - at <= s.cache_bytes:
                return s.cache + at % s.cache_bytes
    return NULL


cdef void _cache_add(Store* s, uint64_t key, Fetch* f) noexcept nogil:
    # Under the lock.
    cdef uint64_t need = align_up(8 + f.length, 8)
    cdef uint64_t way, old
    cdef uint32_t head[2]
    if s.cache == NULL or need > s.cache_bytes // 8 or _cached(s, key) != NULL:
        return
    if s.cache_head % s.cache_bytes + need > s.cache_bytes:
        s.cache_head += s.cache_bytes - s.cache_head % s.cache_bytes
    head[0] = f.length
    head[1] = f.uniform
    memcpy(s.cache + s.cache_head % s.cache_bytes, head, 8)
    memcpy(s.cache + s.cache_head % s.cache_bytes + 8, f.payload, f.length)
    way = _way(s, key)
    old = way if s.cache_slots[2 * way + 1] <= s.cache_slots[2 * way + 3] else way + 1
    s.cache_slots[2 * old] = key
    s.cache_slots[2 * old + 1] = s.cache_head
    s.cache_head += need


cdef int _copy(Window* w, Piece* p, const char* payload, uint64_t length) noexcept nogil:
    # The wanted messages, and no others, into the scratch bytes.
    cdef uint64_t at = 0
    cdef uint64_t size, start
    cdef uint32_t i
    p.fetch = FROM_MEMORY
    p.data = w.scratch.length
    if p.uniform:
        size = length // p.count
        p.length = size * p.take
        p.count = p.take
        start = size * p.skip
        p.skip = 0
        return bytes_add(&w.scratch, payload + start, p.length)
    for i in range(p.skip):
        if varint_get(payload, length, &at, &size) < 0:
            return NO_MEMORY
        at += size
    start = at
    for i in range(p.take):
        if varint_get(payload, length, &at, &size) < 0:
            return NO_MEMORY
        at += size
    p.length = at - start
    p.count = p.take
    p.skip = 0
    return bytes_add(&w.scratch, payload + start, p.length)


cdef int _copy_records(
    Table* t, Window* w, Piece* p, uint32_t head, uint64_t record
) noexcept nogil:
    # From a tail whose records all have that many bytes: no more than what is wanted.
    cdef uint64_t n = record * p.take
    if bytes_reserve(&w.scratch, n) != DONE:
        return NO_MEMORY
    tail_copy_part(t, head, record * p.skip, n, w.scratch.data + w.scratch.length)
    p.fetch = FROM_MEMORY
    p.uniform = False
    p.data = w.scratch.length
    p.length = n
    p.count = p.take
    p.skip = 0
    w.scratch.length += n
    return DONE


cdef int _copy_chain(
    Table* t, Window* w, Piece* p, uint32_t head, uint64_t n, uint16_t uniform
) noexcept nogil:
    # From a tail: in one piece behind the scratch bytes first.
    cdef char* whole
    if uniform != MIXED:
        return _copy_records(t, w, p, head, n // p.count)
    if bytes_reserve(&w.scratch, 2 * n) != DONE:
        return NO_MEMORY
    whole = w.scratch.data + w.scratch.length + n
    tail_copy(t, head, n, whole)
    p.uniform = False
    return _copy(w, p, whole, n)


cdef inline void _want(
    Window* w, uint64_t entry, uint32_t id, uint64_t first
) noexcept nogil:
    # One more block to fetch; there is room.
    cdef Fetch* f = &w.fetches[w.fetch_count]
    f.place = entry_place(entry)
    f.code = entry_code(entry)
    f.queue = id
    f.count = entry_count(entry)
    f.first = first
    f.keep = False
    f.ahead = False
    w.fetch_count += 1
    w.fetch_used += fetch_bytes(f.code)


cdef void _read_ahead(
    Store* s, Window* w, uint32_t id, uint32_t number, uint64_t first
) noexcept nogil:
    # Whoever reads a queue in order and needs a block gets those behind it into the cache.
    cdef Queue* q = &s.table.queues[id]
    cdef uint64_t entry, place, bytes = 0
    while number < q.entries and w.fetch_count < WINDOW:
        entry = q.index[entry_word(number)]
        place = entry_place(entry)
        if place == PLACE_LOST() or place & PLACE_PENDING():
            return
        bytes += size_of_code(entry_code(entry))
        if bytes > AHEAD_BYTES or w.fetch_used + fetch_bytes(entry_code(entry)) > WINDOW_BYTES:
            return
        if _cached(s, _key(s, place)) == NULL:
            _want(w, entry, id, first)
            w.fetches[w.fetch_count - 1].ahead = True
        first += entry_count(entry)
        number += 1


cdef inline int _from_block(
    Store* s, Window* w, Piece* p, uint32_t id, uint64_t entry, uint64_t first
) noexcept nogil:
    # From a block, wherever it is: lost, not written yet, in the cache or on the disk. DONE,
    # NO_MEMORY, or WAIT when the window takes no more from the disk.
    cdef Table* t = &s.table
    cdef uint64_t place = entry_place(entry)
    cdef uint64_t need
    cdef uint32_t head[2]
    cdef Pending* pending
    cdef char* cached
    if place == PLACE_LOST():
        p.lost = True
        p.fetch = FROM_MEMORY
        return DONE
    if place & PLACE_PENDING():
        pending = &t.ring[place & t.ring_mask & ~PLACE_PENDING()]
        if pending.big == NULL:
            return _copy_chain(t, w, p, pending.head, pending.bytes, pending.uniform)
        p.uniform = True
        return _copy(w, p, pending.big, pending.bytes)
    cached = _cached(s, _key(s, place))
    if cached != NULL:
        s.cache_hits += 1
        memcpy(head, cached, 8)
        p.uniform = head[1]
        return _copy(w, p, cached + 8, head[0])
    need = fetch_bytes(entry_code(entry))
    if w.fetch_count == WINDOW or (w.fetch_count and w.fetch_used + need > WINDOW_BYTES):
        return WAIT
    p.fetch = <int>w.fetch_count
    _want(w, entry, id, first)
    return DONE


cdef uint32_t resolve(
    Store* s, Window* w, uint32_t request, uint32_t id, uint64_t offset, uint64_t count
) noexcept nogil:
    """Pieces for as much of the range (which exists) as the window takes; how many messages."""
    cdef Table* t = &s.table
    cdef Queue* q = &t.queues[id]
    cdef Piece* p
    cdef uint64_t first, entry
    cdef uint32_t messages  # of the block or tail
    cdef uint32_t done = 0
    cdef uint32_t number = index_find(q, offset, &first)
    cdef uint32_t fetches = w.fetch_count
    cdef int result
    cdef uint64_t* cursor = NULL
    cdef bint goes_on = False
    cdef bint in_order = False
    if s.cursors != NULL:
        cursor = &s.cursors[id % CURSORS]
        goes_on = cursor[0] == (<uint64_t>id << 32 | <uint32_t>offset)
        in_order = goes_on or offset == queue_first(q)
    while count and w.piece_count < WINDOW:
        entry = q.index[entry_word(number)] if number < q.entries else 0
        messages = entry_count(entry) if number < q.entries else q.count
        p = &w.pieces[w.piece_count]
        p.request = request
        p.lost = False
        p.first = offset
        p.skip = <uint32_t>(offset - first)
        p.count = messages
        p.take = messages - p.skip
        if p.take > count:
            p.take = <uint32_t>count
        if number < q.entries:
            result = _from_block(s, w, p, id, entry, first)
            if result == WAIT:
                break
            if result == DONE and p.fetch >= 0:
                # Who goes on where the last range ended has no use for what is behind.
                w.fetches[p.fetch].keep = not goes_on
        else:
            result = _copy_chain(t, w, p, q.head, q.bytes, q.uniform)
        if result != DONE:
            p.lost = True
            p.fetch = NO_FETCH
        w.piece_count += 1
        done += p.take
        count -= p.take
        offset += p.take
        first += messages
        number += 1
    if cursor != NULL:
        cursor[0] = <uint64_t>id << 32 | <uint32_t>offset
        if in_order and w.fetch_count > fetches and count == 0:
            _read_ahead(s, w, id, number, first)
    return done


cdef int window_place(Store* s, Window* w) noexcept nogil:
    """Under the lock, after the last ``resolve``: buffers, and what memory has of the blocks."""
    cdef uint32_t i
    cdef uint64_t at = 0
    cdef uint64_t bytes = w.arena_bytes if w.arena_bytes else 65536
    if w.fetch_used > w.arena_bytes:
        while bytes < w.fetch_used:
            bytes *= 2
        free(w.arena)
        w.arena = NULL
        w.arena_bytes = 0
        if posix_memalign(<void**>&w.arena, SECTOR, bytes) != 0:
            return NO_MEMORY
        w.arena_bytes = bytes
    for i in range(w.fetch_count):
        w.fetches[i].buffer = w.arena + at
        at += fetch_bytes(w.fetches[i].code)
        fetch_begin(s, &w.fetches[i])
    return DONE


cdef void window_submit(Store* s, Window* w) noexcept nogil:
    """Without the lock: begin the reads."""
    cdef iocb blocks[256]
    cdef uint32_t i
    cdef Fetch* f
    cdef long n = 0
    cdef long done = 0
    cdef long got
    for i in range(w.fetch_count):
        w.fetches[i].submitted = False
    if s.disk.context != NULL or w.fetch_count < 2 or not s.direct or w.aio == NO_AIO:
        return
    if w.aio == 0 and aio_setup(WINDOW, &w.aio) < 0:
        w.aio = NO_AIO
        return
    for i in range(w.fetch_count):
        f = &w.fetches[i]
        if f.read_bytes and f.error == 0:
            aio_prepare(&blocks[n], f.fd, f.buffer, f.read_bytes, f.read_at, i)
            n += 1
    w.submitted = 0
    while done < n:
        got = aio_submit(w.aio, blocks + done, n - done)
        if got <= 0:
            break
        done += got
    w.submitted = <uint32_t>done
    # The first ``done`` of those that read.
    n = 0
    for i in range(w.fetch_count):
        f = &w.fetches[i]
        if f.read_bytes and f.error == 0 and n < done:
            f.submitted = True
            n += 1


cdef void window_wait(Store* s, Window* w) noexcept nogil:
    """Without the lock: until all blocks are there and checked."""
    cdef io_event events[256]
    cdef long got, i
    cdef uint32_t k
    for k in range(w.fetch_count):
        if not w.fetches[k].submitted:
            fetch_read(s, &w.fetches[k])
            fetch_check(s, &w.fetches[k])
    while w.submitted:
        got = aio_wait(w.aio, events, 1, w.submitted)
        if got <= 0:
            continue
        for i in range(got):
            fetch_got(s, &w.fetches[events[i].data], events[i].res)
            fetch_check(s, &w.fetches[events[i].data])
        w.submitted -= <uint32_t>got


cdef void window_done(Store* s, Window* w) noexcept nogil:
    """Under the lock: blocks of which more may be wanted go to the cache; segments may go."""
    cdef uint32_t i
    cdef Fetch* f
    cdef Piece* p
    for i in range(w.piece_count):
        p = &w.pieces[i]
        if p.fetch >= 0:
            f = &w.fetches[p.fetch]
            if f.error == 0:
                p.uniform = f.uniform
                p.length = f.length
                if f.keep or p.skip + p.take < p.count:
                    _cache_add(s, f.serial << 26 | (f.place & 0x3FFFFFF), f)
    for i in range(w.fetch_count):
        f = &w.fetches[i]
        if f.ahead and f.error == 0:
            _cache_add(s, f.serial << 26 | (f.place & 0x3FFFFFF), f)
        fetch_end(s, f)
