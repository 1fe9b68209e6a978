"""The segment that the log's writer fills: begun, gathered in a buffer, written out, sealed.

Called by ``log`` in the writer's thread, and by ``torn_end`` before that runs; without the lock
unless said. What goes to the disk goes through one buffer of 4 MiB that holds whole sectors when it
is written; ``patient`` says whether a disk that refuses is asked again until it takes them.

Invariants: only the writer's thread moves ``gather_*``; a segment is sealed and synced before the
next one exists; after a failed sync the store is poisoned.
"""

from libc.errno cimport EEXIST, ENOMEM, ENOSPC
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_CREAT, O_EXCL, O_RDWR

from dragoman.queue.format.meta cimport meta_dropped, meta_flush
from dragoman.queue.format.segments cimport Header, file_name, header_seal, slot_of
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.layout cimport (
    BLOCK_HEADER, DIRECTORY_ENTRY, FILE_NAME, GATHERED, KIND_DIRECTORY, KIND_MARK, KIND_PADDING,
    KIND_TRAILER, SECTOR, align_up,
)
from dragoman.queue.memory.state cimport SEGMENT_UNSETTLED, SEGMENT_WRITING, Store
from dragoman.queue.memory.threads cimport (
    cond_wait_ms, pthread_cond_broadcast, pthread_mutex_lock, pthread_mutex_unlock,
)
from dragoman.queue.write.blocks cimport padding_bytes, segment_header, special_header

cdef extern from "fcntl.h" nogil:
    int O_DIRECT

cdef uint64_t RETRY_MS = 50
# No file has a higher number (see ``replay``).
cdef uint64_t NUMBER_TOP = 0xFFF00000


cdef int log_failed(Store* s, int error, bint patient) noexcept nogil:
    """Tell those who wait, then wait before trying again. 0: try again."""
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
        error = log_failed(s, error, patient)
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


cdef int segment_append(
    Store* s, Header* h, const char* payload, bint patient
) noexcept nogil:
    """Append a block, whose header has the checksum of its payload already."""
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
    special_header(&h, kind, value, payload, n)
    return segment_append(s, &h, payload, patient)


cdef int _pad(Store* s, uint64_t behind, bint patient) noexcept nogil:
    # Padding so that the position plus ``behind`` is a whole sector.
    cdef uint64_t gap = padding_bytes(s.gather_start + s.gather_fill + behind)
    if gap == 0:
        return 0
    return _emit_special(s, KIND_PADDING, 0, NULL, <uint32_t>(gap - BLOCK_HEADER), patient)


cdef int _begin(Store* s, bint patient) noexcept nogil:
    # The next segment.
    cdef char name[FILE_NAME]
    cdef char header[64]
    cdef int fd, slot, error
    cdef uint64_t number = s.number + 1
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
        error = log_failed(s, fd, patient)
        if error < 0:
            return error
    pthread_mutex_lock(&s.lock)
    slot = slot_of(s)
    if slot < 0:
        pthread_mutex_unlock(&s.lock)
        s.disk.close(s.disk, fd)
        s.disk.unlink(s.disk, name)
        return log_failed(s, -ENOSPC, False)
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
    segment_header(header, s.identity, number)
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


cdef int segment_seal(Store* s, bint patient) noexcept nogil:
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


cdef int segment_flush(Store* s) noexcept nogil:
    """All that was gathered is on the disk."""
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


cdef int segment_make_room(Store* s, uint64_t whole) noexcept nogil:
    """There is a segment with room for a block of ``whole`` bytes; it has the mark that is due."""
    cdef int error
    # Segment, its directory with this block in it, padding and trailer.
    if s.slot >= 0 and s.directory.length and (
        s.gather_start + s.gather_fill + whole + 32 + s.directory.length + DIRECTORY_ENTRY
        + BLOCK_HEADER + 2 * SECTOR > s.segment_bytes
    ):
        error = segment_seal(s, True)
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
