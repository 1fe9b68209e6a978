"""The log, read: the blocks of every segment, from its directory or, without one, by a scan.

Called by ``replay.recover`` after META. Reading never changes a file; ``torn_end`` seals what was
cut afterwards. What a block claims is believed only if its checksum is right; what is missing
although it had been synced is damage, which is noted in a list and never cut
(docs/formats/queue.md, "How a reader proceeds").
"""

from dragoman.errors import CorruptionError
from dragoman.queue.format.window import EVERYTHING

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.format.segments cimport Header, header_valid, slot_of
from dragoman.queue.format.window cimport Window, file_header, window
from dragoman.queue.memory.layout cimport (
    BLOCK_HEADER, DIRECTORY_ENTRY, KIND_DIRECTORY, KIND_MARK, KIND_MESSAGES, KIND_TRAILER, SECTOR,
    align_up,
)
from dragoman.queue.memory.state cimport SEGMENT_SEALED, Store
from dragoman.queue.recovery.findings cimport Recovery, block_found

crc_prepare()


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


cdef int read_segments(Recovery r, list numbers) except -1:
    """All blocks of these segments, ascending; numbers between that are missing are damage."""
    cdef Store* s = r.s
    cdef int slot
    cdef Window w
    last = max(numbers, default=0)
    have = set(numbers)
    end = max((end for _, end in r.dropped), default=1)
    expected = range(1, max(last, end - 1, r.evidence >> 32) + 1)
    r.missing = sorted(without(expected, have, r.dropped))
    for number in r.missing:
        r.damage.append((f"{number:010}.seg", 0, 0, 0, 0, "the file is missing"))
    for number in numbers:
        name = f"{number:010}.seg"
        slot = slot_of(s)
        if slot < 0:
            raise CorruptionError(f"{r.path}: more than 8,192 segments")
        s.segments[slot].number = number
        s.segments[slot].state = SEGMENT_SEALED
        w = window(s, r.path, name, s.direct)
        s.segments[slot].length = w.length
        # The end of the last one may be there although what is before it is not: only evidence
        # that all of it had been synced makes its directory worth more than its blocks.
        trusted = number != last or r.evidence >= (number << 32 | w.length)
        if not (trusted and _directory(r, w, slot, number)):
            _scan(r, w, slot, number, number == last)
    s.number = len(expected)
    return 0


cdef bint _directory(Recovery r, Window w, int slot, uint64_t number) except -1:
    cdef Header h
    cdef char* at
    cdef uint64_t offset, i
    cdef uint64_t first
    cdef uint32_t fields[4]
    if w.length < SECTOR or w.length % SECTOR:
        return False
    if not file_header(w, b"DRGQSEGM", r.identity, number):
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
        block_found(r, 
            slot, first & ((1ULL << 48) - 1), first >> 48, fields[0], fields[1], fields[2],
            fields[3],
        )
    return True


cdef uint64_t _blocks(
    Recovery r, Window w, uint64_t number, uint64_t* marked, bint* sealed, list entries, list bad
) except? 0:
    # Every block goes to ``entries`` as a directory has it, other bytes to ``bad``. Returns the
    # end; ``marked`` becomes what marks say was synced, unless that is everything.
    cdef Header h
    cdef char* at
    cdef uint64_t position = 64
    cdef bint lost = False
    if not file_header(w, b"DRGQSEGM", r.identity, number):
        bad.append((0, "the segment's header is damaged"))
        lost = True
    while position < w.length:
        at = w.at(position, BLOCK_HEADER)
        if at != NULL:
            memcpy(&h, at, BLOCK_HEADER)
            at = w.at(position, BLOCK_HEADER + h.length) if (
                header_valid(&h, number, position)
            ) else NULL
        if at == NULL:
            if not lost:
                bad.append((position, "not a block"))
                lost = True
            position += 16
            continue
        lost = False
        if crc(0, at + BLOCK_HEADER, h.length) == h.payload_check:
            sealed[0] = h.kind == KIND_TRAILER and position + BLOCK_HEADER == w.length
            if h.kind == KIND_MARK and marked[0] != <uint64_t>EVERYTHING:
                marked[0] = max(marked[0], h.offset)
        else:
            # The header is good: it says whose messages these were. They stay in the index, where
            # reading them says what is wrong.
            bad.append((position, h.queue, h.offset, h.kind))
        if h.kind == KIND_MESSAGES:
            entries.append((
                h.offset & ((1ULL << 48) - 1), h.offset >> 48, h.queue, position // 16, h.length,
                h.time_s,
            ))
        position += BLOCK_HEADER + align_up(h.length, 16)
    return min(position, w.length)


cdef uint64_t _judge(Recovery r, str name, list bad, uint64_t known, uint64_t end) except? 0:
    # What is bad before ``known`` is damage. Returns where the good part ends: at the first that
    # is bad behind it, or at ``end``.
    for item in bad:
        if item[0] >= known:
            return item[0]
        if len(item) == 4 and item[3] != KIND_MESSAGES:
            r.damage.append((name, item[0], 0, 0, 0, "a block's checksum is wrong"))
        elif len(item) == 4:
            first = item[2] & ((1 << 48) - 1)
            r.damage.append(
                (name, item[0], item[1], first, item[2] >> 48, "a block's checksum is wrong")
            )
        else:
            r.damage.append((name, item[0], 0, 0, 0, item[1]))
    return end


cdef int _scan(Recovery r, Window w, int slot, uint64_t number, bint last) except -1:
    # Without a directory: every block is looked at.
    cdef uint64_t marked = r.evidence if r.evidence >> 32 == number else 0
    cdef uint64_t end, cut, known
    cdef bint sealed = False
    entries = []
    bad = []
    if not last or r.evidence >> 32 > number:
        marked = <uint64_t>EVERYTHING
    end = _blocks(r, w, number, &marked, &sealed, entries, bad)
    # A position in this segment before which everything had been synced.
    if marked == <uint64_t>EVERYTHING:
        known = w.length
    elif marked >> 32 == number:
        known = marked & 0xFFFFFFFF
    else:
        known = 0
    cut = _judge(r, w.name, bad, known, end)
    if known > w.length:
        r.damage.append((w.name, w.length, 0, 0, 0, "the file ends too early"))
    if not last and not bad:
        r.damage.append((w.name, end, 0, 0, 0, "the segment was never sealed"))
    r.s.segments[slot].aside = any(item[0] < known for item in bad)
    good = []
    for entry in entries:
        if entry[3] * 16 >= cut:
            break
        good.append(entry)
        block_found(r, slot, entry[0], entry[1], entry[2], entry[3], entry[4], entry[5])
    if last and (bad or not sealed):
        r.unsealed = (slot, number, max(cut, 64), good)
    elif last:
        r.unsynced = number
    return 0
