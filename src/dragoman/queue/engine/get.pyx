"""Getting: messages of many requests, which the disk is asked for all at once.

Of ``engine.Engine``. Requests fill windows (``reader``): under the lock each is resolved to pieces
in memory or in blocks, without it the disk reads, and then messages are made. Two windows take
turns, so that the disk has something to read while the other's messages become a list.

Invariant: what does not have the right checksum is never returned.
"""

from dragoman.errors import CorruptionError, UsageError

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from dragoman.queue.read.fetch cimport Fetch
from dragoman.queue.engine.base cimport Use, enter, listed, name_of, storage_error
from dragoman.queue.engine.put cimport Item, Puts
from dragoman.queue.read.reader cimport (
    Piece, Window, resolve, window_clear, window_done, window_free, window_place, window_submit,
    window_wait,
)
from dragoman.queue.memory.state cimport (
    DONE, Queue, Store, Table, flag, hash_name, prefetch, queue_first,
)
from dragoman.queue.memory.table cimport table_find


cdef class Context:
    """A window, lent to one call at a time."""

    def __dealloc__(self):
        window_free(&self.w)


cdef class Gets(Puts):
    """Messages out of a store. Every method may be called from any thread."""

    cdef Context _context(self):
        cdef Context c
        if self.contexts:
            c = <Context>self.contexts.pop()
        else:
            c = Context.__new__(Context)
        window_clear(&c.w)
        return c

    def get(self, queue, offset, count=1):
        """Up to ``count`` messages from ``offset`` on, fewer only at the queue's end."""
        return self.get_many(((queue, offset, count),))[0]

    def get_many(self, requests, int64_t bytes_max=0):
        """For each (queue, offset, count) what ``get`` returns; the disk is asked for all at once.

        With ``bytes_max``, what comes after about so many bytes of messages is left out: a request
        in the middle gets fewer, those behind it get none.
        """
        cdef Store* s = &self.s
        cdef list wanted = listed(requests, "get_many takes requests")
        cdef Py_ssize_t n = len(wanted)
        cdef Py_ssize_t i, at = 0, size
        cdef const char* name
        cdef list results = []
        cdef Context c, d
        cdef object queue, request
        cdef int64_t offset, count
        cdef Item* items
        cdef bint more, again
        cdef bint next_too = False
        cdef int64_t got = 0
        cdef Use use
        enter(self, &use, False)
        items = <Item*>malloc((n + 1) * sizeof(Item))
        if items == NULL:
            self._leave(&use)
            raise MemoryError
        names = []  # keeps them while the GIL is away
        c = self._context()
        d = self._context()
        # items: offset is where to go on, message_length unused, id the queue, hash: left
        cdef uint64_t* left = <uint64_t*>malloc((n + 1) * 8)
        try:
            for i in range(n):
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
                items[i].name = name
                items[i].name_length = <uint32_t>size
                items[i].offset = offset
                left[i] = count
                items[i].hash = <uint32_t>hash_name(name, size, s.table.seed)
                results.append([])
            # Two windows: the disk always has one to read while the other becomes lists.
            more = self._fill(c, items, left, n, &at)
            if more and at < n:
                try:
                    next_too = self._fill(d, items, left, n, &at)
                except BaseException:
                    self._drain(c)
                    raise
            while more:
                self._drain(c)
                try:
                    got += self._build(&c.w, results, wanted)
                    if bytes_max and got >= bytes_max:
                        if next_too:
                            self._drain(d)
                        break
                    window_clear(&c.w)
                    again = at < n and self._fill(c, items, left, n, &at)
                except BaseException:
                    if next_too:
                        self._drain(d)
                    raise
                c, d = d, c
                more, next_too = next_too, again
            return results
        finally:
            free(items)
            free(left)
            if len(self.contexts) < 64:
                self.contexts.append(c)
                self.contexts.append(d)
            self._leave(&use)

    cdef int _drain(self, Context c) except -1:
        # The window has all that it asked for.
        with nogil:
            window_wait(&self.s, &c.w)
        self._lock()
        window_done(&self.s, &c.w)
        self._unlock()
        return 0

    cdef bint _fill(
        self, Context c, Item* items, uint64_t* left, Py_ssize_t n, Py_ssize_t* at
    ) except -1:
        # Pieces from request ``at`` on, as many as a window takes. False: nothing more to do.
        cdef Store* s = &self.s
        cdef Table* t = &s.table
        cdef Py_ssize_t i = at[0]
        cdef Py_ssize_t k
        cdef Item* item
        cdef Queue* q
        cdef uint64_t first
        cdef uint32_t taken
        cdef uint64_t slot
        cdef Py_ssize_t gone = -1
        self._lock()
        if flag(&s.leaving):
            self._unlock()
            raise UsageError("the store is closed")
        for k in range(i, min(i + 64, n)):
            prefetch(&t.slots[items[k].hash & t.mask])
        while i < n:
            item = &items[i]
            if i + 16 < n:
                prefetch(&t.slots[items[i + 16].hash & t.mask])
            if i + 8 < n:
                slot = t.slots[items[i + 8].hash & t.mask]
                if slot:
                    prefetch(&t.queues[<uint32_t>slot])
            item.id = table_find(t, item.name, item.name_length, item.hash)
            if item.id == 0:
                i += 1
                continue
            q = &t.queues[item.id]
            first = queue_first(q)
            if item.offset < first and left[i]:
                gone = i
                break
            if item.offset >= q.next or left[i] == 0:
                i += 1
                continue
            if left[i] > q.next - item.offset:
                left[i] = q.next - item.offset
            taken = resolve(s, &c.w, <uint32_t>i, item.id, item.offset, left[i])
            item.offset += taken
            left[i] -= taken
            if left[i]:
                break  # the window is full
            i += 1
        at[0] = i
        if gone >= 0 and c.w.piece_count == 0:
            self._unlock()
            raise UsageError(
                f"offset {items[gone].offset} is gone: the first of the queue is {first}"
            )
        if window_place(s, &c.w) != DONE:
            self._unlock()
            raise MemoryError
        self._unlock()
        if c.w.fetch_count > 1:
            with nogil:
                window_submit(s, &c.w)
        else:
            window_submit(s, &c.w)
        return c.w.piece_count > 0

    cdef int64_t _build(self, Window* w, list results, list wanted) except -1:
        # Python objects of a window that has all it needs; how many bytes they have.
        cdef int64_t built = 0
        cdef uint32_t i, k
        cdef Piece* p
        cdef const char* data
        cdef uint64_t length, at
        cdef list into
        cdef Py_ssize_t size
        cdef int shift
        cdef unsigned char byte
        for i in range(w.piece_count):
            p = &w.pieces[i]
            if p.lost or (p.fetch >= 0 and w.fetches[p.fetch].error):
                self._raise(w, p, wanted[p.request][0])
            into = <list>PyList_GET_ITEM(results, p.request)
            data = w.fetches[p.fetch].payload if p.fetch >= 0 else w.scratch.data + p.data
            if p.uniform:
                size = p.length // p.count
                data += size * p.skip
                for k in range(p.take):
                    into.append(PyBytes_FromStringAndSize(data, size))
                    data += size
                built += size * p.take
                continue
            at = 0
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
                    raise CorruptionError(
                        f"{self.path}: queue {wanted[p.request][0]!r:.100}: a block whose checksum"
                        " is right does not hold whole messages"
                    )
                if k >= p.skip:
                    into.append(PyBytes_FromStringAndSize(data + at, length))
                    built += length
                at += length
        return built

    cdef int _raise(self, Window* w, Piece* p, object queue) except -1:
        cdef Fetch* f
        if p.fetch == -2:
            raise MemoryError
        name = queue if isinstance(queue, bytes) else str(queue)
        if p.lost:
            where = "; ".join(
                f"{file} at {offset}: {reason}" for file, offset, _, _, _, reason
                in self.recovery.damage[:3]
            )
            raise CorruptionError(
                f"queue {name!r:.200}: the message at offset {p.first} was lost: "
                f"{where or 'its block is missing'}"
            )
        f = &w.fetches[p.fetch]
        file = f"{self.path}/{f.number:010}.seg"
        if f.error < 0:
            raise storage_error(f.error, f"queue {name!r:.200}: {file} at {f.offset}")
        raise CorruptionError(
            f"queue {name!r:.200}: offsets {f.first} to {f.first + f.count - 1}:"
            f" {file} at {f.offset}: not what was written"
        )
