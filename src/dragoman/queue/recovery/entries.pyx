"""Entries of the journal: their messages join the tails of queues as if put again.

Called by ``replay`` for each frame that counts. Where memory has no room, the log's writer takes
tails meanwhile, or the ring grows if nothing may be written.

Invariant: a message joins its queue only behind all before it, and only once.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset

from dragoman.queue.memory.buffer cimport bytes_add
from dragoman.queue.memory.errors cimport DONE, NO_MEMORY, WAIT
from dragoman.queue.memory.index cimport index_append
from dragoman.queue.memory.layout cimport (
    PLACE_LOST, QUEUE_ALIVE, QUEUE_DIRTY, entry_of, varint_get,
)
from dragoman.queue.memory.state cimport Bytes, Pending, Queue, Store, Table
from dragoman.queue.memory.tail cimport tail_detach, tail_put
from dragoman.queue.memory.threads cimport (
    prefetch, pthread_cond_signal, pthread_cond_wait, pthread_mutex_lock, pthread_mutex_unlock,
)


cdef bint _grow_ring(Table* t) noexcept nogil:
    # Without a writer nothing leaves the ring: it holds all that does not fit the tails.
    cdef Pending* ring = <Pending*>realloc(t.ring, 2 * t.ring_size * sizeof(Pending))
    if ring == NULL:
        return False
    t.ring = ring
    t.ring_size *= 2
    return True


cdef bint _ring_space(Store* s) noexcept nogil:
    # Under the lock: until the ring may have room. False: it never will.
    if s.read_only:
        return _grow_ring(&s.table)
    if not s.writer_alive or s.poison or s.log_error:
        return False
    pthread_cond_signal(&s.work)
    pthread_cond_wait(&s.space, &s.lock)
    return True


cdef struct Ahead:
    # Entries that are looked at before they are taken, so that their queues are in the cache.
    uint64_t at
    uint32_t known
    uint32_t taken
    uint32_t ids[16]


cdef inline void _look_ahead(Table* t, const char* body, uint64_t n, Ahead* a) noexcept nogil:
    # Sixteen entries ahead for the queues, eight for the ends of their tails.
    cdef uint32_t fields[2]
    cdef Queue* q
    while a.known < a.taken + 16 and a.at + 16 <= n:
        memcpy(fields, body + a.at, 8)
        a.at += 16 + <uint64_t>fields[1]
        a.ids[a.known % 16] = fields[0] if fields[0] < t.ids else 0
        prefetch(&t.queues[a.ids[a.known % 16]])
        a.known += 1
    q = &t.queues[a.ids[(a.taken + 8) % 16]]
    if q.cur:
        prefetch(t.chunks[q.cur].data + q.used)
        prefetch(t.chunks[q.cur].data + q.used + 56)
    a.taken += 1


cdef int _lose(Store* s, uint32_t id, uint64_t first) noexcept nogil:
    # Under the lock: all from the queue's end to ``first`` is lost. Tails stay behind entries: it
    # becomes one, behind the tail that there is. NO_MEMORY: not even the tail could leave.
    cdef Table* t = &s.table
    cdef Queue* q = &t.queues[id]
    cdef uint64_t part
    cdef int result
    while q.count:
        result = tail_detach(t, id)
        if result == DONE:
            break
        if result == NO_MEMORY or not _ring_space(s):
            return NO_MEMORY
    while q.next < first:
        part = first - q.next
        if part > 65535:
            part = 65535
        if index_append(t, q, q.next, entry_of(PLACE_LOST(), 0, <uint32_t>part)) != DONE:
            break
        q.next += part
    return DONE


cdef inline int _put_again(Store* s, uint32_t id, const char* data, uint64_t n) noexcept nogil:
    cdef int result
    while True:
        result = tail_put(&s.table, id, data, n)
        if result == WAIT and _ring_space(s):
            continue
        return result


cdef uint64_t replay_entries(
    Store* s, char* body, uint64_t n, uint64_t entries, uint32_t number, Bytes* apart
) noexcept nogil:
    """How many of a frame's entries did not join; all ones for no memory, or no log to write to.

    Entries behind a gap go to ``apart``, or without one the gap is lost. Takes and leaves the lock.
    """
    cdef Table* t = &s.table
    cdef uint64_t end = 0, bad = 0
    cdef uint64_t at, first, count, length, i
    cdef uint32_t fields[2]
    cdef uint64_t pair[2]
    cdef Queue* q
    cdef Ahead ahead
    cdef int result = DONE
    memset(&ahead, 0, sizeof(Ahead))
    pthread_mutex_lock(&s.lock)
    while entries and end + 16 <= n and result == DONE:
        entries -= 1
        _look_ahead(t, body, n, &ahead)
        memcpy(fields, body + end, 8)
        memcpy(&first, body + end + 8, 8)
        count = first >> 48
        first &= (1ULL << 48) - 1
        at = end + 16
        end = at + fields[1]
        if end > n:
            bad += 1
            break
        if fields[0] >= t.ids or not t.queues[fields[0]].flags & QUEUE_ALIVE:
            continue
        q = &t.queues[fields[0]]
        if first + count <= q.next:
            continue
        if first > q.next and apart != NULL:
            pair[0] = fields[0]
            pair[1] = first + count
            result = bytes_add(apart, pair, 16)
            continue
        if first > q.next:
            bad += 1
            result = _lose(s, fields[0], first)
            if result != DONE or q.next < first:
                continue
        for i in range(count):
            if varint_get(body, end, &at, &length) < 0 or at + length > end:
                bad += 1
                break
            if first + i == q.next:
                result = _put_again(s, fields[0], body + at, length)
                if result != DONE:
                    break
                if q.count == 1:
                    q.birth = number
                q.flags &= ~QUEUE_DIRTY
            at += length
    if result == DONE and t.ring_tail != t.ring_head:
        pthread_cond_signal(&s.work)
    pthread_mutex_unlock(&s.lock)
    return bad if result == DONE else <uint64_t>-1
