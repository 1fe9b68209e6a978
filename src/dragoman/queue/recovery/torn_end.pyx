"""The torn end of the log, which a crash left: it is cut, and the segment sealed.

Called by the engine after recovery and before the writer's thread runs, when it may write.

Invariant: what is cut is gone from the disk before anything is written in its place.
"""

import struct

from libc.errno cimport EIO
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset
from posix.fcntl cimport O_RDWR

from dragoman.queue.format.segments cimport file_name
from dragoman.queue.memory.buffer cimport bytes_add
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.layout cimport FILE_NAME, SECTOR, align_up
from dragoman.queue.memory.state cimport SEGMENT_WRITING, Bytes, Store
from dragoman.queue.recovery.findings cimport Recovery
from dragoman.queue.write.blocks cimport segment_header
from dragoman.queue.write.log cimport log_published
from dragoman.queue.write.segment cimport segment_seal

cdef extern from "fcntl.h" nogil:
    int O_DIRECT


cdef int mend(Store* s, object recovery) except? -1:
    """Seal the last segment where its good part ends. Before the writer's thread runs."""
    cdef Recovery r = recovery
    cdef Bytes* d = &s.directory
    cdef char name[FILE_NAME]
    cdef uint64_t start, end
    cdef int fd, error
    cdef int64_t got
    if r.unsealed is None:
        return 0
    slot, number, end, good = r.unsealed
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
    for first, count, queue, place16, length, time_s in good:
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
        segment_header(s.gather, s.identity, s.number)
        s.gather_fill = 64
    error = segment_seal(s, False)
    if error == 0:
        log_published(s)
    r.unsealed = None
    return error
