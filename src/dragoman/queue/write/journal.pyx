"""The journal: puts that are not yet in a block, so that they survive.

Puts append entries to the frame that is being filled, under the store's lock; one thread
(``journal_run``) writes and syncs frames, so that all who put meanwhile share one sync. Under
durability ``none`` it writes only what ``sync`` gives it: the tails. The format is in
docs/formats/queue.md.

Invariants: a frame is written only after META's records before it, and is acknowledged only after a
sync of both; a frame that could not be written is written again at the same place; after a failed
sync nothing is ever acknowledged again.
"""

from libc.errno cimport EEXIST, EIO, ENOMEM
from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_CREAT, O_EXCL, O_RDWR

from dragoman.queue.disk.crc cimport crc, crc_place, crc_prepare
from dragoman.queue.format.segments cimport file_name
from dragoman.queue.format.meta cimport meta_flush
from dragoman.queue.memory.errors cimport DONE, NO_MEMORY
from dragoman.queue.memory.layout cimport FILE_NAME, QUEUE_DIRTY, SECTOR, align_up, varint_put
from dragoman.queue.memory.state cimport DURABILITY_ALWAYS, DURABILITY_INTERVAL, Bytes, Queue, Store
from dragoman.queue.memory.tail cimport tail_copy
from dragoman.queue.memory.threads cimport (
    cond_wait_ms, monotonic_ms, pthread_cond_broadcast, pthread_cond_signal, pthread_cond_wait,
    pthread_mutex_lock, pthread_mutex_unlock,
)

cdef extern from "fcntl.h" nogil:
    int O_DIRECT
cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

crc_prepare()

cdef uint64_t FRAME_HEADER = 64
# A frame this long is written without waiting for the interval.
cdef uint64_t FRAME_FULL = 1048576
cdef uint64_t RETRY_MS = 50


cdef int frame_reserve(Bytes* b, size_t more) noexcept nogil:
    """Room for ``more`` bytes in a buffer aligned for O_DIRECT, and for its padding."""
    cdef size_t capacity = b.capacity if b.capacity else 65536
    cdef void* data = NULL
    if b.length + more + SECTOR <= b.capacity:
        return DONE
    while capacity < b.length + more + SECTOR:
        capacity *= 2
    if posix_memalign(&data, SECTOR, capacity) != 0:
        return NO_MEMORY
    if b.length:
        memcpy(data, b.data, b.length)
    free(b.data)
    b.data = <char*>data
    b.capacity = capacity
    return DONE


cdef int journal_open(Store* s) noexcept nogil:
    """Prepare the first frame."""
    if frame_reserve(&s.frame, FRAME_HEADER) != DONE:
        return NO_MEMORY
    if frame_reserve(&s.frame_out, FRAME_HEADER) != DONE:
        return NO_MEMORY
    memset(s.frame.data, 0, FRAME_HEADER)
    s.frame.length = FRAME_HEADER
    return DONE


cdef inline void _entry(
    Store* s, uint32_t id, uint32_t n, uint64_t first, uint32_t count
) noexcept nogil:
    cdef char* at = s.frame.data + s.frame.length
    cdef uint64_t packed = first | <uint64_t>count << 48
    memcpy(at, &id, 4)
    memcpy(at + 4, &n, 4)
    memcpy(at + 8, &packed, 8)
    s.frame.length += 16
    s.frame_entries += 1


cdef int journal_put(
    Store* s, uint32_t id, uint64_t offset, const char* message, size_t n
) noexcept nogil:
    """Note a put. Room for it must have been reserved."""
    cdef char length[8]
    cdef uint32_t prefix = varint_put(length, n)
    cdef Queue* q = &s.table.queues[id]
    _entry(s, id, <uint32_t>(prefix + n), offset, 1)
    memcpy(s.frame.data + s.frame.length, length, prefix)
    s.frame.length += prefix
    memcpy(s.frame.data + s.frame.length, message, n)
    s.frame.length += n
    if q.count == 1:
        q.birth = s.journal_file
    if s.frame_entries == 1 or s.frame.length > FRAME_FULL:
        pthread_cond_signal(&s.journal_work)
    return DONE


