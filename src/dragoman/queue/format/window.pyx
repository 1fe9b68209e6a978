"""Files read from one end to the other, a stretch at a time, while the next one is being read.

Called by recovery and replay. The invariant: what ``Window.at`` gives is what the file holds, and
stays where it is until the next call.
"""

import os
import struct

from dragoman.errors import CorruptionError

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy
from posix.fcntl cimport O_RDONLY

from dragoman.queue.disk.readahead cimport Reading, reading_begin, reading_end
from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.memory.layout cimport GATHERED, SECTOR, align_up
from dragoman.queue.memory.state cimport Store

cdef extern from "fcntl.h" nogil:
    int O_DIRECT
cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

crc_prepare()

EVERYTHING = 0xFFFFFFFFFFFFFFFF
# Room for what is left of one stretch of a file when the next one comes.
cdef uint64_t AHEAD = GATHERED


cdef class Window:
    """A file read through a buffer that moves along it, and ahead where it is read in order."""

    def __dealloc__(self):
        if self.ahead.running:
            reading_end(&self.ahead)
        free(self.buffer)
        free(self.other)
        if self.fd >= 0:
            self.store.disk.close(self.store.disk, self.fd)

    cdef char* at(self, uint64_t offset, uint64_t n) except? NULL:
        """``n`` bytes at ``offset``, or NULL where the file ends before."""
        cdef uint64_t end = self.start + self.have
        if offset + n > self.length:
            return NULL
        if offset < self.start or offset + n > end:
            if self.ahead.running and offset >= self.start and offset <= end and (
                end - offset <= AHEAD and offset + n <= self.ahead.offset + self.ahead.bytes
            ):
                self._go_on(offset)
            else:
                self._jump(offset, n, self.have != 0 and self.start <= offset <= end)
            if offset + n > self.start + self.have:
                return NULL
        return self.base + (offset - self.start)

    cdef int _go_on(self, uint64_t offset) except -1:
        # The next stretch has been read; what is left of the last one goes before it.
        cdef int64_t got
        cdef uint64_t left = self.start + self.have - offset
        with nogil:
            got = reading_end(&self.ahead)
        if got < 0:
            self.have = 0
            raise OSError(-got, os.strerror(-got), self.name)
        memcpy(self.other + AHEAD - left, self.base + (offset - self.start), left)
        self.buffer, self.other = self.other, self.buffer
        self.base = self.buffer + AHEAD - left
        self.start = offset
        self.have = left + got
        self._read_on()
        return 0

    cdef int _jump(self, uint64_t offset, uint64_t n, bint in_order) except -1:
        cdef int64_t got
        cdef uint64_t want = align_up(n + SECTOR, SECTOR)
        if want < GATHERED:
            want = GATHERED
        if self.ahead.running:
            with nogil:
                reading_end(&self.ahead)
        if want > self.capacity:
            free(self.buffer)
            free(self.other)
            self.buffer = self.other = NULL
            self.capacity = self.have = 0
            if posix_memalign(<void**>&self.buffer, SECTOR, AHEAD + want) != 0:
                raise MemoryError
            self.capacity = want
        self.start = offset & ~<uint64_t>(SECTOR - 1)
        self.base = self.buffer + AHEAD
        with nogil:
            got = self.store.disk.read(
                self.store.disk, self.fd, self.base, self.capacity, self.start
            )
        if got < 0:
            self.have = 0
            raise OSError(-got, os.strerror(-got), self.name)
        self.have = got
        if in_order:
            self._read_on()
        return 0

    cdef int _read_on(self) except -1:
        # Behind what there is, if the file goes on.
        cdef Reading* r = &self.ahead
        r.offset = self.start + self.have
        if r.offset >= self.length or r.offset % SECTOR:
            return 0
        if self.other == NULL and (
            posix_memalign(<void**>&self.other, SECTOR, AHEAD + self.capacity) != 0
        ):
            self.other = NULL
            return 0
        r.disk = self.store.disk
        r.fd = self.fd
        r.into = self.other + AHEAD
        r.bytes = self.capacity
        reading_begin(r)
        return 0


cdef Window window(Store* s, str path, str name, bint direct):
    """Over the file ``name`` of the store at ``path``, which is for messages only."""
    cdef Window w = Window.__new__(Window)
    cdef bytes encoded = os.fsencode(name)
    cdef const char* text = encoded
    w.store = s
    w.name = name
    w.fd = s.disk.open(s.disk, text, O_RDONLY | (O_DIRECT if direct else 0))
    if w.fd < 0:
        raise OSError(-w.fd, os.strerror(-w.fd), f"{path}/{name}")
    w.length = os.fstat(w.fd).st_size
    return w


cdef bint file_header(Window w, bytes magic, bytes identity, uint64_t number) except -1:
    # EVERYTHING stands for any number.
    cdef char* at = w.at(0, 64)
    if at == NULL:
        return False
    head = at[:64]
    if head[:8] != magic or struct.unpack_from("<I", head, 60)[0] != crc(0, at, 60):
        return False
    if struct.unpack_from("<I", head, 8)[0] != 1:
        raise CorruptionError(f"{w.name}: version {struct.unpack_from('<I', head, 8)[0]}, not 1")
    if number != <uint64_t>EVERYTHING and struct.unpack_from("<Q", head, 32)[0] != number:
        return False
    return head[16:32] == identity
