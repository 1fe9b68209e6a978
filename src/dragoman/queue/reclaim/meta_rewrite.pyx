"""META rewritten: what is alive of it goes to a new file, which takes its name.

Called by the engine for the store's upkeep thread when most of META is dead. A snapshot of the
queues is written piece by piece while puts go on; then what the old file has gained meanwhile is
copied behind it. The order of the steps is in docs/formats/queue.md, "Rewriting".

Invariants: until the rename the old file is META and gets every record; the new one is complete and
synced before it has the name; memory is bounded by a piece of a MiB, beside the caller's groups.
"""

import os

from libc.errno cimport EEXIST, EIO, ENOMEM
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_CREAT, O_EXCL, O_RDWR

from dragoman.queue.disk.crc cimport crc, crc_prepare
from dragoman.queue.format.meta cimport (
    META_COMMIT, META_DROPPED_RANGE, META_IDS, META_LOST, META_MARK, META_QUEUE, META_TRIM,
    record_add
)
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.layout cimport QUEUE_ALIVE
from dragoman.queue.memory.state cimport (
    SEGMENT_REMOVING, Bytes, Queue, Store, queue_first, queue_name, queue_name_length,
)
from dragoman.queue.memory.threads cimport (
    pthread_cond_broadcast, pthread_mutex_lock, pthread_mutex_unlock,
)

crc_prepare()

cdef uint64_t PIECE = 1048576
# What may be left to copy while nobody else can write to META.
cdef uint64_t REST = 65536
cdef int STOPPED = 2


cdef struct Copy:
    Store* store
    int fd
    uint64_t generation
    uint64_t start  # offset in the file of out.data[0]
    Bytes out
    uint64_t copied  # up to here the old file has been taken over
    char* piece


cdef int _add(
    Copy* c, unsigned char kind, const char* fixed, uint32_t n, const char* rest, uint32_t m
) noexcept nogil:
    if record_add(&c.out, c.generation, c.start, kind, fixed, n, rest, m) != DONE:
        return -ENOMEM
    return 0


cdef int _write(Copy* c, uint64_t least) noexcept nogil:
    # Write what has gathered if it is as much as that.
    cdef int error
    if c.out.length < least or c.out.length == 0:
        return 0
    error = c.store.disk.write(c.store.disk, c.fd, c.out.data, c.out.length, c.start)
    if error < 0:
        return error
    c.start += c.out.length
    c.out.length = 0
    return 0


cdef int _queues(Copy* c) noexcept nogil:
    # The snapshot of the queues; takes and leaves the lock.
    cdef Store* s = c.store
    cdef Queue* q
    cdef uint32_t id = 1
    cdef uint32_t end, stop
    cdef char fixed[12]
    cdef uint64_t first
    cdef int error = 0
    pthread_mutex_lock(&s.lock)
    end = s.table.ids
    pthread_mutex_unlock(&s.lock)
    error = _add(c, META_IDS, <char*>&end, 4, NULL, 0)
    while id < end and error == 0:
        stop = id + 256 if id + 256 < end else end
        pthread_mutex_lock(&s.lock)
        while id < stop and error == 0:
            q = &s.table.queues[id]
            if q.flags & QUEUE_ALIVE:
                error = _add(
                    c, META_QUEUE, <char*>&id, 4, queue_name(q), queue_name_length(q)
                )
                first = queue_first(q)
                if error == 0 and first:
                    memcpy(fixed, &id, 4)
                    memcpy(fixed + 4, &first, 8)
                    error = _add(c, META_TRIM, fixed, 12, NULL, 0)
            id += 1
        pthread_mutex_unlock(&s.lock)
        if s.closing:
            return STOPPED
        if error == 0:
            error = _write(c, PIECE)
    return error


cdef int _records(Copy* c, const char* data, uint64_t n) noexcept nogil:
    # Records of the old file, for their places in the new one.
    cdef uint64_t at = 0
    cdef uint32_t length
    cdef int error
    while at + 9 <= n:
        memcpy(&length, data + at + 4, 4)
        if at + 9 + length > n:
            break
        if data[at + 8] != META_MARK:
            error = _add(c, data[at + 8], data + at + 9, length, NULL, 0)
            if error:
                return error
        at += 9 + length
    return 0 if at == n else -EIO