cdef int journal_tail(Store* s, uint32_t id) noexcept nogil:
    """Note a whole tail, which is not empty. Under the lock."""
    cdef Queue* q = &s.table.queues[id]
    if frame_reserve(&s.frame, 16 + q.bytes) != DONE:
        return NO_MEMORY
    _entry(s, id, q.bytes, q.next - q.count, q.count)
    tail_copy(&s.table, q.head, q.bytes, s.frame.data + s.frame.length)
    s.frame.length += q.bytes
    q.birth = s.journal_file
    return DONE


cdef int journal_wait(Store* s, uint64_t frame) noexcept nogil:
    """Under the lock: until ``frame`` is durable, or a negative errno."""
    if s.frame_wanted < frame:
        s.frame_wanted = frame
        pthread_cond_signal(&s.journal_work)
    while s.frame_synced < frame:
        if s.poison:
            return -s.poison
        if s.journal_error:
            return -s.journal_error
        if not s.journal_alive:
            return -EIO
        pthread_cond_wait(&s.durable, &s.lock)
    return 0


cdef int journal_tails(Store* s, uint32_t birth) noexcept nogil:
    """Note all tails born up to journal file ``birth`` (0: all that changed), durably.

    Takes and leaves the lock. A negative errno says why not.
    """
    cdef uint32_t id = 1
    cdef uint32_t end
    cdef uint64_t frame = 0
    cdef Queue* q
    cdef int error = 0
    pthread_mutex_lock(&s.lock)
    end = s.table.ids
    while id < end and error == 0:
        q = &s.table.queues[id]
        if birth == 0:
            if q.flags & QUEUE_DIRTY:
                q.flags &= ~QUEUE_DIRTY
                if q.count:
                    frame = s.frame_number
                    error = journal_tail(s, id)
        elif q.count and q.birth and q.birth <= birth:
            frame = s.frame_number
            error = journal_tail(s, id)
        if error:
            error = -ENOMEM
        elif s.frame.length > 4 * FRAME_FULL:
            error = journal_wait(s, s.frame_number)
        elif id % 1024 == 0:
            # Others may have a turn.
            pthread_mutex_unlock(&s.lock)
            pthread_mutex_lock(&s.lock)
        id += 1
    if error == 0 and frame:
        error = journal_wait(s, frame)
    if error < 0 and birth == 0:
        for id in range(1, end):
            if s.table.queues[id].count:
                s.table.queues[id].flags |= QUEUE_DIRTY
    pthread_mutex_unlock(&s.lock)
    return error


cdef int log_flushed(Store* s) noexcept nogil:
    """Until all blocks that were on their way are durable. Takes and leaves the lock."""
    cdef uint64_t ticket
    cdef int error = 0
    pthread_mutex_lock(&s.lock)
    s.flush_asked += 1
    ticket = s.flush_asked
    pthread_cond_signal(&s.work)
    while s.flush_done < ticket:
        if s.poison or not s.writer_alive:
            break
        if s.log_error:
            break
        pthread_cond_wait(&s.space, &s.lock)
    if s.poison:
        error = -s.poison
    elif s.log_error:
        error = -s.log_error
    elif s.flush_done < ticket:
        error = -EIO
    pthread_mutex_unlock(&s.lock)
    return error


cdef uint32_t journal_files_max(Store* s) noexcept nogil:
    """How many files the journal may have: fewer than fit, for frames that are under way."""
    cdef uint64_t files = s.journal_bytes_max // s.journal_file_bytes
    return <uint32_t>files - 3 if files > 5 else 3


cdef void journal_measure(Store* s) noexcept nogil:
    """Under the lock: must old tails leave it, or even puts wait until they have?"""
    cdef uint32_t files = journal_files_max(s)
    cdef uint32_t have = s.journal_file - s.journal_oldest + 1
    s.journal_full = have > files
    if have > files - files // 8:
        s.journal_due = True
        pthread_cond_signal(&s.upkeep)


cdef bint journal_stray(Store* s, uint32_t number) noexcept nogil:
    """Note that the file of this number is not the journal's: it is left alone; False: too many."""
    if journal_is_stray(s, number):
        return True
    if s.journal_strays_count == 16:
        return False
    s.journal_strays[s.journal_strays_count] = number
    s.journal_strays_count += 1
    return True


