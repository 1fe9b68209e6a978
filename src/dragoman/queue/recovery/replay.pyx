"""Opening, as a whole, and its last part: the journal, whose messages go to tails as if put again.

Called once by the engine before anybody else has the store: ``recover`` reads META and the log,
``Replay.replay`` then the journal, while the log's writer takes what does not fit into memory.
Which frames count, and when a missing one is damage, is in docs/formats/queue.md, "Journal".

Invariant: a message joins its queue only behind all before it, and only once.
"""

import os
import re
import stat

from dragoman.queue.recovery.scan import without
from dragoman.queue.format.window import EVERYTHING

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from dragoman.queue.disk.readahead cimport touching_begin, touching_end
from dragoman.queue.disk.crc cimport crc, crc_place, crc_prepare
from dragoman.queue.write.journal cimport journal_stray
from dragoman.queue.recovery.entries cimport replay_entries
from dragoman.queue.recovery.findings cimport Recovery
from dragoman.queue.recovery.meta cimport read_meta
from dragoman.queue.recovery.scan cimport read_segments
from dragoman.queue.recovery.strays cimport settle
from dragoman.queue.memory.layout cimport QUEUE_ALIVE, SECTOR, align_up
from dragoman.queue.memory.state cimport Bytes, Store
from dragoman.queue.format.window cimport Window, file_header, window

crc_prepare()

# What fits the number of a file, with room for those that are still to come.
NUMBER_MAX = (1 << 32) - (1 << 20)
NOT_OURS = "not a file of this store: it is left alone"
FILE = re.compile(r"^(\d{10,})\.(seg|jnl)$")


