"""META: queues' names, trims, deletions and committed positions, as records appended to a file.

Records are made under the store's lock, in the order of what they describe, and gather in memory;
``meta_flush`` writes them out. The log's writer and the journal call it before they write what
refers to them. A META that is mostly dead is replaced by ``rewrite``. The format is in
docs/formats/queue.md.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from dragoman.queue.disk.crc cimport crc, crc_place, crc_prepare
from dragoman.queue.memory.buffer cimport bytes_add, bytes_reserve
from dragoman.queue.memory.errors cimport DONE, NO_MEMORY
from dragoman.queue.memory.state cimport Bytes, Store, queue_name_length
from dragoman.queue.memory.threads cimport (
    pthread_cond_broadcast, pthread_mutex_lock, pthread_mutex_unlock,
)

crc_prepare()


cdef int record_add(
    Bytes* into, uint64_t generation, uint64_t start, unsigned char kind, const char* fixed,
    uint32_t n, const char* rest, uint32_t m
) noexcept nogil:
    """Append a record to bytes of which the first will stand at ``start``. DONE or NO_MEMORY."""
    # Position is covered by the checksum, so a record is made for the place where it will stand.
    cdef char* at
    cdef uint32_t body = n + m
    cdef uint32_t check
    if bytes_reserve(into, 9 + body) != DONE:
        return NO_MEMORY
    at = into.data + into.length
    memcpy(at + 4, &body, 4)
    at[8] = <char>kind
    memcpy(at + 9, fixed, n)
    if m:
        memcpy(at + 9 + n, rest, m)
    check = crc(crc_place(generation, start + into.length), at + 4, 5 + body)
    memcpy(at, &check, 4)
    into.length += 9 + body
    return DONE


cdef int _record(
    Store* s, unsigned char kind, const char* fixed, uint32_t n, const char* rest, uint32_t m
) noexcept nogil:
    if kind != META_QUEUE:
        s.meta_dead += 9 + n + m
    return record_add(&s.meta, s.meta_generation, s.meta_start, kind, fixed, n, rest, m)


cdef int meta_queue(Store* s, uint32_t id, const char* name, uint32_t n) noexcept nogil:
    """A queue was made."""
    return _record(s, META_QUEUE, <char*>&id, 4, name, n)


cdef int meta_delete(Store* s, uint32_t id) noexcept nogil:
    """A queue was deleted."""
    s.meta_dead += 13 + queue_name_length(&s.table.queues[id])
    return _record(s, META_DELETE, <char*>&id, 4, NULL, 0)


cdef int meta_trim(Store* s, uint32_t id, uint64_t first) noexcept nogil:
    """All before ``first`` is gone."""
    cdef char fixed[12]
    memcpy(fixed, &id, 4)
    memcpy(fixed + 4, &first, 8)
    return _record(s, META_TRIM, fixed, 12, NULL, 0)


cdef int meta_commit(
    Store* s, uint32_t id, uint64_t position, const char* group, uint32_t n
) noexcept nogil:
    """A group has consumed all before ``position``."""
    cdef char fixed[12]
    memcpy(fixed, &id, 4)
    memcpy(fixed + 4, &position, 8)
    return _record(s, META_COMMIT, fixed, 12, group, n)


cdef int meta_dropped(Store* s, uint64_t number) noexcept nogil:
    """A segment is no more, and is not missing."""
    return _record(s, META_DROPPED, <char*>&number, 8, NULL, 0)


cdef int meta_lost(Store* s, uint32_t id, uint64_t first, uint64_t messages) noexcept nogil:
    """Messages that a repair gave up."""
    cdef char fixed[20]
    memcpy(fixed, &id, 4)
    memcpy(fixed + 4, &first, 8)
    memcpy(fixed + 12, &messages, 8)
    return _record(s, META_LOST, fixed, 20, NULL, 0)


cdef int meta_opened(Store* s) noexcept nogil:
    """From here on the store changes: an older record of closing proves nothing."""
    return _record(s, META_OPENED, NULL, 0, NULL, 0)


cdef int meta_closed(Store* s, uint64_t position, uint64_t frame) noexcept nogil:
    """The store was closed in order, and this is how far log and journal had come."""
    cdef uint64_t fixed[2]
    fixed[0] = position
    fixed[1] = frame
    return _record(s, META_CLOSED, <char*>fixed, 16, NULL, 0)


cdef int meta_flush(Store* s, bint sync) noexcept nogil:
    """Write what has gathered; a negative errno leaves it gathered. Not under ``lock``."""
    cdef Bytes out
    cdef Bytes rest
    cdef uint64_t start, end, unmarked
    cdef int result = 0
    memset(&out, 0, sizeof(Bytes))
    pthread_mutex_lock(&s.meta_lock)
    pthread_mutex_lock(&s.lock)
    start = s.meta_start
    unmarked = s.meta.length
    if sync and s.meta_synced < s.meta_start + s.meta.length and s.meta_synced > 64:
        _record(s, META_MARK, <char*>&s.meta_synced, 8, NULL, 0)
    end = start + s.meta.length
    if s.meta.length:
        out = s.meta
        memset(&s.meta, 0, sizeof(Bytes))
        s.meta_start = end
    pthread_mutex_unlock(&s.lock)
    if out.length:
        result = s.disk.write(s.disk, s.meta_fd, out.data, out.length, start)
        if result < 0:
            # Put it back before what has come since, for the same places.
            pthread_mutex_lock(&s.lock)
            rest = s.meta
            s.meta = out
            s.meta_start = start
            if rest.length == 0:
                # The next attempt has a mark of its own: they would gather as long as it fails.
                s.meta.length = unmarked
            if rest.length and bytes_add(&s.meta, rest.data, rest.length) != DONE:
                s.poison = 12
            free(rest.data)
            pthread_mutex_unlock(&s.lock)
            pthread_mutex_unlock(&s.meta_lock)
            return result
        s.meta_written += out.length
        free(out.data)
    if sync and s.poison:
        result = -s.poison
    elif sync and s.meta_synced < end:
        result = s.disk.sync(s.disk, s.meta_fd)
        pthread_mutex_lock(&s.lock)
        s.syncs += 1
        if result < 0:
            s.poison = -result
            pthread_cond_broadcast(&s.durable)
            pthread_cond_broadcast(&s.space)
        else:
            s.meta_synced = end
        pthread_mutex_unlock(&s.lock)
    pthread_mutex_unlock(&s.meta_lock)
    return result