cdef int _take_over(Copy* c, uint64_t end) noexcept nogil:
    # What the old file holds from ``copied`` to ``end``, which is where a record ends.
    cdef Store* s = c.store
    cdef uint64_t part, at
    cdef uint32_t length
    cdef int64_t got
    cdef int error
    while c.copied < end:
        part = end - c.copied if end - c.copied < PIECE else PIECE
        got = s.disk.read(s.disk, s.meta_fd, c.piece, part, c.copied)
        if got < 0:
            return <int>got
        if <uint64_t>got < part:
            return -EIO
        at = 0
        while at + 9 <= part:
            memcpy(&length, c.piece + at + 4, 4)
            if at + 9 + length > part:
                break
            at += 9 + length
        if at == 0:
            return -EIO
        error = _records(c, c.piece, at)
        if error == 0:
            error = _write(c, PIECE)
        if error:
            return error
        c.copied += at
    return 0


cdef int _catch_up(Copy* c) noexcept nogil:
    # Until little is left to take over. What is before ``meta_start`` has been written.
    cdef Store* s = c.store
    cdef uint64_t end
    cdef int error
    while True:
        pthread_mutex_lock(&s.meta_lock)
        end = s.meta_start
        pthread_mutex_unlock(&s.meta_lock)
        if end - c.copied < REST:
            return 0
        error = _take_over(c, end)
        if error:
            return error


cdef int _complete(Copy* c) noexcept nogil:
    # With ``meta_lock``: all that the old file has, the header, and a sync.
    cdef Store* s = c.store
    cdef char header[64]
    cdef uint32_t check
    cdef int error = _take_over(c, s.meta_start)
    if error == 0:
        error = _write(c, 1)
    if error:
        return error
    memset(header, 0, 64)
    memcpy(header, b"DRGQMETA", 8)
    header[8] = 1
    memcpy(header + 16, s.identity, 16)
    memcpy(header + 32, &c.generation, 8)
    memcpy(header + 40, &c.start, 8)
    check = crc(0, header, 60)
    memcpy(header + 60, &check, 4)
    error = s.disk.write(s.disk, c.fd, header, 64, 0)
    if error == 0:
        error = s.disk.sync(s.disk, c.fd)
    return error


cdef int _change_over(Copy* c) noexcept nogil:
    # With ``meta_lock``, after the rename: records go to the new file from now on.
    cdef Store* s = c.store
    cdef int error, old
    error = s.disk.sync_directory(s.disk)
    pthread_mutex_lock(&s.lock)
    c.out.length = 0
    if _records(c, s.meta.data, s.meta.length) != 0 and error == 0:
        error = -ENOMEM
    if error < 0:
        # Whether META is the old or the new file after a crash nobody knows.
        s.poison = -error
        pthread_cond_broadcast(&s.durable)
        pthread_cond_broadcast(&s.space)
    old = s.meta_fd
    free(s.meta.data)
    s.meta = c.out
    memset(&c.out, 0, sizeof(Bytes))
    s.meta_fd = c.fd
    s.meta_start = s.meta_synced = c.start
    s.meta_generation = c.generation
    s.meta_dead = 0
    s.meta_rewrites += 1
    pthread_mutex_unlock(&s.lock)
    c.fd = -1
    s.disk.close(s.disk, old)
    return error


cdef list _dropped(Store* s, list missing):
    # (first, end) of all numbers of segments that were used and are not there.
    cdef uint64_t last
    cdef uint32_t i, n = 0
    cdef uint32_t top = s.slots_top
    cdef uint64_t* numbers = <uint64_t*>malloc((top + 1) * 8)
    if numbers == NULL:
        raise MemoryError
    with nogil:
        pthread_mutex_lock(&s.lock)
        last = s.number
        for i in range(s.slots_top):
            # One that is being removed is not there any more, which META says already.
            if s.segments[i].state and s.segments[i].state != SEGMENT_REMOVING and n <= top:
                numbers[n] = s.segments[i].number
                n += 1
        pthread_mutex_unlock(&s.lock)
    there = {numbers[i] for i in range(n)} | set(missing)
    free(numbers)
    result = []
    before = 0
    for number in sorted(there):
        if number > before + 1:
            result.append((before + 1, number))
        before = number
    if last > before:
        result.append((before + 1, last + 1))
    return result