cdef class Replay(Recovery):
    """What opening found, and the journal's part in it."""

    cdef bint _frame(self, Window w, uint64_t number, uint64_t at, uint64_t* fields) except -1:
        # fields: body, entries, frame, synced frame, position, META's length and generation
        cdef char* head = w.at(at, 64)
        cdef uint32_t small[4]
        if head == NULL:
            return False
        memcpy(small, head, 16)
        if small[0] != 0x4A515244:
            return False
        head = w.at(at, 64 + small[2])
        if head == NULL:
            return False
        if small[1] != crc(crc_place(number, at), head + 8, 56 + small[2]):
            return False
        fields[0] = small[2]
        fields[1] = small[3]
        memcpy(&fields[2], head + 16, 40)
        return True

    cdef bint has_frames(self, Window w, uint64_t number) except -1:
        """Whether anything of this file is the journal's."""
        cdef uint64_t fields[7]
        cdef uint64_t at = SECTOR
        while at < w.length:
            if self._frame(w, number, at, fields):
                return True
            at += SECTOR
        return False

    cdef int look_at_journal(self) except -1:
        # The newest frames tell what of the rest had been synced.
        cdef uint64_t fields[7]
        cdef uint64_t at
        cdef Window w
        for number in reversed(self.journals):
            name = f"{number:010}.jnl"
            w = window(self.s, self.path, name, self.s.direct)
            at = SECTOR
            found = False
            while at < w.length:
                if self._frame(w, number, at, fields):
                    found = True
                    self.evidence = max(self.evidence, fields[4])
                    self.meta_evidence[fields[6]] = max(
                        self.meta_evidence.get(fields[6], 0), fields[5]
                    )
                    at += align_up(64 + fields[0], SECTOR)
                else:
                    at += SECTOR
            if found:
                break
        return 0

    def replay(self):
        """Put what the journal has and the log has not. The writer is running if it may write.

        A tail that was moved to a newer file is there as one entry, and what the older files have
        of it does not join its queue any more. So such entries are passed over at first; only if
        their messages turn up nowhere may something be lost, and a second pass takes what there is.
        """
        cdef uint64_t pair[2]
        cdef uint64_t i
        holes, synced, torn = self._pass(True)
        for name, offset, frame in holes:
            if frame and frame <= synced:
                self.damage.append((name, offset, 0, 0, 0, f"frame {frame} is damaged or missing"))
        if torn and not self.damage:
            # A torn end is none any more when frames follow it.
            self.stale = True
        if self.damage:
            self.cuts.clear()
        for i in range(self.apart.length // 16):
            memcpy(pair, self.apart.data + 16 * i, 16)
            if (
                self.s.table.queues[pair[0]].flags & QUEUE_ALIVE
                and self.s.table.queues[pair[0]].next < pair[1]
            ):
                if self.damage:
                    self._pass(False)
                else:
                    # Nothing is damaged: the blocks before them never left memory, so nobody was
                    # told that they had been synced.
                    self.stale = True
                break
        free(self.apart.data)
        memset(&self.apart, 0, sizeof(Bytes))
        with nogil:
            touching_end(&self.s.touching)
        if self.frame_last < self.closed_frame:
            name = f"{max(self.journals, default=1):010}.jnl"
            self.damage.append(
                (name, 0, 0, 0, 0, f"frames up to {self.closed_frame} are damaged or missing")
            )
        if self.gaps:
            self._report_gaps()
        self._take_back_positions()

    cdef int _take_back_positions(self) except -1:
        # A group may have committed what no sync had covered. It gets what comes in its place.
        cdef uint64_t length
        for id, positions in self.groups.items():
            length = self.s.table.queues[<uint32_t>id].next
            for group, position in positions.items():
                if position > length:
                    self.beyond.append((id, group, length))
        for id, group, position in self.beyond:
            self.groups[id][group] = position
        return 0

    cdef int _report_gaps(self) except -1:
        # What is missing and was neither given up by a repair nor named already.
        named: dict[int, list] = {}
        for id, first, count in self.known_lost:
            named.setdefault(id, []).append((first, first + count))
        for _, _, id, first, count, _ in self.damage:
            if id:
                named.setdefault(id, []).append((first, first + count))
        for id, first, count in self.lost_ranges():
            for start, end in _remaining(first, first + count, named.get(id, [])):
                self.damage.append(("", 0, id, start, end - start, "the messages are missing"))
        return 0

    def _pass(self, bint first):
        # Returns where frames are missing, and the newest that had been synced.
        cdef uint64_t fields[7]
        cdef uint64_t at, end, expected = 0
        cdef uint64_t missing
        cdef Window w
        self.cuts.clear()
        holes = []  # (file, offset, a frame that should be there)
        synced = self.closed_frame
        place = None
        torn = False
        for number in self.journals:
            name = f"{number:010}.jnl"
            w = window(self.s, self.path, name, self.s.direct)
            header = file_header(w, b"DRGQJRNL", self.identity, number)
            at = end = SECTOR
            while at < w.length:
                if not self._frame(w, number, at, fields) or fields[2] < expected:
                    if place is None:
                        place = (name, at)
                    at += SECTOR
                    continue
                if fields[3] > synced:
                    synced = fields[3]
                if expected and fields[2] != expected:
                    missing = expected
                elif not header:
                    missing = fields[2]  # nothing of a file had been synced without its header
                else:
                    missing = fields[2] - 1 if not expected and place is not None else 0
                if missing > synced:
                    synced = max(synced, self._known_later(w, number, at, missing))
                if missing > synced:
                    # Nobody had waited for what is missing: the journal ends there.
                    torn = True
                    expected = missing
                    break
                if not header:
                    holes.append((name, 0, fields[2]))
                    header = torn = True
                if fields[2] != expected and (place is not None or expected):
                    where = place if place is not None else (name, at)
                    holes.append((*where, expected if expected else fields[2] - 1))
                place = None
                expected = fields[2] + 1
                self._entries(
                    w.at(at, 64 + fields[0]) + 64, fields[0], fields[1], number, name, at, first
                )
                at += align_up(64 + fields[0], SECTOR)
                end = at
            if end < w.length:
                torn = True
                self.cuts.append((number, end))
        self.frame_last = expected - 1 if expected else 0
        return holes, synced, torn

    cdef uint64_t _known_later(self, Window w, uint64_t number, uint64_t at,
                               uint64_t missing) except? 0:
        # The newest frame of which this one or a later one of the same process says that it had
        # been synced. A process after that which found ``missing`` missing used the number again.
        cdef uint64_t fields[7]
        cdef uint64_t known = 0
        cdef bint first = False
        later = [other for other in self.journals if other > number]
        while True:
            while at < w.length:
                if not self._frame(w, number, at, fields):
                    at += SECTOR
                    continue
                if first and fields[2] <= missing:
                    return known
                first = False
                known = max(known, fields[3])
                at += align_up(64 + fields[0], SECTOR)
            if not later:
                return known
            number = later.pop(0)
            name = f"{number:010}.jnl"
            w = window(self.s, self.path, name, self.s.direct)
            at = SECTOR
            first = True

    cdef int _entries(self, char* body, uint64_t n, uint64_t entries, uint64_t number,
                      str name, uint64_t offset, bint first) except -1:
        cdef uint64_t bad
        cdef Bytes* apart = &self.apart if first else NULL
        with nogil:
            bad = replay_entries(self.s, body, n, entries, <uint32_t>number, apart)
        if bad == <uint64_t>EVERYTHING:
            error = self.s.poison if self.s.poison else self.s.log_error
            if error:
                # No room in memory for what the log does not take.
                raise OSError(error, os.strerror(error), self.path)
            raise MemoryError
        if bad:
            self.damage.append((name, offset, 0, 0, 0, f"{bad} entries do not join their queues"))
        return 0


cdef object recover(Store* s, object files, str path, bint repair):
    """Read META and the log; the caller then lets ``replay`` run. Returns the Recovery."""
    cdef Replay r = Replay.__new__(Replay)
    r.s = s
    r.path = path
    r.identity = s.identity[:16]
    segments = []
    for name in os.listdir(s.disk.directory):
        found = FILE.match(name)
        if found:
            number = int(found[1])
            of_a_kind = segments if found[2] == "seg" else r.journals
            named = 0 < number <= NUMBER_MAX and name == f"{number:010}.{found[2]}"
            if named and _is_file(s, name):
                of_a_kind.append(number)
            else:
                r.damage.append((name, 0, 0, 0, 0, NOT_OURS))
                if named and found[2] == "jnl":
                    journal_stray(s, number)
    segments.sort()
    r.journals.sort()
    _leave_strays(r, r.journals, b"DRGQJRNL", "jnl", 0, [])
    _leave_between(r)
    _touch_tails(s, r.journals)
    r.look_at_journal()
    read_meta(r)
    # A removed segment whose file is still there: the removal was cut short.
    _leave_strays(r, segments, b"DRGQSEGM", "seg", r.evidence >> 32, r.dropped)
    read_segments(r, sorted(without(segments, set(), r.dropped)))
    settle(r)
    return r


cdef bint _is_file(Store* s, str name) except -1:
    # Anything else might even keep whoever opens it waiting.
    return stat.S_ISREG(os.stat(name, dir_fd=s.disk.directory, follow_symlinks=False).st_mode)


cdef int _leave_strays(
    Replay r, list numbers, bytes magic, str kind, uint64_t known, list dropped
) except -1:
    # A file behind a gap that does not begin like one of this store is none of it: it proves
    # nothing of those that would have to be before it. ``known``: up to where there are files.
    whole = kind == "seg" and not any(damage[0] == "META" for damage in r.damage)
    while len(numbers) > 1 or (numbers and whole):
        number = numbers[len(numbers) - 1]
        before = numbers[len(numbers) - 2] if len(numbers) > 1 else 0
        if number <= known or before == number - 1:
            return 0
        if any(first <= number - 1 < end for first, end in dropped):
            return 0
        name = f"{number:010}.{kind}"
        if file_header(window(r.s, r.path, name, r.s.direct), magic, r.identity, number):
            return 0
        r.damage.append((name, 0, 0, 0, 0, NOT_OURS))
        numbers.pop()
    return 0


cdef int _leave_between(Replay r) except -1:
    # The journal has grown past such a file. One of its own has its header before the next is made,
    # and the last one may have a part of it; should a header be damaged, frames show whose it is.
    cdef char* at
    last = max(r.journals, default=0)
    for number in list(r.journals):
        name = f"{number:010}.jnl"
        w = window(r.s, r.path, name, r.s.direct)
        if file_header(w, b"DRGQJRNL", r.identity, number) or r.has_frames(w, number):
            continue
        at = w.at(0, 8)
        if number != last or (at != NULL and at[:8] not in (b"DRGQJRNL", bytes(8))):
            r.damage.append((name, 0, 0, 0, 0, NOT_OURS))
            journal_stray(r.s, number)
            r.journals.remove(number)
    return 0


cdef int _touch_tails(Store* s, list journals) except -1:
    # The journal's messages go to tails: as much memory as those can need, and may use.
    directory = s.disk.directory
    cdef uint64_t bytes = sum(
        os.stat(f"{number:010}.jnl", dir_fd=directory).st_size for number in journals
    )
    cdef uint64_t most = s.memory * 17 // 20
    cdef uint64_t queues = os.stat("META", dir_fd=directory).st_size // 14
    if bytes > most:
        bytes = most
    if bytes > queues * 65536:
        bytes = queues * 65536
    # Less is not worth a thread.
    if bytes >= 33554432:
        touching_begin(&s.touching, s.table.chunks, bytes)
    return 0


def _remaining(first, end, ranges):
    # What of [first, end) is in none of the ranges.
    for start, stop in sorted(ranges):
        if stop <= first or start >= end:
            continue
        if start > first:
            yield first, start
        first = max(first, stop)
    if first < end:
        yield first, end
