"""What goes: trims, deletions, whole segments, journal files nobody needs.

Called by the engine, for users and for the store's upkeep thread, under the store's lock unless
said. A queue loses messages from its front only. Blocks are never changed: a segment is given back
as a whole when no queue has a block in it any more, after META has said (durably) what is gone.

Invariant: ``live`` of a segment is the sum of the sizes of the index entries that point into it.
"""

from libc.errno cimport EIO, ENOMEM
from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.format.meta cimport meta_delete, meta_trim
from dragoman.queue.memory.errors cimport DONE, NO_MEMORY, WAIT
from dragoman.queue.memory.index cimport index_rebuild, index_set_first
from dragoman.queue.memory.layout cimport (
    PLACE_LOST, PLACE_PENDING, PLACE_SLOT_SHIFT, QUEUE_ALIVE, block_cost, entry_code, entry_count,
    entry_place, entry_word,
)
from dragoman.queue.memory.state cimport (
    SEGMENT_COMPACTING, SEGMENT_SEALED, Queue, Store, Table, queue_first,
)
from dragoman.queue.memory.table cimport table_remove
from dragoman.queue.memory.tail cimport tail_detach, tail_drop
from dragoman.queue.memory.threads cimport (
    pthread_cond_signal, pthread_cond_wait, pthread_mutex_lock, pthread_mutex_unlock,
)


cdef void _unlive(Store* s, uint64_t entry) noexcept nogil:
    cdef uint64_t place = entry_place(entry)
    if place != PLACE_LOST() and not place & PLACE_PENDING():
        s.segments[place >> PLACE_SLOT_SHIFT].live -= block_cost(entry_code(entry))


cdef int queue_trim(Store* s, uint32_t id, uint64_t before) noexcept nogil:
    """Messages before ``before`` (at most the queue's end) are gone. DONE or NO_MEMORY."""
    cdef Queue* q = &s.table.queues[id]
    cdef uint64_t at
    cdef uint32_t gone = 0
    if before > q.next:
        before = q.next
    if before <= queue_first(q):
        return DONE
    if meta_trim(s, id, before) != DONE:
        return NO_MEMORY
    if index_set_first(&s.table, q, before) != DONE:
        return NO_MEMORY
    if q.entries:
        at = q.index[2]
        while gone < q.entries:
            at += entry_count(q.index[entry_word(gone)])
            if at > before:
                break
            _unlive(s, q.index[entry_word(gone)])
            gone += 1
        index_rebuild(&s.table, q, gone)
    if before == q.next:
        tail_drop(&s.table, q)
    return DONE


cdef int queue_delete(Store* s, uint32_t id) noexcept nogil:
    """The queue is gone. DONE or NO_MEMORY."""
    cdef Queue* q = &s.table.queues[id]
    cdef uint32_t i
    if meta_delete(s, id) != DONE:
        return NO_MEMORY
    for i in range(q.entries):
        _unlive(s, q.index[entry_word(i)])
    table_remove(&s.table, id)
    return DONE


cdef int trim_lengths(Store* s, uint32_t start, uint32_t end, uint64_t most) noexcept nogil:
    """Queues of a range of ids keep ``most`` messages, and what shares a block with those."""
    cdef Table* t = &s.table
    cdef Queue* q
    cdef uint64_t at, target
    cdef uint32_t id, i
    if end > t.ids:
        end = t.ids
    for id in range(start, end):
        q = &t.queues[id]
        if not q.flags & QUEUE_ALIVE or q.entries == 0 or q.next - queue_first(q) <= most:
            continue
        target = q.next - most
        at = q.index[2]
        i = 0
        while i < q.entries and at + entry_count(q.index[entry_word(i)]) <= target:
            at += entry_count(q.index[entry_word(i)])
            i += 1
        if i and queue_trim(s, id, at) != DONE:
            return NO_MEMORY
    return DONE


cdef int drop_slot(Store* s, int slot, uint32_t start, uint32_t end) noexcept nogil:
    """Queues of a range of ids lose their blocks in the oldest segment, and all before."""
    cdef Table* t = &s.table
    cdef Queue* q
    cdef uint64_t at, place
    cdef uint32_t id, i, last
    if end > t.ids:
        end = t.ids
    for id in range(start, end):
        q = &t.queues[id]
        if not q.flags & QUEUE_ALIVE or q.entries == 0:
            continue
        at = q.index[2]
        last = 0
        for i in range(q.entries):
            place = entry_place(q.index[entry_word(i)])
            if place == PLACE_LOST():
                at += entry_count(q.index[entry_word(i)])
                continue
            if place & PLACE_PENDING() or <int>(place >> PLACE_SLOT_SHIFT) != slot:
                break
            at += entry_count(q.index[entry_word(i)])
            last = i + 1
        if last and queue_trim(s, id, at) != DONE:
            return NO_MEMORY
    return DONE


cdef int oldest_slot(Store* s) noexcept nogil:
    """The sealed segment with the lowest number, -1 for none."""
    cdef uint32_t i
    cdef int found = -1
    for i in range(s.slots_top):
        if s.segments[i].state in (SEGMENT_SEALED, SEGMENT_COMPACTING) and (
            found < 0 or s.segments[i].number < s.segments[found].number
        ):
            found = <int>i
    return found


cdef int dead_slot(Store* s, uint32_t start, uint32_t end) noexcept nogil:
    """A sealed segment to which no queue refers, in a slot of ``start`` to ``end``; -1 for none."""
    cdef uint32_t i
    for i in range(start, end):
        if s.segments[i].state == SEGMENT_SEALED and s.segments[i].live == 0:
            return <int>i
    return -1


cdef uint32_t oldest_birth(Store* s) noexcept nogil:
    """The oldest journal file that a tail needs, the current one if none. Takes the lock."""
    cdef uint32_t id, end, oldest
    cdef Queue* q
    pthread_mutex_lock(&s.lock)
    oldest = s.journal_file
    end = s.table.ids
    for id in range(1, end):
        q = &s.table.queues[id]
        if q.count and q.birth and q.birth < oldest:
            oldest = q.birth
        if id % 4096 == 0:
            pthread_mutex_unlock(&s.lock)
            pthread_mutex_lock(&s.lock)
    pthread_mutex_unlock(&s.lock)
    return oldest


cdef int tails_to_log(Store* s, uint32_t birth) noexcept nogil:
    """Tails born up to journal file ``birth`` become blocks, however short. Takes the lock.

    A negative errno says why not.
    """
    cdef uint32_t id = 1
    cdef Queue* q
    cdef int result, error = 0
    pthread_mutex_lock(&s.lock)
    while id < s.table.ids and error == 0:
        q = &s.table.queues[id]
        if q.count and q.birth and q.birth <= birth:
            result = tail_detach(&s.table, id)
            if result == WAIT:
                if s.poison or s.log_error:
                    error = -(s.poison if s.poison else s.log_error)
                elif s.closing or not s.writer_alive:
                    error = -EIO
                else:
                    pthread_cond_signal(&s.work)
                    pthread_cond_wait(&s.space, &s.lock)
                continue
            if result != DONE:
                error = -ENOMEM
        if id % 1024 == 0:
            pthread_mutex_unlock(&s.lock)
            pthread_mutex_lock(&s.lock)
        id += 1
    pthread_cond_signal(&s.work)
    pthread_mutex_unlock(&s.lock)
    return error
