"""Opening: META, then the log are read, and memory is as it was, but for the journal.

Called by ``replay.recover`` before anybody else has the store. Reading never changes a file; the
engine lets ``mend`` seal what was cut afterwards, when it may write. What a record, block or frame
claims is believed only if its checksum is right; what is missing although it had been synced is
damage, which is kept in a list and never cut (docs/formats/queue.md, "How a reader proceeds").
"""

import struct

from dragoman.errors import CorruptionError
from dragoman.queue.api.arguments import WORK
from dragoman.queue.format.window import EVERYTHING

from libc.errno cimport EIO
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_RDWR

from dragoman.queue.disk.crc cimport crc, crc_place, crc_prepare
from dragoman.queue.write.log cimport log_published, log_seal
from dragoman.queue.format.meta cimport (
    META_CLOSED, META_COMMIT, META_DELETE, META_DROPPED, META_DROPPED_RANGE, META_IDS, META_LOST,
    META_MARK, META_OPENED, META_QUEUE, META_TRIM,
)
from dragoman.queue.format.segments cimport Header, file_name, header_valid, slot_of
from dragoman.queue.memory.buffer cimport bytes_add
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.index cimport index_append, index_find, index_rebuild, index_set_first
from dragoman.queue.memory.layout cimport (
    BLOCK_HEADER, DIRECTORY_ENTRY, FILE_NAME, KIND_DIRECTORY, KIND_MARK, KIND_MESSAGES,
    KIND_TRAILER, NAME_MAX, PLACE_LOST, PLACE_SLOT_SHIFT, QUEUE_ALIVE, SECTOR, align_up, block_cost,
    code_of_size, entry_code, entry_count, entry_of, entry_place, entry_word, hash_name,
)
from dragoman.queue.memory.state cimport (
    SEGMENT_SEALED, SEGMENT_WRITING, Bytes, Queue, Segment, Store, Table, queue_first,
    queue_name_length,
)
from dragoman.queue.memory.table cimport table_add, table_remove
from dragoman.queue.format.window cimport Window, file_header, window

cdef extern from "fcntl.h" nogil:
    int O_DIRECT

crc_prepare()


