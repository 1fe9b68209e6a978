"""Getting: messages of many requests, which the disk is asked for all at once.

For ``engine.Engine``. Requests fill windows (``reader``): under the lock each is resolved to pieces
in memory or in blocks, without it the disk reads, and then messages are made. Two windows take
turns, so that the disk has something to read while the other's messages become a list.

Invariant: what does not have the right checksum is never returned.
"""

from dragoman.errors import CorruptionError, UsageError

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM, PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from dragoman.queue.read.fetch cimport Fetch
from dragoman.queue.engine.arguments cimport listed, name_of
from dragoman.queue.engine.core cimport Core, Use, enter, leave, storage_error
from dragoman.queue.read.reader cimport (
    NO_FETCH, Piece, Window, resolve, window_clear, window_done, window_free, window_place,
    window_submit, window_wait,
)
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.layout cimport hash_name
from dragoman.queue.memory.state cimport Queue, Store, Table, queue_first
from dragoman.queue.memory.threads cimport flag, prefetch
from dragoman.queue.memory.table cimport table_find

cdef enum:
    CONTEXTS_MAX = 64  # windows that wait for their next use


cdef class Context:
    """A window, lent to one call at a time."""

    def __dealloc__(self):
        window_free(&self.w)


cdef Context borrow(Core core):
    cdef Context c
    if core.contexts:
        c = <Context>core.contexts.pop()
    else:
        c = Context.__new__(Context)
    window_clear(&c.w)
    return c


cdef list get_messages(Core core, object requests, int64_t bytes_max):
    """``Engine.get_many``."""
    cdef list wanted = listed(requests, "get_many takes requests")
    cdef list results = []
    cdef list names = []  # keeps them while the GIL is away
    cdef Requests r
    cdef Context c, d
    cdef Py_ssize_t i
    cdef Use use
    enter(core, &use, False)
    r.count = len(wanted)
    r.at = 0
    r.items = <Request*>malloc((r.count + 1) * sizeof(Request))
    if r.items == NULL:
        leave(core, &use)
        raise MemoryError
    c = borrow(core)
    d = borrow(core)
    try:
        parse(&core.s, &r, wanted, names, results)
        read_in_turn(core, c, d, &r, wanted, results, bytes_max)
        for i in range(r.count):
            if results[i] is None:
                results[i] = []  # nothing there, or no more of it was wanted
        return results
    finally:
        free(r.items)
        if len(core.contexts) < CONTEXTS_MAX:
            core.contexts.append(c)
            core.contexts.append(d)
        leave(core, &use)


cdef int parse(Store* s, Requests* r, list wanted, list names, list results) except -1:
    cdef Request* item
    cdef const char* name
    cdef Py_ssize_t i, size
    cdef int64_t offset, count
    cdef object queue, request
    for i in range(r.count):
        request = wanted[i]
        try:
            queue, offset_of, count_of = request
            offset = offset_of
            count = count_of
        except (TypeError, ValueError, OverflowError):
            raise UsageError(
                "a request is (queue, offset, count) with whole numbers,"
                f" not {request!r:.100}"
            ) from None
        if offset < 0 or count < 0:
            raise UsageError(f"offset {offset} and count {count} must not be negative")
        name_of(queue, &name, &size)
        names.append(queue)
        item = &r.items[i]
        item.name = name
        item.name_length = <uint32_t>size
        item.offset = offset
        item.left = count
        item.hash = <uint32_t>hash_name(name, size, s.table.seed)
        results.append(None)
    return 0


cdef int read_in_turn(
    Core core, Context c, Context d, Requests* r, list wanted, list results, int64_t bytes_max
) except -1:
    # Two windows: the disk always has one to read while the other becomes lists.
    cdef bint more, again
    cdef bint next_too = False
    cdef int64_t got = 0
    more = fill(core, c, r)
    if more and r.at < r.count:
        try:
            next_too = fill(core, d, r)
        except BaseException:
            drain(core, c)
            raise
    while more:
        drain(core, c)
        try:
            got += build(core, &c.w, results, wanted)
            if bytes_max and got >= bytes_max:
                if next_too:
                    drain(core, d)
                break
            window_clear(&c.w)
            again = r.at < r.count and fill(core, c, r)
        except BaseException:
            if next_too:
                drain(core, d)
            raise
        c, d = d, c
        more, next_too = next_too, again
    return 0


cdef int drain(Core core, Context c) except -1:
    # The window has all that it asked for.
    if c.w.fetch_count == 0:
        return 0
    with nogil:
        window_wait(&core.s, &c.w)
    core.lock()
    window_done(&core.s, &c.w)
    core.unlock()
    return 0


cdef bint fill(Core core, Context c, Requests* r) except -1:
    # Pieces from request ``r.at`` on, as many as a window takes. False: nothing more to do.
    cdef Store* s = &core.s
    cdef uint64_t offset, first
    cdef bint gone, placed
    core.lock()
    if flag(&s.leaving):
        core.unlock()
        raise UsageError("the store is closed")
    gone = resolve_requests(s, &c.w, r, &first) and c.w.piece_count == 0
    placed = not gone and window_place(s, &c.w) == DONE
    core.unlock()
    if gone:
        offset = r.items[r.at].offset
        raise UsageError(f"offset {offset} is gone: the first of the queue is {first}")
    if not placed:
        raise MemoryError
    if c.w.fetch_count > 1:
        with nogil:
            window_submit(s, &c.w)
    else:
        window_submit(s, &c.w)
    return c.w.piece_count > 0


