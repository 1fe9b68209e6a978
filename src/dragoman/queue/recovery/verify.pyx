"""Every byte of a segment looked at: is it what was written?

Called by the engine for ``verify`` and ``repair``, piece by piece so that progress can be shown,
and without the GIL, so that several segments are read at once. The invariant: only reads; the
segment is held (it counts a reader) from ``begin`` to ``end``; memory is one window of 4 MiB, or
the largest block.
"""

from libc.errno cimport ENOENT, ENOMEM
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.format.segments cimport Header, header_valid, slot_open, slot_remove
from dragoman.queue.memory.layout cimport (
    BLOCK_HEADER, GATHERED, KIND_DIRECTORY, KIND_MESSAGES, KIND_TRAILER, PLACE_LOST, PLACE_PENDING,
    PLACE_SLOT_SHIFT, QUEUE_ALIVE, SECTOR, align_up, entry_count, entry_place, entry_word,
)
from dragoman.queue.memory.state cimport (
    SEGMENT_COMPACTING, SEGMENT_SEALED, SEGMENT_UNSETTLED, SEGMENT_WRITING, Queue, Segment, Store,
    Table,
)
from dragoman.queue.memory.threads cimport pthread_mutex_lock, pthread_mutex_unlock

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

crc_prepare()

cdef uint64_t OFFSET_MASK = (1ULL << 48) - 1
# What is damaged in more places than this is reported up to here.
cdef uint32_t PROBLEMS_MOST = 4096


cdef class SegmentCheck:
    """One segment. ``problems`` holds (offset, end, queue id, first, messages, reason)."""

    cdef int begin(self, Store* s, int slot) except -1:
        cdef Segment* segment = &s.segments[slot]
        self.store = s
        self.slot = slot
        self.problems = []
        self.at = 0
        self.bad_from = 0
        self.error = 0
        with nogil:
            pthread_mutex_lock(&s.lock)
            # One that is being written is looked at as far as it is on the disk.
            self.sealed = segment.state in (SEGMENT_SEALED, SEGMENT_COMPACTING, SEGMENT_UNSETTLED)
            self.fd = -ENOENT
            if self.sealed or segment.state == SEGMENT_WRITING:
                self.fd = slot_open(s, slot)
            if self.fd >= 0:
                segment.readers += 1
                self.number = segment.number
                self.length = segment.length
            pthread_mutex_unlock(&s.lock)
        if self.fd < 0:
            self.error = self.fd
        return 0

    cdef void end(self) noexcept:
        cdef Store* s = self.store
        with nogil:
            pthread_mutex_lock(&s.lock)
            if self.fd >= 0:
                s.segments[self.slot].readers -= 1
                slot_remove(s, self.slot)
            pthread_mutex_unlock(&s.lock)
        self.fd = -1

    def __dealloc__(self):
        free(self.window)

    cdef char* bytes_at(self, uint64_t offset, uint64_t n) noexcept nogil:
        # NULL where the file ends before, or for an error.
        cdef uint64_t want, start
        cdef int64_t got
        if offset + n > self.length:
            return NULL
        if offset < self.start or offset + n > self.start + self.have:
            start = offset & ~<uint64_t>(SECTOR - 1)
            want = align_up(offset + n - start, SECTOR)
            if want < GATHERED:
                want = GATHERED
            if want > self.capacity:
                free(self.window)
                self.window = NULL
                self.capacity = self.have = 0
                if posix_memalign(<void**>&self.window, SECTOR, want) != 0:
                    self.error = -ENOMEM
                    return NULL
                self.capacity = want
            got = self.store.disk.read(
                self.store.disk, self.fd, self.window, self.capacity, start
            )
            if got < 0:
                self.error = <int>got
                self.have = 0
                return NULL
            self.start = start
            self.have = got
            if offset + n > self.start + self.have:
                return NULL
        return self.window + (offset - self.start)

    cdef int note(
        self, uint64_t offset, uint64_t end, uint32_t queue, uint64_t packed, str reason
    ) except -1:
        if <uint32_t>len(self.problems) < PROBLEMS_MOST:
            self.problems.append(
                (offset, end, queue, packed & OFFSET_MASK, packed >> 48, reason)
            )
        return 0

    cdef bint step(self) except -1:
        """Some 64 MiB; False when there is nothing more to look at."""
        cdef uint64_t until = self.at + 67108864
        cdef Header h
        cdef int what
        if self.at == 0:
            self.check_start()
        while self.at < until and self.at < self.length:
            with nogil:
                what = self.run(&h, until)
            if self.error:
                return False
            if what == 0:
                continue
            if what == 1:
                self.note(
                    self.at, self.at + BLOCK_HEADER + align_up(h.length, 16),
                    h.queue if h.kind == KIND_MESSAGES else 0,
                    h.offset if h.kind == KIND_MESSAGES else 0, "a block's checksum is wrong"
                )
                self.at += BLOCK_HEADER + align_up(h.length, 16)
            elif what == 2:
                self.note(
                    self.at + BLOCK_HEADER + h.length, self.at + BLOCK_HEADER + h.length, 0, 0,
                    "bytes between blocks are not zero"
                )
                self.at += BLOCK_HEADER + align_up(h.length, 16)
            elif what == 3:
                if not self.sealed:
                    self.at = self.length  # the end of what was written, within a block
                    break
                self.bad_from = self.at
                with nogil:
                    self.resume(&h)
                self.note(self.bad_from, self.at, 0, 0, "not a block")
            elif what == 4 and not self.problems:
                self.note(self.at, self.at, 0, 0, "the directory does not name the blocks")
        if self.at < self.length:
            return True
        if self.sealed and not self.trailed and not self.problems:
            self.note(self.length, self.length, 0, 0, "the segment has no end")
        return False

    cdef int check_start(self) except -1:
        cdef char* at
        cdef uint32_t check = 0
        cdef uint64_t number = 0
        with nogil:
            at = self.bytes_at(0, 64)
        if at != NULL:
            memcpy(&check, at + 60, 4)
            memcpy(&number, at + 32, 8)
        if (
            at == NULL or memcmp(at, b"DRGQSEGM", 8) != 0 or check != crc(0, at, 60)
            or number != self.number or memcmp(at + 16, self.store.identity, 16) != 0
        ):
            self.note(0, 64, 0, 0, "the segment's header is damaged")
        self.at = 64
        return 0

    cdef int run(self, Header* h, uint64_t until) noexcept nogil:
        # Blocks while they are good. 0: no complaint; 1: payload; 2: padding; 3: header; 4:
        # directory. ``at`` is the block complained about, but for 4 the one behind.
        cdef char* block
        cdef uint64_t i, rest, place16
        cdef char entry[24]
        cdef int result
        while self.at < until and self.at < self.length:
            block = self.bytes_at(self.at, BLOCK_HEADER)
            if block == NULL:
                return 3
            memcpy(h, block, BLOCK_HEADER)
            if not header_valid(h, self.number, self.at):
                return 3
            rest = align_up(h.length, 16)
            block = self.bytes_at(self.at, BLOCK_HEADER + rest)
            if block == NULL:
                return 3
            if crc(0, block + BLOCK_HEADER, h.length) != h.payload_check:
                return 1
            for i in range(h.length, rest):
                if block[BLOCK_HEADER + i]:
                    return 2
            result = 0
            if h.kind == KIND_MESSAGES:
                place16 = self.at // 16
                memcpy(entry, &h.offset, 8)
                memcpy(entry + 8, &h.queue, 4)
                memcpy(entry + 12, &place16, 4)
                memcpy(entry + 16, &h.length, 4)
                memcpy(entry + 20, &h.time_s, 4)
                self.entries = crc(self.entries, entry, 24)
                self.blocks += 1
            elif h.kind == KIND_DIRECTORY:
                if h.offset != self.blocks or h.payload_check != self.entries:
                    result = 4
            elif h.kind == KIND_TRAILER and self.at + BLOCK_HEADER == self.length:
                self.trailed = True
            self.at += BLOCK_HEADER + rest
            if result:
                return result
        return 0

    cdef void resume(self, Header* h) noexcept nogil:
        # To the next header that is good, or the end.
        cdef char* block
        while True:
            self.at += 16
            if self.at >= self.length:
                self.at = self.length
                return
            block = self.bytes_at(self.at, BLOCK_HEADER)
            if block != NULL:
                memcpy(h, block, BLOCK_HEADER)
                if header_valid(h, self.number, self.at):
                    return