cdef bint journal_is_stray(Store* s, uint32_t number) noexcept nogil:
    """Whether that was noted."""
    cdef uint32_t i
    for i in range(s.journal_strays_count):
        if s.journal_strays[i] == number:
            return True
    return False


cdef int _roll(Store* s) noexcept nogil:
    # The next file, made durable before anything is written to it.
    cdef char name[FILE_NAME]
    cdef void* header = NULL
    cdef int fd, error
    cdef uint64_t number
    cdef uint32_t check
    if s.journal_fd >= 0:
        error = s.disk.sync(s.disk, s.journal_fd)
        if error < 0:
            pthread_mutex_lock(&s.lock)
            s.poison = -error
            pthread_mutex_unlock(&s.lock)
            return error
        s.disk.close(s.disk, s.journal_fd)
        s.journal_fd = -1
        pthread_mutex_lock(&s.lock)
        s.journal_file += 1
        journal_measure(s)
        pthread_mutex_unlock(&s.lock)
    if posix_memalign(&header, SECTOR, SECTOR) != 0:
        return -ENOMEM
    while True:
        number = s.journal_file
        file_name(number, b"jnl", name)
        fd = s.disk.open(s.disk, name, O_RDWR | O_CREAT | O_EXCL | (O_DIRECT if s.direct else 0))
        if fd != -EEXIST:
            break
        # It is none of ours.
        pthread_mutex_lock(&s.lock)
        if not journal_stray(s, s.journal_file):
            pthread_mutex_unlock(&s.lock)
            break
        s.journal_file += 1
        journal_measure(s)
        pthread_mutex_unlock(&s.lock)
    if fd < 0:
        free(header)
        return fd
    memset(header, 0, SECTOR)
    memcpy(header, b"DRGQJRNL", 8)
    (<char*>header)[8] = 1
    memcpy(<char*>header + 16, s.identity, 16)
    memcpy(<char*>header + 32, &number, 8)
    check = crc(0, header, 60)
    memcpy(<char*>header + 60, &check, 4)
    error = s.disk.write(s.disk, fd, <char*>header, SECTOR, 0)
    free(header)
    if error == 0:
        error = s.disk.sync_directory(s.disk)
    if error < 0:
        s.disk.close(s.disk, fd)
        s.disk.unlink(s.disk, name)
        return error
    s.journal_fd = fd
    s.journal_offset = SECTOR
    return 0


cdef int _write(Store* s, uint64_t number, uint32_t entries, bint sync) noexcept nogil:
    # The frame that was taken out; 0, or a negative errno and it may be tried again.
    cdef Bytes* out = &s.frame_out
    cdef char* h = out.data
    cdef uint64_t whole = align_up(out.length, SECTOR)
    cdef uint32_t body = <uint32_t>(out.length - FRAME_HEADER)
    cdef uint32_t magic = 0x4A515244
    cdef uint32_t check
    cdef int error
    error = meta_flush(s, sync)
    if error < 0:
        return error
    if s.journal_fd < 0 or (
        s.journal_offset > SECTOR and s.journal_offset + whole > s.journal_file_bytes
    ):
        error = _roll(s)
        if error < 0:
            return error
    memset(h, 0, FRAME_HEADER)
    memset(h + out.length, 0, whole - out.length)
    memcpy(h, &magic, 4)
    memcpy(h + 8, &body, 4)
    memcpy(h + 12, &entries, 4)
    memcpy(h + 16, &number, 8)
    memcpy(h + 24, &s.frame_synced, 8)
    # Together: a META that is rewritten meanwhile changes both.
    pthread_mutex_lock(&s.lock)
    memcpy(h + 32, &s.synced, 8)
    memcpy(h + 40, &s.meta_synced, 8)
    memcpy(h + 48, &s.meta_generation, 8)
    pthread_mutex_unlock(&s.lock)
    check = crc(crc_place(s.journal_file, s.journal_offset), h + 8, FRAME_HEADER - 8 + body)
    memcpy(h + 4, &check, 4)
    error = s.disk.write(s.disk, s.journal_fd, h, whole, s.journal_offset)
    if error < 0:
        return error
    s.journal_offset += whole
    s.journal_written += whole
    return 0