cdef int _by_place(const void* a, const void* b) noexcept nogil:
    # By queue, then offset, then the longest first: what was compacted covers its parts.
    cdef const Stray* x = <const Stray*>a
    cdef const Stray* y = <const Stray*>b
    if x.queue != y.queue:
        return -1 if x.queue < y.queue else 1
    if x.first != y.first:
        return -1 if x.first < y.first else 1
    if x.count != y.count:
        return -1 if x.count > y.count else 1
    return 0


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

    # META.

    cdef int read_meta(self) except -1:
        cdef Window w = window(self.s, self.path, "META", False)
        cdef uint64_t at = 64
        cdef uint64_t bad, evidence
        cdef uint32_t n
        cdef char* record
        if not file_header(w, b"DRGQMETA", self.identity, <uint64_t>EVERYTHING):
            raise CorruptionError(f"{self.path}/META: not the header of this store's META")
        record = w.at(0, 64)
        memcpy(&self.generation, record + 32, 8)
        memcpy(&self.meta_base, record + 40, 8)
        evidence = max(self.meta_base, self.meta_evidence.get(self.generation, 0))
        if max(self.meta_evidence, default=0) > self.generation:
            self.damage.append(("META", 0, 0, 0, 0, "an older META than the journal knows"))
        looked = False
        while at < w.length:
            record = self._record(w, at)
            if record != NULL:
                memcpy(&n, record + 4, 4)
                self._apply(record[8], record + 9, n, at)
                at += 9 + n
                continue
            # Damage, or the torn end? Whatever stands behind must say.
            if not looked:
                evidence = max(evidence, self._marks(w, at))
                looked = True
            if evidence <= at:
                break
            bad = at
            at = self._next_record(w, at + 1)
            self.damage.append(("META", bad, 0, 0, 0, f"{at - bad} bytes are not records"))
        self.meta_end = at
        self.meta_torn = at < w.length
        if evidence > w.length:
            self.damage.append(("META", w.length, 0, 0, 0, "the file ends too early"))
        if self.ids > self.s.table.ids:
            self.s.table.ids = self.ids
        return 0

    cdef uint64_t _next_record(self, Window w, uint64_t at) except? 0:
        # Where the next valid record begins; the end of the file if there is none.
        while at < w.length and self._record(w, at) == NULL:
            at += 1
        return min(at, w.length)

    cdef uint64_t _marks(self, Window w, uint64_t at) except? 0:
        # What the marks from ``at`` on say was synced.
        cdef uint64_t value, result = 0
        cdef uint32_t n
        cdef char* record
        at = self._next_record(w, at)
        while at < w.length:
            record = self._record(w, at)
            if record == NULL:
                at = self._next_record(w, at + 1)
                continue
            memcpy(&n, record + 4, 4)
            if record[8] == META_MARK and n == 8:
                memcpy(&value, record + 9, 8)
                result = max(result, value)
            elif record[8] == META_CLOSED:
                # Written after a sync of all before it.
                result = max(result, at)
            at += 9 + n
        return result

    cdef char* _record(self, Window w, uint64_t at) except? NULL:
        cdef char* head = w.at(at, 9)
        cdef uint32_t n, check
        if head == NULL:
            return NULL
        memcpy(&n, head + 4, 4)
        if n > NAME_MAX + 64 or head[8] < META_QUEUE or head[8] > META_OPENED:
            return NULL
        head = w.at(at, 9 + n)
        if head == NULL:
            return NULL
        memcpy(&check, head, 4)
        if check != crc(crc_place(self.generation, at), head + 4, 5 + n):
            return NULL
        return head

    cdef int _apply(self, int kind, const char* body, uint32_t n, uint64_t at) except -1:
        cdef Table* t = &self.s.table
        cdef uint32_t id = 0
        cdef uint64_t value = 0
        cdef uint64_t pair[2]
        if kind != META_QUEUE and at >= self.meta_base:
            self.meta_dead += 9 + n
        if kind == META_OPENED:
            self.closed_frame = 0
            self.in_order = False
            return 0
        if kind == META_CLOSED:
            memcpy(pair, body, 16)
            self.evidence = max(self.evidence, pair[0])
            self.closed_frame = pair[1]
            self.in_order = True
            return 0
        if kind == META_MARK:
            return 0
        if kind == META_DROPPED:
            memcpy(&value, body, 8)
            self.dropped.append((value, value + 1))
            return 0
        if kind == META_DROPPED_RANGE:
            memcpy(pair, body, 16)
            self.dropped.append((pair[0], pair[1]))
            return 0
        memcpy(&id, body, 4)
        if kind == META_IDS:
            self.ids = max(self.ids, id)
            return 0
        if kind == META_QUEUE:
            if t.queues[id].flags & QUEUE_ALIVE:
                return 0
            if table_add(t, id, body + 4, n - 4, <uint32_t>hash_name(body + 4, n - 4, t.seed)) == 0:
                raise MemoryError
            return 0
        if not (id < t.ids and t.queues[id].flags & QUEUE_ALIVE):
            return 0
        if kind == META_DELETE:
            self.meta_dead += 13 + queue_name_length(&t.queues[id])
            table_remove(t, id)
            self.groups.pop(id, None)
            return 0
        memcpy(&value, body + 4, 8)
        if kind == META_TRIM:
            if index_set_first(t, &t.queues[id], value) != DONE:
                raise MemoryError
            t.queues[id].next = max(t.queues[id].next, value)
        elif kind == META_COMMIT:
            self._committed(id, body[12:n], value)
        elif kind == META_LOST:
            memcpy(pair, body + 4, 16)
            self.known_lost.append((id, pair[0], pair[1]))
        return 0

    cdef int _committed(self, uint32_t id, bytes name, uint64_t position) except -1:
        # Of what is kept of a group that shares work, only the last counts; it has a name each.
        cdef dict positions = self.groups.setdefault(id, {})
        if name.startswith(WORK):
            length = int.from_bytes(name[len(WORK) : len(WORK) + 2], "little")
            key = id, name[: len(WORK) + 2 + length]
            positions.pop(self.worked.pop(key, None), None)
            self.worked[key] = name
        positions[name] = position
        return 0

    # The log.

    cdef int block(self, int slot, uint64_t first, uint32_t count, uint32_t queue,
                   uint64_t place16, uint32_t length, uint32_t time_s) except -1:
        # One block of the log: joins its queue's index.
        cdef Table* t = &self.s.table
        cdef Queue* q
        cdef Segment* segment = &self.s.segments[slot]
        cdef uint64_t entry, code
        if time_s > segment.newest_s:
            segment.newest_s = time_s
        if queue >= t.ids or not t.queues[queue].flags & QUEUE_ALIVE:
            if queue >= t.ids:
                self.orphans += 1
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
            self._stray(queue, first, count, entry)
            return 0
        self._gap(queue, first)
        if index_append(t, q, first, entry) != DONE:
            raise MemoryError
        q.next = first + count
        segment.live += block_cost(<uint32_t>code)
        return 0

    cdef int _stray(self, uint32_t queue, uint64_t first, uint32_t count, uint64_t entry) except -1:
        cdef Stray stray
        memset(&stray, 0, sizeof(Stray))
        stray.queue = queue
        stray.first = first
        stray.count = count
        stray.entry = entry
        if bytes_add(&self.strays, &stray, sizeof(Stray)) != DONE:
            raise MemoryError
        return 0

    cdef int _gap(self, uint32_t queue, uint64_t to) except -1:
        # Messages from the queue's end to ``to`` are not there, at least not yet.
        self.gaps = True
        cdef Table* t = &self.s.table
        cdef Queue* q = &t.queues[queue]
        cdef uint64_t part
        while q.next < to:
            part = min(to - q.next, 65535)
            if index_append(t, q, q.next, entry_of(PLACE_LOST(), 0, part)) != DONE:
                raise MemoryError
            q.next += part
        return 0

    cdef int read_segments(self, list numbers) except -1:
        cdef Store* s = self.s
        cdef int slot
        cdef Window w
        last = max(numbers, default=0)
        have = set(numbers)
        end = max((end for _, end in self.dropped), default=1)
        expected = range(1, max(last, end - 1, self.evidence >> 32) + 1)
        self.missing = sorted(without(expected, have, self.dropped))
        for number in self.missing:
            self.damage.append((f"{number:010}.seg", 0, 0, 0, 0, "the file is missing"))
        for number in numbers:
            name = f"{number:010}.seg"
            slot = slot_of(s)
            if slot < 0:
                raise CorruptionError(f"{self.path}: more than 8,192 segments")
            s.segments[slot].number = number
            s.segments[slot].state = SEGMENT_SEALED
            w = window(s, self.path, name, s.direct)
            s.segments[slot].length = w.length
            # The end of the last one may be there although what is before it is not: only evidence
            # that all of it had been synced makes its directory worth more than its blocks.
            trusted = number != last or self.evidence >= (number << 32 | w.length)
            if not (trusted and self._directory(w, slot, number)):
                self._scan(w, slot, number, number == last)
        s.number = len(expected)
        return 0

    cdef bint _directory(self, Window w, int slot, uint64_t number) except -1:
        cdef Header h
        cdef char* at
        cdef uint64_t offset, i
        cdef uint64_t first
        cdef uint32_t fields[4]
        if w.length < SECTOR or w.length % SECTOR:
            return False
        if not file_header(w, b"DRGQSEGM", self.identity, number):
            return False
        at = w.at(w.length - BLOCK_HEADER, BLOCK_HEADER)
        if at == NULL:
            return False
        memcpy(&h, at, BLOCK_HEADER)
        if not header_valid(&h, number, w.length - BLOCK_HEADER) or h.kind != KIND_TRAILER:
            return False
        offset = h.offset
        at = w.at(offset, BLOCK_HEADER)
        if at == NULL:
            return False
        memcpy(&h, at, BLOCK_HEADER)
        if not header_valid(&h, number, offset) or h.kind != KIND_DIRECTORY:
            return False
        if h.length != h.offset * DIRECTORY_ENTRY:
            return False
        at = w.at(offset + BLOCK_HEADER, h.length) if h.length else NULL
        if h.length and (at == NULL or crc(0, at, h.length) != h.payload_check):
            return False
        for i in range(h.offset):
            memcpy(&first, at + i * 24, 8)
            memcpy(fields, at + i * 24 + 8, 16)
            self.block(
                slot, first & ((1ULL << 48) - 1), first >> 48, fields[0], fields[1], fields[2],
                fields[3],
            )
        return True

    cdef int _scan(self, Window w, int slot, uint64_t number, bint last) except -1:
        # Without a directory: every block is looked at.
        cdef Header h
        cdef char* at
        cdef uint64_t position = 64
        cdef uint64_t marked = self.evidence if self.evidence >> 32 == number else 0
        cdef uint64_t end, cut, known
        cdef bint lost = False
        cdef bint sealed = False
        entries = []
        bad = []
        if not last or self.evidence >> 32 > number:
            marked = <uint64_t>EVERYTHING
        if not file_header(w, b"DRGQSEGM", self.identity, number):
            bad.append((0, "the segment's header is damaged"))
            lost = True
        while position < w.length:
            at = w.at(position, BLOCK_HEADER)
            if at != NULL:
                memcpy(&h, at, BLOCK_HEADER)
                if header_valid(&h, number, position):
                    at = w.at(position, BLOCK_HEADER + h.length)
                    if at != NULL and crc(0, at + BLOCK_HEADER, h.length) == h.payload_check:
                        lost = False
                        sealed = h.kind == KIND_TRAILER and position + BLOCK_HEADER == w.length
                        if h.kind == KIND_MARK and marked != <uint64_t>EVERYTHING:
                            if h.offset > marked:
                                marked = h.offset
                        if h.kind == KIND_MESSAGES:
                            entries.append((
                                h.offset & ((1ULL << 48) - 1), h.offset >> 48, h.queue,
                                position // 16, h.length, h.time_s,
                            ))
                        position += BLOCK_HEADER + align_up(h.length, 16)
                        continue
                    if at != NULL:
                        # The header is good: it says whose messages these were. They stay in the
                        # index, where reading them says what is wrong.
                        bad.append((position, h.queue, h.offset, h.kind))
                        if h.kind == KIND_MESSAGES:
                            entries.append((
                                h.offset & ((1ULL << 48) - 1), h.offset >> 48, h.queue,
                                position // 16, h.length, h.time_s,
                            ))
                        position += BLOCK_HEADER + align_up(h.length, 16)
                        lost = False
                        continue
            if not lost:
                bad.append((position, "not a block"))
                lost = True
            position += 16
        end = position if position < w.length else w.length
        # A position in this segment before which everything had been synced.
        if marked == <uint64_t>EVERYTHING:
            known = w.length
        elif marked >> 32 == number:
            known = marked & 0xFFFFFFFF
        else:
            known = 0
        cut = end
        name = w.name
        for item in bad:
            if item[0] >= known:
                cut = item[0]
                break
            if len(item) == 4 and item[3] != KIND_MESSAGES:
                self.damage.append((name, item[0], 0, 0, 0, "a block's checksum is wrong"))
            elif len(item) == 4:
                first = item[2] & ((1 << 48) - 1)
                self.damage.append(
                    (name, item[0], item[1], first, item[2] >> 48, "a block's checksum is wrong")
                )
            else:
                self.damage.append((name, item[0], 0, 0, 0, item[1]))
        if known > w.length:
            self.damage.append((name, w.length, 0, 0, 0, "the file ends too early"))
        if not last and not bad:
            self.damage.append((name, end, 0, 0, 0, "the segment was never sealed"))
        self.s.segments[slot].aside = any(item[0] < known for item in bad)
        kept = []
        for entry in entries:
            if entry[3] * 16 >= cut:
                break
            kept.append(entry)
            self.block(slot, entry[0], entry[1], entry[2], entry[3], entry[4], entry[5])
        if last and (bad or not sealed):
            self.unsealed = (slot, number, max(cut, 64), kept)
        elif last:
            self.unsynced = number
        return 0

    cdef int settle(self) except -1:
        # Blocks that were met out of order: copies, or what filled a gap.
        cdef Stray* strays = <Stray*>self.strays.data
        cdef uint64_t n = self.strays.length // sizeof(Stray)
        cdef uint64_t i = 0
        cdef uint64_t j
        if n:
            with nogil:
                qsort(strays, n, sizeof(Stray), _by_place)
        while i < n:
            j = i
            while j < n and strays[j].queue == strays[i].queue:
                j += 1
            if not _covered(&self.s.table.queues[strays[i].queue], strays + i, j - i):
                self._rebuild(strays[i].queue, strays + i, j - i)
            i = j
        free(self.strays.data)
        memset(&self.strays, 0, sizeof(Bytes))
        for id, first, count in self.known_lost:
            if self.s.table.queues[<uint32_t>id].flags & QUEUE_ALIVE:
                self._gap(id, first + count)
        return 0

    cdef int _rebuild(self, uint32_t id, const Stray* strays, uint64_t n) except -1:
        # The queue's index from all blocks that there are: those that together give the most.
        cdef Store* s = self.s
        cdef Table* t = &s.table
        cdef Queue* q = &t.queues[id]
        cdef Stray* all = <Stray*>malloc((q.entries + n) * sizeof(Stray))
        cdef uint64_t at, entry, i, low, high, middle, total = 0
        cdef uint64_t end = q.next
        cdef uint64_t start = q.index[0]
        cdef uint64_t removed = q.index[1]
        if all == NULL:
            raise MemoryError
        try:
            at = q.index[2] if q.entries else 0
            for i in range(q.entries):
                entry = q.index[entry_word(<uint32_t>i)]
                if entry_place(entry) != PLACE_LOST():
                    all[total].queue = id
                    all[total].first = at
                    all[total].count = entry_count(entry)
                    all[total].entry = entry
                    total += 1
                    s.segments[entry_place(entry) >> PLACE_SLOT_SHIFT].live -= block_cost(
                        entry_code(entry)
                    )
                at += entry_count(entry)
            memcpy(all + total, strays, n * sizeof(Stray))
            total += n
            qsort(all, total, sizeof(Stray), _by_place)
            # From behind: the most messages that this block and others after it hold.
            i = total
            while i:
                i -= 1
                low = i + 1
                high = total
                while low < high:
                    middle = (low + high) // 2
                    if all[middle].first < all[i].first + all[i].count:
                        low = middle + 1
                    else:
                        high = middle
                all[i].best = all[i].count + (all[low].best if low < total else 0)
                all[i].next = low
                if i + 1 < total and all[i + 1].best > all[i].best:
                    # Better without this one.
                    all[i].best = all[i + 1].best
                    all[i].next = i + 1
                    all[i].entry = 0
            index_rebuild(t, q, q.entries)
            q.next = start
            i = 0
            while i < total:
                if all[i].entry:
                    if q.entries or all[i].first > q.next:
                        self._gap(id, all[i].first)
                    if index_append(t, q, all[i].first, all[i].entry) != DONE:
                        raise MemoryError
                    q.next = all[i].first + all[i].count
                    s.segments[entry_place(all[i].entry) >> PLACE_SLOT_SHIFT].live += block_cost(
                        entry_code(all[i].entry)
                    )
                i = all[i].next
            self._gap(id, end)
            q.index[0] = start
            q.index[1] = removed
        finally:
            free(all)
        return 0

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