cdef list blocks_between(Store* s, int slot, uint64_t start, uint64_t end):
    """(queue id, first, messages, offset) of what queues have in this part of a segment."""
    cdef Table* t = &s.table
    cdef Queue* q
    cdef uint64_t at, place, offset, entry
    cdef uint32_t id, i, top, n = 0
    cdef uint64_t found[4096]
    result = []
    id = 1
    top = t.ids
    while id < top:
        n = 0
        with nogil:
            pthread_mutex_lock(&s.lock)
            while id < top and n < 1000:
                q = &t.queues[id]
                if q.flags & QUEUE_ALIVE and q.entries:
                    at = q.index[2]
                    for i in range(q.entries):
                        entry = q.index[entry_word(i)]
                        place = entry_place(entry)
                        if place != PLACE_LOST() and not place & PLACE_PENDING() and (
                            <int>(place >> PLACE_SLOT_SHIFT) == slot
                        ):
                            offset = (place & ((1ULL << PLACE_SLOT_SHIFT) - 1)) * 16
                            if start <= offset < end and n < 1024:
                                found[4 * n] = id
                                found[4 * n + 1] = at
                                found[4 * n + 2] = entry_count(entry)
                                found[4 * n + 3] = offset
                                n += 1
                        at += entry_count(entry)
                id += 1
                if id % 1024 == 0:
                    break
            pthread_mutex_unlock(&s.lock)
        for i in range(n):
            result.append((found[4 * i], found[4 * i + 1], found[4 * i + 2], found[4 * i + 3]))
    return result