cdef int _copy_damage(Copy* c, list lost, list missing) except? -1:
    # What a repair gave up, and the numbers of segments that are no more.
    cdef uint32_t id
    cdef uint64_t fields[2]
    cdef char fixed[20]
    cdef int error
    for id, first, messages in lost:
        fields[0], fields[1] = first, messages
        memcpy(fixed, &id, 4)
        memcpy(fixed + 4, fields, 16)
        error = _add(c, META_LOST, fixed, 20, NULL, 0)
        if error:
            return error
    for first, end in _dropped(c.store, missing):
        fields[0], fields[1] = first, end
        error = _add(c, META_DROPPED_RANGE, <char*>fields, 16, NULL, 0)
        if error:
            return error
    return 0


cdef int _copy_positions(Copy* c, dict groups) except? -1:
    cdef uint32_t id
    cdef uint64_t value
    cdef char fixed[12]
    cdef bytes group
    cdef int error
    for number in list(groups):
        for group, position in list(groups.get(number, {}).items()):
            id, value = number, position
            memcpy(fixed, &id, 4)
            memcpy(fixed + 4, &value, 8)
            error = _add(c, META_COMMIT, fixed, 12, group, <uint32_t>len(group))
            if error:
                return error
        if c.out.length >= PIECE:
            with nogil:
                error = _write(c, PIECE)
            if error:
                return error
    return 0


cdef void _note_start(Copy* c) noexcept nogil:
    # All records before this place are in memory.
    cdef Store* s = c.store
    pthread_mutex_lock(&s.meta_lock)
    pthread_mutex_lock(&s.lock)
    c.copied = s.meta_start
    pthread_mutex_unlock(&s.lock)
    pthread_mutex_unlock(&s.meta_lock)


cdef int _open_new(Copy* c, const char* temporary) noexcept nogil:
    cdef Store* s = c.store
    c.fd = s.disk.open(s.disk, temporary, O_RDWR | O_CREAT | O_EXCL)
    if c.fd == -EEXIST:
        s.disk.unlink(s.disk, temporary)  # of an attempt that failed
        c.fd = s.disk.open(s.disk, temporary, O_RDWR | O_CREAT | O_EXCL)
    return c.fd if c.fd < 0 else 0


cdef object rewrite(Store* s, object files, str path, object committing, dict groups, list lost,
                    list missing):
    """Replace META by what is alive of it.

    ``committing`` is the lock under which positions are committed to ``groups`` (by queue id);
    ``lost`` holds (id, first, messages), ``missing`` the numbers of segments that are not there
    but should be. Raises OSError when the disk refuses; META is as it was then, or the store is
    poisoned if the directory could not be synced.
    """
    cdef Copy c
    cdef int error = 0
    cdef const char* temporary = b"META.new"
    memset(&c, 0, sizeof(Copy))
    c.store = s
    c.generation = s.meta_generation + 1
    c.start = 64
    c.piece = <char*>malloc(PIECE)
    if c.piece == NULL:
        raise MemoryError
    with committing, nogil:
        _note_start(&c)
    error = _open_new(&c, temporary)
    try:
        if error == 0:
            with nogil:
                error = _queues(&c)
        if error == 0:
            error = _copy_damage(&c, lost, missing)
        if error == 0:
            error = _copy_positions(&c, groups)
        if error == 0:
            with nogil:
                error = _catch_up(&c)
        if error == 0:
            with nogil:
                pthread_mutex_lock(&s.meta_lock)
            try:
                with nogil:
                    error = _complete(&c)
                if error == 0 and s.poison:
                    error = STOPPED
                if error == 0:
                    files.rename("META.new", "META")
                    with nogil:
                        error = _change_over(&c)
            finally:
                pthread_mutex_unlock(&s.meta_lock)
    finally:
        if c.fd >= 0:
            with nogil:
                s.disk.close(s.disk, c.fd)
                s.disk.unlink(s.disk, temporary)
        free(c.out.data)
        free(c.piece)
    if error < 0:
        raise OSError(-error, os.strerror(-error), f"{path}/META")
    return error == 0