cdef int journal_end(Store* s) noexcept nogil:
    """After the thread has ended: an empty frame that says how far everything is on the disk."""
    cdef int error
    if s.journal_fd < 0 and s.log_written == 0:
        return 0
    s.frame_out.length = FRAME_HEADER
    error = _write(s, s.frame_number, 0, True)
    if error == 0:
        error = s.disk.sync(s.disk, s.journal_fd)
    if error == 0:
        s.frame_synced = s.frame_number
        s.frame_number += 1
    return error


cdef void _take_frame(Store* s) noexcept nogil:
    # Under the lock: the frame that is full is to be written; the next one gathers meanwhile.
    cdef Bytes swap = s.frame
    s.frame = s.frame_out
    s.frame_out = swap
    s.frame.length = FRAME_HEADER
    s.frame_entries = 0
    s.frame_number += 1


cdef int _write_in_time(Store* s, uint64_t number, uint32_t entries, bint sync) noexcept nogil:
    # Again and again until the disk takes it; a negative errno if the store ends before.
    cdef int error
    while True:
        error = _write(s, number, entries, sync)
        if error == 0 or s.poison:
            return error
        pthread_mutex_lock(&s.lock)
        s.journal_error = -error
        pthread_cond_broadcast(&s.durable)
        if s.closing:
            pthread_mutex_unlock(&s.lock)
            return error
        cond_wait_ms(&s.journal_work, &s.lock, RETRY_MS)
        pthread_mutex_unlock(&s.lock)


cdef int _sync(Store* s) noexcept nogil:
    # What was written of the journal is on the disk, or the store is poisoned.
    cdef int error = s.disk.sync(s.disk, s.journal_fd)
    if error == 0:
        # Or the files were removed, and nobody will find what this says.
        error = s.disk.named(s.disk, s.journal_fd)
    if error < 0:
        pthread_mutex_lock(&s.lock)
        s.poison = -error
        pthread_mutex_unlock(&s.lock)
    return error


cdef void journal_run(Store* s) noexcept nogil:
    """The journal's thread, until the store closes."""
    cdef uint64_t number, now
    cdef uint64_t due = 0
    cdef uint32_t entries
    cdef int error
    cdef bint sync, unsynced = False
    pthread_mutex_lock(&s.lock)
    while not s.poison:
        now = monotonic_ms()
        sync = (
            s.frame_wanted > s.frame_synced or s.durability == DURABILITY_ALWAYS or s.closing
            or (s.durability == DURABILITY_INTERVAL and now >= due)
        )
        if s.frame_entries == 0 and not (sync and unsynced):
            if s.closing:
                break
            if unsynced:
                cond_wait_ms(&s.journal_work, &s.lock, due - now if due > now else 0)
            else:
                pthread_cond_wait(&s.journal_work, &s.lock)
                if s.durability == DURABILITY_INTERVAL:
                    due = monotonic_ms() + s.interval_ms
            continue
        if not sync and s.frame.length < FRAME_FULL:
            cond_wait_ms(&s.journal_work, &s.lock, due - now if due > now else 0)
            continue
        entries = s.frame_entries
        number = s.frame_number - (0 if entries else 1)
        if entries:
            _take_frame(s)
        pthread_mutex_unlock(&s.lock)
        error = 0
        if entries:
            error = _write_in_time(s, number, entries, sync)
        if error == 0 and sync and s.journal_fd >= 0 and not s.poison:
            if entries == 0:
                error = meta_flush(s, True)
            if error == 0:
                error = _sync(s)
        pthread_mutex_lock(&s.lock)
        if error < 0:
            # Whoever waits hears of it; it is META's, unless the store ends.
            s.journal_error = -error
            pthread_cond_broadcast(&s.durable)
            if s.closing or s.poison:
                break
            cond_wait_ms(&s.journal_work, &s.lock, RETRY_MS)
            continue
        s.journal_error = 0
        s.frame_written = number
        unsynced = not sync
        if sync:
            s.syncs += 1
            s.frame_synced = number
            due = monotonic_ms() + s.interval_ms
        pthread_cond_broadcast(&s.durable)
    s.journal_alive = False
    pthread_cond_broadcast(&s.durable)
    pthread_cond_broadcast(&s.space)
    pthread_mutex_unlock(&s.lock)