cdef bint resolve_requests(Store* s, Window* w, Requests* r, uint64_t* first) noexcept nogil:
    # Under the lock, until the window is full or there are no more. True: the request at ``r.at``
    # asks for what is gone; ``first`` is what its queue begins with.
    cdef Table* t = &s.table
    cdef Request* items = r.items
    cdef Request* item
    cdef Queue* q
    cdef uint32_t id, taken
    cdef uint64_t slot
    cdef Py_ssize_t i = r.at
    cdef Py_ssize_t k
    for k in range(i, min(i + 64, r.count)):
        prefetch(&t.slots[items[k].hash & t.mask])
    while i < r.count:
        item = &items[i]
        if i + 16 < r.count:
            prefetch(&t.slots[items[i + 16].hash & t.mask])
        if i + 8 < r.count:
            slot = t.slots[items[i + 8].hash & t.mask]
            if slot:
                prefetch(&t.queues[<uint32_t>slot])
        id = table_find(t, item.name, item.name_length, item.hash)
        if id == 0:
            i += 1
            continue
        q = &t.queues[id]
        first[0] = queue_first(q)
        if item.offset < first[0] and item.left:
            r.at = i
            return True
        if item.offset >= q.next or item.left == 0:
            i += 1
            continue
        if item.left > q.next - item.offset:
            item.left = q.next - item.offset
        taken = resolve(s, w, <uint32_t>i, id, item.offset, item.left)
        item.offset += taken
        item.left -= taken
        if item.left:
            break  # the window is full
        i += 1
    r.at = i
    return False


cdef int64_t build(Core core, Window* w, list results, list wanted) except -1:
    # Python objects of a window that has all it needs; how many bytes they have.
    cdef int64_t built = 0
    cdef int64_t bytes
    cdef uint32_t i
    cdef Piece* p
    cdef const char* data
    cdef list made
    for i in range(w.piece_count):
        p = &w.pieces[i]
        if p.lost or (p.fetch >= 0 and w.fetches[p.fetch].error):
            raise_lost(core, w, p, wanted[p.request][0])
        data = w.fetches[p.fetch].payload if p.fetch >= 0 else w.scratch.data + p.data
        made = PyList_New(p.take)
        bytes = add_uniform(made, p, data) if p.uniform else add_mixed(made, p, data)
        if bytes < 0:
            raise CorruptionError(
                f"{core.path}: queue {wanted[p.request][0]!r:.100}: a block whose checksum"
                " is right does not hold whole messages"
            )
        built += bytes
        if <object>PyList_GET_ITEM(results, p.request) is None:
            results[p.request] = made
        else:
            (<list>PyList_GET_ITEM(results, p.request)).extend(made)
    return built


cdef inline int add_message(list into, uint32_t i, const char* data, Py_ssize_t size) except -1:
    # Number ``i`` of a list whose places are still empty.
    cdef bytes message = PyBytes_FromStringAndSize(data, size)
    Py_INCREF(message)
    PyList_SET_ITEM(into, i, message)
    return 0


cdef int64_t add_uniform(list into, Piece* p, const char* data) except -2:
    # Messages of one length, back to back; how many bytes they have.
    cdef Py_ssize_t size = p.length // p.count
    cdef uint32_t k
    data += size * p.skip
    for k in range(p.take):
        add_message(into, k, data, size)
        data += size
    return size * p.take


cdef int64_t add_mixed(list into, Piece* p, const char* data) except -2:
    # Messages that each have their length before them; how many bytes they have, -1: they are
    # not whole.
    cdef int64_t added = 0
    cdef uint64_t at = 0
    cdef uint64_t length
    cdef uint32_t k
    cdef int shift
    cdef unsigned char byte
    for k in range(p.skip + p.take):
        length = 0
        shift = 0
        while True:
            byte = <unsigned char>data[at]
            at += 1
            length |= <uint64_t>(byte & 127) << shift
            shift += 7
            if byte < 128 or shift > 28 or at >= p.length:
                break
        if at + length > p.length:
            return -1
        if k >= p.skip:
            add_message(into, k - p.skip, data + at, length)
            added += length
        at += length
    return added


cdef int raise_lost(Core core, Window* w, Piece* p, object queue) except -1:
    cdef Fetch* f
    if p.fetch == NO_FETCH:
        raise MemoryError
    name = queue if isinstance(queue, bytes) else str(queue)
    if p.lost:
        where = "; ".join(
            f"{file} at {offset}: {reason}" for file, offset, _, _, _, reason
            in core.recovery.damage[:3]
        )
        raise CorruptionError(
            f"queue {name!r:.200}: the message at offset {p.first} was lost: "
            f"{where or 'its block is missing'}"
        )
    f = &w.fetches[p.fetch]
    file = f"{core.path}/{f.number:010}.seg"
    if f.error < 0:
        raise storage_error(f.error, f"queue {name!r:.200}: {file} at {f.offset}")
    raise CorruptionError(
        f"queue {name!r:.200}: offsets {f.first} to {f.first + f.count - 1}:"
        f" {file} at {f.offset}: not what was written"
    )
