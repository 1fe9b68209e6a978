"""META, read: the names of queues, what was trimmed of them, and positions of groups.

Called by ``replay.recover`` after the newest frames of the journal have been looked at, which say
how much of META had been synced: what is not a record before that is damage, behind it a torn end.
"""

from dragoman.errors import CorruptionError
from dragoman.queue.api.arguments import WORK
from dragoman.queue.format.window import EVERYTHING

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from dragoman.queue.disk.crc cimport crc, crc_place, crc_prepare
from dragoman.queue.format.meta cimport (
    META_CLOSED, META_COMMIT, META_DELETE, META_DROPPED, META_DROPPED_RANGE, META_IDS, META_LOST,
    META_MARK, META_OPENED, META_QUEUE, META_TRIM,
)
from dragoman.queue.format.window cimport Window, file_header, window
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.index cimport index_set_first
from dragoman.queue.memory.layout cimport NAME_MAX, QUEUE_ALIVE, hash_name
from dragoman.queue.memory.state cimport Table, queue_name_length
from dragoman.queue.memory.table cimport table_add, table_remove
from dragoman.queue.recovery.findings cimport Recovery

crc_prepare()


cdef int read_meta(Recovery r) except -1:
    """Apply every record, and tell damage from a torn end."""
    cdef Window w = window(r.s, r.path, "META", False)
    cdef uint64_t at = 64
    cdef uint64_t bad, evidence
    cdef uint32_t n
    cdef char* record
    if not file_header(w, b"DRGQMETA", r.identity, <uint64_t>EVERYTHING):
        raise CorruptionError(f"{r.path}/META: not the header of this store's META")
    record = w.at(0, 64)
    memcpy(&r.generation, record + 32, 8)
    memcpy(&r.meta_base, record + 40, 8)
    evidence = max(r.meta_base, r.meta_evidence.get(r.generation, 0))
    if max(r.meta_evidence, default=0) > r.generation:
        r.damage.append(("META", 0, 0, 0, 0, "an older META than the journal knows"))
    looked = False
    while at < w.length:
        record = _record(r, w, at)
        if record != NULL:
            memcpy(&n, record + 4, 4)
            _apply(r, record[8], record + 9, n, at)
            at += 9 + n
            continue
        # Damage, or the torn end? Whatever stands behind must say.
        if not looked:
            evidence = max(evidence, _marks(r, w, at))
            looked = True
        if evidence <= at:
            break
        bad = at
        at = _next_record(r, w, at + 1)
        r.damage.append(("META", bad, 0, 0, 0, f"{at - bad} bytes are not records"))
    r.meta_end = at
    r.meta_torn = at < w.length
    if evidence > w.length:
        r.damage.append(("META", w.length, 0, 0, 0, "the file ends too early"))
    if r.ids > r.s.table.ids:
        r.s.table.ids = r.ids
    return 0


cdef uint64_t _next_record(Recovery r, Window w, uint64_t at) except? 0:
    # Where the next valid record begins; the end of the file if there is none.
    while at < w.length and _record(r, w, at) == NULL:
        at += 1
    return min(at, w.length)


cdef uint64_t _marks(Recovery r, Window w, uint64_t at) except? 0:
    # What the marks from ``at`` on say was synced.
    cdef uint64_t value, result = 0
    cdef uint32_t n
    cdef char* record
    at = _next_record(r, w, at)
    while at < w.length:
        record = _record(r, w, at)
        if record == NULL:
            at = _next_record(r, w, at + 1)
            continue
        memcpy(&n, record + 4, 4)
        if record[8] == META_MARK and n == 8:
            memcpy(&value, record + 9, 8)
            result = max(result, value)
        elif record[8] == META_CLOSED:
            # Written after a sync of all before it.
            result = max(result, at)
        at += 9 + n
    return result


cdef char* _record(Recovery r, Window w, uint64_t at) except? NULL:
    cdef char* head = w.at(at, 9)
    cdef uint32_t n, check
    if head == NULL:
        return NULL
    memcpy(&n, head + 4, 4)
    if n > NAME_MAX + 64 or head[8] < META_QUEUE or head[8] > META_OPENED:
        return NULL
    head = w.at(at, 9 + n)
    if head == NULL:
        return NULL
    memcpy(&check, head, 4)
    if check != crc(crc_place(r.generation, at), head + 4, 5 + n):
        return NULL
    return head


cdef int _apply(Recovery r, int kind, const char* body, uint32_t n, uint64_t at) except -1:
    cdef Table* t = &r.s.table
    cdef uint32_t id = 0
    cdef uint64_t value = 0
    cdef uint64_t pair[2]
    if kind != META_QUEUE and at >= r.meta_base:
        r.meta_dead += 9 + n
    if kind == META_OPENED:
        r.closed_frame = 0
        r.in_order = False
        return 0
    if kind == META_CLOSED:
        memcpy(pair, body, 16)
        r.evidence = max(r.evidence, pair[0])
        r.closed_frame = pair[1]
        r.in_order = True
        return 0
    if kind == META_MARK:
        return 0
    if kind == META_DROPPED:
        memcpy(&value, body, 8)
        r.dropped.append((value, value + 1))
        return 0
    if kind == META_DROPPED_RANGE:
        memcpy(pair, body, 16)
        r.dropped.append((pair[0], pair[1]))
        return 0
    memcpy(&id, body, 4)
    if kind == META_IDS:
        r.ids = max(r.ids, id)
        return 0
    if kind == META_QUEUE:
        if t.queues[id].flags & QUEUE_ALIVE:
            return 0
        if table_add(t, id, body + 4, n - 4, <uint32_t>hash_name(body + 4, n - 4, t.seed)) == 0:
            raise MemoryError
        return 0
    if not (id < t.ids and t.queues[id].flags & QUEUE_ALIVE):
        return 0
    if kind == META_DELETE:
        r.meta_dead += 13 + queue_name_length(&t.queues[id])
        table_remove(t, id)
        r.groups.pop(id, None)
        return 0
    memcpy(&value, body + 4, 8)
    if kind == META_TRIM:
        if index_set_first(t, &t.queues[id], value) != DONE:
            raise MemoryError
        t.queues[id].next = max(t.queues[id].next, value)
    elif kind == META_COMMIT:
        _committed(r, id, body[12:n], value)
    elif kind == META_LOST:
        memcpy(pair, body + 4, 16)
        r.known_lost.append((id, pair[0], pair[1]))
    return 0


cdef int _committed(Recovery r, uint32_t id, bytes name, uint64_t position) except -1:
    # Of the records of a group that shares work only the last counts; each has its own name.
    cdef dict positions = r.groups.setdefault(id, {})
    if name.startswith(WORK):
        length = int.from_bytes(name[len(WORK) : len(WORK) + 2], "little")
        key = id, name[: len(WORK) + 2 + length]
        positions.pop(r.worked.pop(key, None), None)
        r.worked[key] = name
    positions[name] = position
    return 0