cdef bint _covered(Queue* q, const Stray* strays, uint64_t n) noexcept nogil:
    # Whether the index has all these messages already, or they have been trimmed.
    cdef uint64_t i, offset, first
    cdef uint32_t number
    for i in range(n):
        offset = strays[i].first
        if offset < queue_first(q):
            offset = queue_first(q)
        while offset < strays[i].first + strays[i].count:
            number = index_find(q, offset, &first)
            if number == q.entries or entry_place(q.index[entry_word(number)]) == PLACE_LOST():
                return False
            offset = first + entry_count(q.index[entry_word(number)])
    return True


def without(numbers, have, ranges):
    """Those of the ascending ``numbers`` that are in neither; ``ranges`` of (first, end)."""
    ranges = sorted(ranges)
    at = 0
    end = 0
    for number in numbers:
        while at < len(ranges) and ranges[at][0] <= number:
            end = max(end, ranges[at][1])
            at += 1
        if number >= end and number not in have:
            yield number


cdef int mend(Store* s, object recovery) except -1:
    """Seal the last segment where its good part ends. Before the writer's thread runs."""
    cdef Recovery r = recovery
    cdef Bytes* d = &s.directory
    cdef char name[FILE_NAME]
    cdef unsigned char entry[24]
    cdef uint64_t start, end
    cdef int fd, error
    cdef int64_t got
    if r.unsealed is None:
        return 0
    slot, number, end, kept = r.unsealed
    file_name(number, b"seg", name)
    fd = s.disk.open(s.disk, name, O_RDWR | (O_DIRECT if s.direct else 0))
    if fd < 0:
        return fd
    start = end & ~(SECTOR - 1)
    got = s.disk.read(s.disk, fd, s.gather, SECTOR, start)
    if got < 0 or (<uint64_t>got < end - start and end > 64):
        s.disk.close(s.disk, fd)
        return -EIO if got >= 0 else <int>got
    # First what is cut is gone for good: blocks behind the new end would be found beside it.
    error = s.disk.truncate(s.disk, fd, end)
    if error == 0:
        error = s.disk.sync(s.disk, fd)
    if error < 0:
        s.disk.close(s.disk, fd)
        return error
    d.length = 0
    for first, count, queue, place16, length, time_s in kept:
        packed = struct.pack(
            "<QIIII", first | count << 48, queue, place16, length, time_s
        )
        if bytes_add(d, <char*>(<bytes>packed), 24) != DONE:
            raise MemoryError
    s.slot = slot
    s.number = number
    s.segments[<int>slot].fd = fd
    s.segments[<int>slot].state = SEGMENT_WRITING
    s.open_files += 1
    s.gather_start = start
    s.gather_fill = align_up(end - start, 16)
    memset(s.gather + (end - start), 0, s.gather_fill - (end - start))
    s.mark_due = False
    if end <= 64:
        # Not even its header was whole.
        memset(s.gather, 0, 64)
        memcpy(s.gather, b"DRGQSEGM", 8)
        s.gather[8] = 1
        memcpy(s.gather + 16, s.identity, 16)
        memcpy(s.gather + 32, &s.number, 8)
        packed = struct.pack("<I", crc(0, s.gather, 60))
        memcpy(s.gather + 60, <char*>(<bytes>packed), 4)
        s.gather_fill = 64
    error = log_seal(s, False)
    if error == 0:
        log_published(s)
    r.unsealed = None
    return error
