"""A store's queues: their lengths, names and numbers, and what is trimmed or deleted of them."""

from array import array

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from dragoman.queue.engine.arguments cimport name_of
from dragoman.queue.engine.core cimport Core
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.layout cimport CHUNK, NAME_MAX, QUEUE_ALIVE, hash_name
from dragoman.queue.memory.state cimport (
    Queue, Store, Table, queue_first, queue_name, queue_name_length,
)
from dragoman.queue.memory.table cimport table_find
from dragoman.queue.reclaim.trim cimport queue_delete, queue_trim


cdef uint64_t length_of(Core core, object queue) except? 0xFFFFFFFFFFFFFFFF:
    """The offset that the next message will get."""
    cdef uint32_t id = core.find(queue)
    return core.s.table.queues[id].next if id else 0


cdef uint64_t first_of(Core core, object queue) except? 0xFFFFFFFFFFFFFFFF:
    """The offset of the oldest message that is still there."""
    cdef uint64_t result = 0
    cdef uint32_t id = core.find(queue)
    if id:
        core.lock()
        result = queue_first(&core.s.table.queues[id])
        core.unlock()
    return result


cdef tuple names_from(Core core, uint32_t start, uint32_t count):
    """(next id, names) of up to ``count`` ids from ``start`` on; next id 0: no more."""
    cdef Table* t = &core.s.table
    cdef Queue* q
    cdef uint32_t id = start
    cdef list pieces = []
    cdef char* copy
    cdef uint64_t n = 0
    cdef uint64_t room = <uint64_t>count * 64 + NAME_MAX + 8
    cdef uint32_t length
    copy = <char*>malloc(room)
    if copy == NULL:
        raise MemoryError
    core.lock()
    while id < t.ids and n + NAME_MAX + 4 < room:
        q = &t.queues[id]
        if q.flags & QUEUE_ALIVE:
            length = queue_name_length(q)
            memcpy(copy + n, &length, 4)
            memcpy(copy + n + 4, queue_name(q), length)
            n += 4 + length
        id += 1
    if id >= t.ids:
        id = 0
    core.unlock()
    cdef uint64_t at = 0
    while at < n:
        memcpy(&length, copy + at, 4)
        pieces.append(PyBytes_FromStringAndSize(copy + at + 4, length))
        at += 4 + length
    free(copy)
    return id, pieces


cdef bytes name_by_id(Core core, uint32_t id):
    """The name of the queue with this number, or None."""
    cdef Queue* q
    if 0 < id < core.s.table.ids and core.s.table.queues[id].flags & QUEUE_ALIVE:
        q = &core.s.table.queues[id]
        return PyBytes_FromStringAndSize(queue_name(q), queue_name_length(q))
    return None


cdef object lengths_by_id(Core core):
    """How long queues are, by their numbers; for whoever opens the store."""
    cdef uint32_t id
    cdef uint64_t[::1] lengths
    result = array("Q", bytes(8 * core.s.table.ids))
    lengths = result
    for id in range(1, core.s.table.ids):
        lengths[id] = core.s.table.queues[id].next
    return result


cdef uint32_t trim_queue(Core core, object queue, uint64_t before) except? 0:
    """Messages before an offset are gone, or with ``EVERYTHING`` the queue; its number, 0: none."""
    cdef Store* s = &core.s
    cdef int result = DONE
    cdef uint32_t id
    cdef const char* name
    cdef Py_ssize_t n
    name_of(queue, &name, &n)
    core.lock()
    id = table_find(&s.table, name, n, <uint32_t>hash_name(name, n, s.table.seed))
    if id:
        result = queue_delete(s, id) if before == EVERYTHING else queue_trim(s, id, before)
    core.unlock()
    if result != DONE:
        raise MemoryError
    return id


cdef dict counters(Core core):
    """Counters since opening, and sizes now."""
    cdef Store* s = &core.s
    cdef Table* t = &s.table
    cdef uint32_t i
    cdef uint64_t live = 0, whole = 0, segments = 0
    core.lock()
    for i in range(s.slots_top):
        if s.segments[i].state:
            segments += 1
            live += s.segments[i].live
            whole += s.segments[i].length
    result = dict(
        queues=t.alive,
        messages_put=t.messages,
        bytes_put=t.message_bytes,
        block_bytes=t.limit,
        blocks_written=s.blocks_written,
        messages_in_blocks=s.block_messages,
        blocks_waiting=t.ring_tail - t.ring_head,
        blocks_read=s.blocks_read,
        bytes_read=s.bytes_read,
        cache_hits=s.cache_hits,
        evicted=s.swept_blocks,
        meta_rewrites=s.meta_rewrites,
        compactions=s.compactions,
        compacted_bytes=s.compacted_written,
        segments=segments,
        log_bytes=whole,
        live_bytes=live,
        log_written=s.log_written,
        journal_written=s.journal_written,
        meta_bytes=s.meta_start + s.meta.length,
        syncs=s.syncs,
        tail_bytes=t.chunks_used * CHUNK,
        index_bytes=t.index_bytes,
        open_files=s.open_files,
        direct=bool(s.direct),
        poisoned=bool(s.poison),
    )
    core.unlock()
    return result
