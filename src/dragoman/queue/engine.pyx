"""The queue store's engine: what Python calls, and the lock around it.

``dragoman.queue.store.QueueStore`` builds on ``Engine``, which knows neither options nor names of
files beyond its numbered ones. A put takes the store's lock for a few hundred nanoseconds and
never waits for the disk while it holds it. Work that is longer than that runs without the GIL.

Invariants: nobody sleeps for the store's lock while holding the GIL; nothing that may run Python
code is called while the store's lock is held.
"""

import os

from dragoman.errors import CorruptionError, StorageError, UsageError

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
)
from cpython.list cimport (
    PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
)
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_RDWR

from dragoman.queue.ahead cimport touching_end
from dragoman.queue.compaction cimport compact
from dragoman.queue.files cimport Files
from dragoman.queue.journal cimport (
    frame_reserve, journal_end, journal_files_max, journal_measure, journal_open, journal_put,
    journal_run, journal_tails, journal_wait, log_flushed,
)
from dragoman.queue.fetch cimport Fetch
from dragoman.queue.log cimport log_adapt, log_run
from dragoman.queue.segments cimport path_of, slot_remove
from dragoman.queue.meta cimport (
    meta_closed, meta_commit, meta_dropped, meta_flush, meta_lost, meta_opened, meta_queue
)
from dragoman.queue.reader cimport (
    Piece, Window, resolve, window_clear, window_done, window_free, window_place, window_submit,
    window_wait
)
from dragoman.queue.recovery cimport mend
from dragoman.queue.replay cimport recover
from dragoman.queue.rewrite cimport rewrite
from dragoman.queue.state cimport (
    BATCH, BLOCK_CHUNKS_MAX, CURSORS, DONE, GATHERED, MESSAGE_MAX, NAME_MAX, NO_MEMORY, OVERCOPY,
    QUEUE_ALIVE, SECTOR, SEGMENT_SLOTS, SPIN, WAIT, Queue, Segment, Store, Table, cond_init,
    cond_wait_ms, entry_word, flag, hash_name, prefetch, pthread_cond_broadcast,
    pthread_cond_signal, pthread_cond_wait, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_unlock, queue_first, queue_name, queue_name_length, queue_named, relax,
    spin_lock,
)
from dragoman.queue.table cimport (
    table_add, table_close, table_find, table_open, table_touch, tail_detach, tail_put
)

from dragoman.queue.upkeep cimport (
    dead_slot, drop_slot, oldest_birth, oldest_slot, queue_delete, queue_trim, tails_to_log,
    trim_lengths,
)
from dragoman.queue.verify cimport SegmentCheck, blocks_between

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

cdef enum:
    # Beyond what tail_put returns.
    FAILED = 10

# A frame of the journal may have so much, or an eighth of the journal, before puts wait.
cdef uint64_t FRAME_MOST = 33554432
# Room that META has on the disk beyond its end: for this, and the trims of all queues.
cdef uint64_t META_RESERVE = 1048576
# How many puts put_many looks up at a time, so that memory has time to come.
cdef Py_ssize_t AHEAD = 32
# After so many puts elsewhere the next queue is not expected any more.
cdef uint32_t RUN = 16


cdef struct Item:
    # One put of put_many.
    const char* name
    const char* message
    uint32_t name_length
    uint32_t message_length
    uint32_t hash
    uint32_t id
    uint64_t offset


cdef inline int name_of(object queue, const char** name, Py_ssize_t* n) except -1:
    if PyBytes_CheckExact(queue):
        name[0] = PyBytes_AS_STRING(queue)
        n[0] = PyBytes_GET_SIZE(queue)
    elif isinstance(queue, str):
        try:
            name[0] = PyUnicode_AsUTF8AndSize(queue, n)
        except UnicodeEncodeError:
            raise UsageError("a queue's name has a lone surrogate, which is not text") from None
    elif isinstance(queue, bytes):
        name[0] = <const char*>queue
        n[0] = len(queue)
    else:
        raise UsageError(f"a queue's name is str or bytes, not {type(queue).__name__}")
    if n[0] < 1 or n[0] > NAME_MAX:
        raise UsageError(f"a queue's name has 1 to 65536 bytes, not {n[0]}")
    return 0


cdef bytes message_of(object message):
    if not isinstance(message, (bytes, bytearray, memoryview)):
        raise UsageError(f"a message is bytes, not {type(message).__name__}")
    return bytes(message)


cdef inline void ahead(Table* t, uint32_t id) noexcept nogil:
    cdef Queue* q = &t.queues[id + 4]
    cdef const char* at = t.chunks[q.cur].data + q.used
    prefetch(&t.queues[id + 10])
    prefetch(&t.slots[q.hash & t.mask])
    if q.cur:
        prefetch(at)
        prefetch(at + 60)


cdef inline uint32_t guessed(Table* t, const char* name, uint32_t n) noexcept nogil:
    # Is it the queue made after one of the last two that were put to? 0: not known.
    if t.run:
        if queue_named(&t.queues[t.last + 1], name, n):
            return t.last + 1
        if queue_named(&t.queues[t.last_but_one + 1], name, n):
            return t.last_but_one + 1
        t.run -= 1
    return 0


cdef inline int put_known(
    Store* s, uint32_t id, const char* message, uint32_t m, uint64_t* offset
) noexcept nogil:
    # Under the lock, to a queue that there is. DONE, NO_MEMORY, FAILED, or WAIT: for ``space``.
    cdef Table* t = &s.table
    cdef uint64_t pending
    cdef int result
    if s.poison or s.closing:
        return FAILED
    if s.durability:
        if s.journal_error:
            # Nothing more is promised until the journal has taken what it has.
            return FAILED
        if s.frame.length > s.frame_most or s.journal_full:
            return FAILED if s.journal_full and s.log_error else WAIT
        if frame_reserve(&s.frame, 24 + m) != DONE:
            return NO_MEMORY
    pending = t.ring_tail
    result = tail_put(t, id, message, m)
    if result == DONE:
        offset[0] = t.queues[id].next - 1
        t.messages += 1
        t.message_bytes += m
        if s.durability:
            journal_put(s, id, offset[0], message, m)
    elif result == WAIT and s.log_error:
        return FAILED
    if pending != t.ring_tail or result == WAIT:
        pending = t.ring_tail - t.ring_head
        if pending % 64 == 32 or t.ring_bytes > 4194304 or result == WAIT:
            pthread_cond_signal(&s.work)
    return result


cdef int put_locked(
    Store* s, const char* name, uint32_t n, const char* message, uint32_t m, uint64_t* offset
) noexcept nogil:
    # Under the lock, to a queue that may be new. As put_known.
    cdef Table* t = &s.table
    cdef uint32_t hash
    cdef uint32_t id = guessed(t, name, n)
    if id == 0:
        hash = <uint32_t>hash_name(name, n, t.seed)
        id = table_find(t, name, n, hash)
        if id == 0:
            if s.poison or s.closing:
                return FAILED
            if meta_queue(s, t.ids, name, n) != DONE:
                return NO_MEMORY
            id = table_add(t, 0, name, n, hash)
            if id == 0:
                s.meta.length -= 13 + n
                return NO_MEMORY
            if t.alive % 256 == 0:
                log_adapt(s)
    # Whoever writes to one queue after the other, in the order in which they were made, finds the
    # next ones in the processor's cache.
    if id - t.last == 1:
        ahead(t, id)
        t.last = id
        t.run = RUN
    elif id - t.last_but_one == 1:
        ahead(t, id)
        t.last_but_one = id
        t.run = RUN
    else:
        t.last_but_one = t.last
        t.last = id
    return put_known(s, id, message, m, offset)


cdef void wait_for_room(Store* s) noexcept nogil:
    # Under the lock and without the GIL: until it is worth trying again.
    if s.durability and (s.frame.length > s.frame_most or s.journal_full):
        pthread_cond_signal(&s.journal_work)
        pthread_cond_signal(&s.upkeep)
        pthread_cond_wait(&s.durable, &s.lock)
    else:
        pthread_cond_wait(&s.space, &s.lock)


cdef int put_waiting(
    Store* s, const char* name, uint32_t n, const char* message, uint32_t m, uint64_t* offset
) noexcept nogil:
    # Under the lock and without the GIL: as long as it takes.
    cdef int result
    while True:
        result = put_locked(s, name, n, message, m, offset)
        if result != WAIT:
            return result
        wait_for_room(s)


cdef void find_group(Table* t, Item* items, Py_ssize_t n) noexcept nogil:
    # Ids of queues that there are, 0 for others; what each put will touch is on its way.
    cdef Py_ssize_t i
    cdef Item* item
    cdef Queue* q
    cdef uint64_t slot
    cdef uint32_t id = t.last + 1
    cdef Py_ssize_t known = 0
    # Queues often come in the order in which they were made.
    while known < n and queue_named(&t.queues[id], items[known].name, items[known].name_length):
        items[known].id = id
        known += 1
        id += 1
    for i in range(known, n):
        item = &items[i]
        item.hash = <uint32_t>hash_name(item.name, item.name_length, t.seed)
        prefetch(&t.slots[item.hash & t.mask])
    for i in range(known, n):
        slot = t.slots[items[i].hash & t.mask]
        if slot:
            prefetch(&t.queues[<uint32_t>slot])
    for i in range(known, n):
        item = &items[i]
        item.id = table_find(t, item.name, item.name_length, item.hash)
    for i in range(n):
        item = &items[i]
        prefetch(item.message)
        prefetch(&t.queues[item.id + n])
        if item.id == 0:
            continue
        q = &t.queues[item.id]
        if q.cur:
            prefetch(t.chunks[q.cur].data + q.used)
            prefetch(t.chunks[q.cur].data + q.used + 56)
        if q.bytes + item.message_length + 5 > t.limit and q.index != NULL:
            # A block is due.
            prefetch(q.index)
            prefetch(q.index + entry_word(q.entries))


cdef Py_ssize_t put_items(Store* s, Item* items, Py_ssize_t n, int* result) noexcept nogil:
    # All of put_many: how many were put. In groups, so that the memory that each of a group needs
    # comes while that of the others does.
    cdef Table* t = &s.table
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t k, group
    cdef Item* item
    result[0] = DONE
    pthread_mutex_lock(&s.lock)
    while i < n and result[0] == DONE:
        group = min(AHEAD, n - i)
        find_group(t, items + i, group)
        for k in range(group):
            item = &items[i + k]
            if item.id:
                t.last = item.id
                result[0] = put_known(
                    s, item.id, item.message, item.message_length, &item.offset
                )
            else:
                result[0] = put_locked(
                    s, item.name, item.name_length, item.message, item.message_length,
                    &item.offset
                )
            if result[0] != DONE:
                group = k
                break
        i += group
        if result[0] == WAIT:
            # Others had the lock: what is known of the queues may be so no more.
            wait_for_room(s)
            result[0] = DONE
        elif flag(&s.wanted):
            pthread_mutex_unlock(&s.lock)
            k = 0
            while k < SPIN and flag(&s.wanted):
                relax()
                k += 1
            lock_patiently(s)
    pthread_mutex_unlock(&s.lock)
    return i


cdef inline void lock_patiently(Store* s) noexcept nogil:
    if not spin_lock(&s.lock, SPIN):
        pthread_mutex_lock(&s.lock)


cdef bint set_freed(Store* s) noexcept nogil:
    s.freed = <uint32_t*>malloc(BATCH * BLOCK_CHUNKS_MAX * sizeof(uint32_t))
    return s.freed != NULL


cdef class Context:
    """A window, lent to one call at a time."""

    cdef Window w

    def __dealloc__(self):
        window_free(&self.w)


cdef class Engine:
    """A store that is open. Every method may be called from any thread."""

    cdef Store s
    cdef Files files
    cdef list contexts
    cdef readonly object recovery
    cdef str path
    cdef readonly bint open
    cdef int users
    cdef uint64_t reserved  # META has room up to here
    cdef uint64_t reserved_generation  # if it is this one

    def __cinit__(self):
        memset(&self.s, 0, sizeof(Store))
        pthread_mutex_init(&self.s.lock, NULL)
        pthread_mutex_init(&self.s.meta_lock, NULL)
        cond_init(&self.s.work)
        cond_init(&self.s.space)
        cond_init(&self.s.journal_work)
        cond_init(&self.s.durable)
        cond_init(&self.s.upkeep)
        self.s.meta_fd = -1
        self.s.journal_fd = -1
        self.s.slot = -1
        self.contexts = []

    def __dealloc__(self):
        self._release()

    cdef void _release(self) noexcept:
        cdef Store* s = &self.s
        cdef uint32_t i
        with nogil:
            touching_end(&s.touching)
        if s.segments != NULL:
            for i in range(s.slots_top):
                if s.segments[i].fd >= 0 and s.segments[i].state:
                    s.disk.close(s.disk, s.segments[i].fd)
        free(s.segments)
        s.segments = NULL
        s.slots_top = 0
        table_close(&s.table)
        free(s.gather)
        free(s.directory.data)
        free(s.meta.data)
        free(s.frame.data)
        free(s.frame_out.data)
        free(s.freed)
        s.freed = NULL
        free(s.cache)
        free(s.cache_slots)
        s.gather = s.cache = NULL
        s.cache_slots = NULL
        free(s.cursors)
        s.cursors = NULL
        s.directory.data = s.meta.data = s.frame.data = s.frame_out.data = NULL
        if s.meta_fd >= 0:
            s.disk.close(s.disk, s.meta_fd)
            s.meta_fd = -1
        if s.journal_fd >= 0:
            s.disk.close(s.disk, s.journal_fd)
            s.journal_fd = -1

    def _open(
        self, str path, Files files not None, *, bytes identity, uint64_t segment_bytes,
        bint direct, int durability, uint64_t interval_ms, uint64_t memory_bytes, uint64_t
        cache_bytes, uint64_t journal_bytes, uint64_t journal_file_bytes, bint read_only,
    ):
        """Recover what the directory holds. Threads are the caller's to start (``_run_*``)."""
        cdef Store* s = &self.s
        cdef bytes encoded = os.fsencode(path)
        cdef bytes meta = os.fsencode(path + "/META")
        cdef uint64_t slots = 1024
        cdef int error
        if len(encoded) > 4000:
            raise UsageError(f"the path of a store has at most 4,000 bytes: {path[:80]}...")
        self.files = files
        self.path = path
        s.disk = &files.disk
        memcpy(s.path, <char*>encoded, len(encoded) + 1)
        memcpy(s.identity, <char*>identity, 16)
        s.direct = direct
        s.read_align = 512
        s.read_only = read_only
        s.segment_bytes = segment_bytes
        s.durability = durability
        s.interval_ms = interval_ms
        s.memory = memory_bytes
        s.journal_bytes_max = journal_bytes
        s.frame_most = min(FRAME_MOST, journal_bytes // 8)
        s.journal_file_bytes = journal_file_bytes
        s.tail_bytes_max = memory_bytes
        s.segments = <Segment*>calloc(SEGMENT_SLOTS, sizeof(Segment))
        if (
            s.segments == NULL
            or table_open(&s.table, int.from_bytes(os.urandom(8), "little")) != DONE
            or posix_memalign(<void**>&s.gather, SECTOR, GATHERED + OVERCOPY) != 0
            or journal_open(s) != DONE
            or not set_freed(s)
        ):
            raise MemoryError("no memory for the store")
        if cache_bytes:
            while slots < cache_bytes // 512:
                slots *= 2
            s.cache = <char*>malloc(cache_bytes)
            s.cache_slots = <uint64_t*>calloc(2 * slots, 8)
            s.cursors = <uint64_t*>calloc(CURSORS, 8)
            if s.cache == NULL or s.cache_slots == NULL or s.cursors == NULL:
                raise MemoryError("no memory for the cache")
            s.cache_mask = slots - 1
            s.cache_bytes = cache_bytes
        if read_only:
            # Nothing leaves memory: what is replayed stays in the ring.
            s.table.ring_mask = 0xFFFFFFFF
            s.table.ring_bytes_max = 0xFFFFFFFFFFFFFFFF
        self.recovery = recover(s, files, path, False)
        s.meta_start = self.recovery.meta_end
        s.meta_synced = s.meta_start
        s.meta_generation = self.recovery.generation
        s.meta_dead = self.recovery.meta_dead
        if not read_only:
            s.meta_fd = s.disk.open(s.disk, <char*>meta, O_RDWR)
            if s.meta_fd < 0:
                raise storage_error(s.meta_fd, f"{path}/META")
            for name in os.listdir(path):
                if name.endswith(".new"):
                    files.unlink(f"{path}/{name}")  # of a rewriting that was cut short
            # Names too: what was renamed or made may be so in the page cache only.
            error = s.disk.sync_directory(s.disk, s.path)
            if error == 0 and self.recovery.meta_torn:
                error = s.disk.truncate(s.disk, s.meta_fd, s.meta_start)
                if error == 0:
                    error = s.disk.sync(s.disk, s.meta_fd)
            s.meta_synced = 0
            if error == 0 and meta_opened(s) != DONE:
                raise MemoryError
            if error == 0:
                error = meta_flush(s, True)
            if error < 0:
                raise storage_error(error, f"{path}/META")
            for number in self.recovery.journals:
                # What was found may be in the page cache only; it is relied on from now on.
                self._sync_file(f"{path}/{number:010}.jnl")
            if self.recovery.unsynced:
                self._sync_file(f"{path}/{self.recovery.unsynced:010}.seg")
            s.synced = self.recovery.evidence
            error = mend(s, self.recovery)
            if error < 0:
                raise storage_error(error, f"{path}: the last segment")
            s.writer_alive = True
            s.journal_alive = True
        self.open = True

    cdef int _sync_file(self, str path) except -1:
        cdef Store* s = &self.s
        cdef bytes encoded = os.fsencode(path)
        cdef int fd = s.disk.open(s.disk, <char*>encoded, O_RDWR)
        cdef int error = fd
        if fd >= 0:
            error = s.disk.sync(s.disk, fd)
            s.disk.close(s.disk, fd)
        if error < 0:
            raise storage_error(error, path)
        return 0

    def _replay(self):
        """The journal into memory; the writer's thread must be running unless read-only."""
        cdef Store* s = &self.s
        self._lock()
        log_adapt(s)
        self._unlock()
        self.recovery.replay()
        s.frame_number = self.recovery.frame_last + 1
        s.frame_synced = s.frame_written = s.frame_number - 1
        journals = self.recovery.journals
        s.journal_oldest = journals[0] if journals else 1
        s.journal_file = max(journals) + 1 if journals else 1

    def _touch(self, uint64_t queues, uint64_t chunk_bytes):
        """Take memory from the system ahead of its use."""
        cdef int result
        self._lock()
        result = table_touch(&self.s.table, queues, chunk_bytes)
        self._unlock()
        if result != DONE:
            raise MemoryError

    def _run_writer(self):
        """The log's thread."""
        with nogil:
            log_run(&self.s)

    def _run_journal(self):
        """The journal's thread."""
        with nogil:
            journal_run(&self.s)

    # Checks.

    cdef int _check(self, bint writing) except -1:
        if not self.open:
            raise UsageError("the store is closed")
        if writing and self.s.read_only:
            raise UsageError("the store was opened read-only")
        return 0

    cdef inline void _lock(self) noexcept:
        # With the GIL held; after a microsecond or two it is given up rather than waited with.
        if not spin_lock(&self.s.lock, SPIN):
            with nogil:
                pthread_mutex_lock(&self.s.lock)

    cdef inline void _unlock(self) noexcept nogil:
        pthread_mutex_unlock(&self.s.lock)

    cdef object _failure(self):
        # Why a put or sync could not be done.
        cdef Store* s = &self.s
        if s.poison:
            return storage_error(
                -s.poison, f"{self.path}: a sync has failed, nothing is acknowledged any more"
            )
        if s.journal_error:
            return storage_error(-s.journal_error, f"{self.path}: the journal cannot be written")
        if s.log_error:
            return storage_error(-s.log_error, f"{self.path}: the log cannot be written")
        if s.closing or not self.open:
            return UsageError("the store is closed")
        return StorageError(f"{self.path}: the store has stopped writing")

    cdef uint32_t _find(self, object queue) except? 0:
        # Takes and leaves the lock; 0 for none.
        cdef const char* name
        cdef Py_ssize_t n
        cdef uint32_t id
        name_of(queue, &name, &n)
        self._lock()
        id = table_find(
            &self.s.table, name, n, <uint32_t>hash_name(name, n, self.s.table.seed)
        )
        self._unlock()
        return id

    # Putting.

    def put(self, queue, message):
        """Append one message; returns its offset in the queue."""
        cdef Store* s = &self.s
        cdef const char* name
        cdef const char* data
        cdef Py_ssize_t n, m
        cdef uint64_t offset = 0
        cdef uint64_t frame
        cdef int result
        if not self.open or s.read_only:
            self._check(True)
        name_of(queue, &name, &n)
        if not PyBytes_CheckExact(message):
            message = message_of(message)
        data = PyBytes_AS_STRING(message)
        m = PyBytes_GET_SIZE(message)
        if m > MESSAGE_MAX:
            raise UsageError(f"a message has at most 16777216 bytes, not {m}")
        if not spin_lock(&s.lock, SPIN):
            with nogil:
                pthread_mutex_lock(&s.lock)
        result = put_locked(s, name, n, data, m, &offset)
        if result == WAIT:
            with nogil:
                wait_for_room(s)
                result = put_waiting(s, name, n, data, m, &offset)
        if result == DONE and s.durability == 2:
            frame = s.frame_number
            with nogil:
                result = journal_wait(s, frame)
                pthread_mutex_unlock(&s.lock)
        else:
            pthread_mutex_unlock(&s.lock)
        if result != DONE:
            raise MemoryError("no memory for the message") if result == NO_MEMORY else (
                self._failure()
            )
        return offset

    def put_many(self, queues, messages=None):
        """Append many: ``pairs``, one queue with its messages, or queues beside messages."""
        cdef Store* s = &self.s
        cdef Item* items
        cdef Py_ssize_t n, i, size, done = 0
        cdef object queue, message, pair
        cdef const char* name
        cdef list owned = []
        cdef bint pairs = messages is None
        cdef bint one = False
        cdef list first, second = None
        cdef list offsets
        cdef object number
        cdef int result = DONE
        cdef uint64_t frame
        self._check(True)
        if pairs:
            first = queues if PyList_CheckExact(queues) else list(queues)
        else:
            second = messages if PyList_CheckExact(messages) else list(messages)
            one = isinstance(queues, (str, bytes))
            first = second if one else (queues if PyList_CheckExact(queues) else list(queues))
            if len(first) != len(second):
                raise UsageError(f"{len(first)} queues beside {len(second)} messages")
        n = PyList_GET_SIZE(first)
        if n == 0:
            return []
        items = <Item*>malloc(n * sizeof(Item))
        if items == NULL:
            raise MemoryError
        # What is referred to while the GIL is away must not go away with a list that others change.
        held = <PyObject**>malloc(2 * n * sizeof(PyObject*))
        if held == NULL:
            free(items)
            raise MemoryError
        cdef Py_ssize_t holding = 0
        try:
            for i in range(n):
                if pairs:
                    pair = <object>PyList_GET_ITEM(first, i)
                    if PyTuple_CheckExact(pair) and PyTuple_GET_SIZE(pair) == 2:
                        queue = <object>PyTuple_GET_ITEM(pair, 0)
                        message = <object>PyTuple_GET_ITEM(pair, 1)
                    else:
                        try:
                            queue, message = pair
                        except (TypeError, ValueError):
                            raise UsageError(
                                f"put_many takes pairs of queue and message; number {i} is none"
                            ) from None
                else:
                    if i >= PyList_GET_SIZE(first) or i >= PyList_GET_SIZE(second):
                        raise UsageError("the list of messages changed while it was read")
                    queue = queues if one else <object>PyList_GET_ITEM(first, i)
                    message = <object>PyList_GET_ITEM(second, i)
                if PyBytes_CheckExact(queue):
                    name = PyBytes_AS_STRING(queue)
                    size = PyBytes_GET_SIZE(queue)
                    if size < 1 or size > NAME_MAX:
                        name_of(queue, &name, &size)
                else:
                    name_of(queue, &name, &size)
                items[i].name = name
                items[i].name_length = <uint32_t>size
                if not PyBytes_CheckExact(message):
                    message = message_of(message)
                size = PyBytes_GET_SIZE(message)
                if size > MESSAGE_MAX:
                    raise UsageError(f"a message has at most 16777216 bytes, not {size}")
                items[i].message = PyBytes_AS_STRING(message)
                items[i].message_length = <uint32_t>size
                Py_INCREF(queue)
                held[holding] = <PyObject*>queue
                Py_INCREF(message)
                held[holding + 1] = <PyObject*>message
                holding += 2
            with nogil:
                done = put_items(s, items, n, &result)
                if result == DONE and s.durability == 2:
                    pthread_mutex_lock(&s.lock)
                    frame = s.frame_number - (0 if s.frame_entries else 1)
                    result = journal_wait(s, frame)
                    pthread_mutex_unlock(&s.lock)
            if result != DONE:
                raise MemoryError("no memory for the messages") if result == NO_MEMORY else (
                    self._failure()
                )
            offsets = PyList_New(n)
            for i in range(n):
                number = items[i].offset
                Py_INCREF(number)
                PyList_SET_ITEM(offsets, i, number)
            return offsets
        finally:
            for i in range(holding):
                Py_DECREF(<object>held[i])
            free(held)
            free(items)

    # Getting.

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
        cdef list wanted = requests if PyList_CheckExact(requests) else list(requests)
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
        self._check(False)
        items = <Item*>malloc((n + 1) * sizeof(Item))
        if items == NULL:
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
        if s.closing:
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

    # Looking.

    def length(self, queue):
        """The offset that the next message will get: how many were ever put."""
        self._check(False)
        cdef uint32_t id = self._find(queue)
        return self.s.table.queues[id].next if id else 0

    def first_offset(self, queue):
        """The offset of the oldest message that is still there (``length`` when there is none)."""
        cdef uint64_t result = 0
        self._check(False)
        cdef uint32_t id = self._find(queue)
        if id:
            self._lock()
            result = queue_first(&self.s.table.queues[id])
            self._unlock()
        return result

    def __contains__(self, queue):
        self._check(False)
        return self._find(queue) != 0

    def _names(self, uint32_t start, uint32_t count):
        # (next start, names) of up to ``count`` ids; start 0 of the answer: no more.
        cdef Table* t = &self.s.table
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
        self._lock()
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
        self._unlock()
        cdef uint64_t at = 0
        while at < n:
            memcpy(&length, copy + at, 4)
            pieces.append(PyBytes_FromStringAndSize(copy + at + 4, length))
            at += 4 + length
        free(copy)
        return id, pieces

    def _id(self, queue):
        # The queue's number in the files, 0 for none.
        return self._find(queue)

    def _name(self, uint32_t id):
        # Its name, or None.
        cdef Queue* q
        cdef bytes result = None
        if 0 < id < self.s.table.ids and self.s.table.queues[id].flags & QUEUE_ALIVE:
            q = &self.s.table.queues[id]
            result = PyBytes_FromStringAndSize(queue_name(q), queue_name_length(q))
        return result

    # Keeping.

    def sync(self):
        """Everything put before the call is durable when it returns."""
        cdef Store* s = &self.s
        cdef int error
        self._check(True)
        with nogil:
            if s.durability:
                pthread_mutex_lock(&s.lock)
                error = -s.poison
                if error == 0:
                    error = journal_wait(
                        s, s.frame_number if s.frame_entries else s.frame_number - 1
                    )
                pthread_mutex_unlock(&s.lock)
            else:
                error = journal_tails(s, 0)
                if error == 0:
                    error = log_flushed(s)
            if error == 0:
                error = meta_flush(s, True)
        if error < 0:
            if s.poison or s.journal_error or s.log_error:
                raise self._failure()
            raise storage_error(error, self.path)

    def _flush_log(self):
        # The blocks on their way are durable.
        cdef int error
        with nogil:
            error = log_flushed(&self.s)
        if error < 0:
            raise self._failure()

    def _commit(self, uint32_t id, bytes group, uint64_t position):
        # Note a group's position in the queue with this number.
        cdef int result
        self._check(True)
        self._lock()
        result = meta_commit(&self.s, id, position, <char*>group, len(group))
        self._unlock()
        if result != DONE:
            raise MemoryError

    def _sync_meta(self, bint sync):
        # META's records are written, and durable if asked for.
        cdef int error
        with nogil:
            error = meta_flush(&self.s, sync)
        if error < 0:
            raise storage_error(error, f"{self.path}/META")

    # What goes.

    def trim(self, queue, before):
        """The queue's messages before offset ``before`` are gone; beyond its end: all are."""
        cdef int result = DONE
        self._check(True)
        if not isinstance(before, int) or before < 0:
            raise UsageError(f"messages are trimmed before an offset, not {before!r:.100}")
        cdef uint64_t offset = min(before, (1 << 48) - 1)
        cdef uint32_t id
        cdef const char* name
        cdef Py_ssize_t n
        name_of(queue, &name, &n)
        self._lock()
        id = table_find(&self.s.table, name, n, <uint32_t>hash_name(name, n, self.s.table.seed))
        if id:
            result = queue_trim(&self.s, id, offset)
        self._unlock()
        if result != DONE:
            raise MemoryError

    def delete(self, queue):
        """The queue and all its messages are gone; False when there was none."""
        cdef int result = DONE
        self._check(True)
        cdef uint32_t id
        cdef const char* name
        cdef Py_ssize_t n
        name_of(queue, &name, &n)
        self._lock()
        id = table_find(&self.s.table, name, n, <uint32_t>hash_name(name, n, self.s.table.seed))
        if id:
            result = queue_delete(&self.s, id)
        self._unlock()
        if result != DONE:
            raise MemoryError
        self._forget(id)
        return id != 0

    def _forget(self, uint32_t id):
        # A queue with this number is no more; for those who keep more about it.
        pass

    def _trim_lengths(self, uint64_t most):
        # Every queue keeps ``most`` messages and what shares a block with them.
        cdef uint32_t start = 1
        cdef int result = DONE
        with nogil:
            while start < self.s.table.ids and result == DONE:
                pthread_mutex_lock(&self.s.lock)
                result = trim_lengths(&self.s, start, start + 1024, most)
                pthread_mutex_unlock(&self.s.lock)
                start += 1024
        if result != DONE:
            raise MemoryError

    def _oldest(self):
        # (slot, newest time) of the oldest sealed segment, or None.
        cdef int slot
        self._lock()
        slot = oldest_slot(&self.s)
        newest = self.s.segments[slot].newest_s if slot >= 0 else 0
        self._unlock()
        return (slot, newest) if slot >= 0 else None

    def _drop(self, int slot):
        # All queues lose their blocks in the oldest segment.
        cdef uint32_t start = 1
        cdef int result = DONE
        with nogil:
            while start < self.s.table.ids and result == DONE:
                pthread_mutex_lock(&self.s.lock)
                result = drop_slot(&self.s, slot, start, start + 1024)
                pthread_mutex_unlock(&self.s.lock)
                start += 1024
        if result != DONE:
            raise MemoryError

    def _remove_dead(self):
        # Segments that nobody refers to go; how many bytes that gave back.
        cdef Store* s = &self.s
        cdef int slot, error
        cdef char path[4200]
        cdef uint64_t bytes_back = 0
        while True:
            self._lock()
            slot = dead_slot(s)
            if slot >= 0 and meta_dropped(s, s.segments[slot].number) != DONE:
                slot = -1
            if slot >= 0:
                s.segments[slot].state = 3
                path_of(s, s.segments[slot].number, b"seg", path)
            self._unlock()
            if slot < 0:
                return bytes_back
            # First that it is gone, then that: a file that comes back is not believed.
            with nogil:
                error = meta_flush(s, True)
                if error == 0:
                    error = s.disk.unlink(s.disk, path)
                if error == 0:
                    error = s.disk.sync_directory(s.disk, s.path)
                pthread_mutex_lock(&s.lock)
                if error == 0:
                    bytes_back += s.segments[slot].length
                    slot_remove(s, slot)
                else:
                    s.segments[slot].state = 1
                pthread_mutex_unlock(&s.lock)
            if error < 0:
                raise storage_error(error, f"{self.path}: removing a segment")

    def _compact(
        self, object kept, double below, uint64_t before, uint64_t bytes_s,
        uint64_t memory_bytes
    ):
        # One run of segments: (bytes before, after), None when nothing is worth it. Segments with
        # numbers from ``before`` on are left alone.
        try:
            return compact(
                &self.s, self.files, self.path, kept, below, before, bytes_s,
                memory_bytes
            )
        except OSError as error:
            raise StorageError(
                f"{self.path}: compaction: {error.strerror}", errno=error.errno
            ) from error

    def _meta_dead(self):
        # (bytes of META, of which so many are dead).
        return self.s.meta_start + self.s.meta.length, self.s.meta_dead

    def _reserve_meta(self):
        # META can always say what goes, or a full disk could not be given space back.
        cdef Store* s = &self.s
        cdef uint64_t end = s.meta_start + s.meta.length
        cdef uint64_t want = META_RESERVE + 32 * <uint64_t>s.table.alive
        if s.meta_generation != self.reserved_generation:
            self.reserved = 0
        if self.reserved < end + want // 2 and self.files.reserve(s.meta_fd, end, want):
            self.reserved = end + want
            self.reserved_generation = s.meta_generation

    def _rewrite_meta(self, object committing, dict groups):
        # META without what is dead; False when the store closes meanwhile.
        try:
            return rewrite(
                &self.s, self.files, self.path, committing, groups, self.recovery.known_lost,
                self.recovery.missing,
            )
        except OSError as error:
            raise StorageError(
                f"{self.path}: META cannot be rewritten: {error.strerror}", errno=error.errno
            ) from error

    def _segments(self):
        # (slot, number, bytes) of all segments there are.
        cdef uint32_t i
        cdef list result = []
        for i in range(self.s.slots_top):
            if self.s.segments[i].state in (1, 2, 4, 5):
                result.append((i, self.s.segments[i].number, self.s.segments[i].length))
        return result

    def _verify_segment(self, int slot, object progress):
        # (bytes, [(offset, end, queue id, first, messages, reason)]); ``progress``: by bytes.
        cdef SegmentCheck check = SegmentCheck.__new__(SegmentCheck)
        cdef uint64_t before = 0
        cdef bint more = True
        check.begin(&self.s, slot)
        if check.error == -2:
            return []  # gone meanwhile
        try:
            while more and not check.error:
                more = check.step()
                progress(check.at - before)
                before = check.at
        finally:
            check.end()
        if check.error:
            raise storage_error(check.error, f"{self.path}/{check.number:010}.seg")
        found = []
        for start, end, queue, first, messages, reason in check.problems:
            # What queues have there, be it by the directory, says who is concerned.
            blocks = blocks_between(&self.s, slot, start, max(end, start + 1))
            for id, at, count, offset in blocks:
                found.append((offset, end, id, at, count, reason))
            if not blocks:
                found.append((start, end, queue, first, 0, reason))
        return found

    def _note_lost(self, uint32_t id, uint64_t first, uint64_t messages):
        # A repair gives these messages up.
        cdef int result
        self._lock()
        result = meta_lost(&self.s, id, first, messages)
        self._unlock()
        if result != DONE:
            raise MemoryError

    def _note_dropped(self, uint64_t number):
        # A repair gives this segment up.
        cdef int result
        self._lock()
        result = meta_dropped(&self.s, number)
        self._unlock()
        if result != DONE:
            raise MemoryError

    def _detach_tails(self):
        # All tails become blocks on their way to the log.
        cdef Store* s = &self.s
        cdef uint32_t id = 1
        cdef int result = DONE
        with nogil:
            pthread_mutex_lock(&s.lock)
            while id < s.table.ids and result == DONE:
                if s.table.queues[id].count:
                    result = tail_detach(&s.table, id)
                    if result == WAIT and not s.log_error and s.writer_alive:
                        pthread_cond_signal(&s.work)
                        pthread_cond_wait(&s.space, &s.lock)
                        result = DONE
                        continue
                id += 1
            pthread_cond_signal(&s.work)
            pthread_mutex_unlock(&s.lock)
        if result != DONE:
            raise MemoryError if result == NO_MEMORY else self._failure()

    def _leave_journal(self):
        # Tails go to a new journal file, all others go; the journal's thread must be running.
        cdef Store* s = &self.s
        cdef int error
        if s.journal_file <= s.journal_oldest:
            return
        with nogil:
            error = journal_tails(s, s.journal_file - 1)
        if error < 0:
            raise storage_error(error, f"{self.path}: the journal")
        self._collect_journal()
        with nogil:
            error = s.disk.sync_directory(s.disk, s.path)
        if error < 0:
            raise storage_error(error, self.path)

    def _await_upkeep(self, uint64_t ms):
        """Wait that long, or until the journal needs work (True) or the store closes."""
        cdef Store* s = &self.s
        cdef bint due
        with nogil:
            pthread_mutex_lock(&s.lock)
            if not s.closing and not s.journal_due:
                cond_wait_ms(&s.upkeep, &s.lock, ms)
            due = s.journal_due
            s.journal_due = False
            pthread_mutex_unlock(&s.lock)
        return due

    def _collect_journal(self):
        # Journal files that no tail needs go. Tails leave the oldest ones first: near the bound
        # they are written to the newest file again, at the bound they become blocks.
        cdef Store* s = &self.s
        cdef uint32_t current = s.journal_file
        cdef uint32_t files = journal_files_max(s)
        cdef uint32_t some = files - files // 8
        cdef uint32_t needed
        cdef int error = 0
        cdef char path[4200]
        if current <= s.journal_oldest:
            return 0
        with nogil:
            if s.journal_full:
                error = tails_to_log(s, current - some // 2)
            elif current - s.journal_oldest > some:
                error = journal_tails(s, current - some)
            needed = oldest_birth(s)
            if error == 0 and needed > s.journal_oldest:
                # What has left the tails meanwhile is durable in blocks before the files go.
                error = log_flushed(s)
            while error == 0 and s.journal_oldest < needed and s.journal_oldest < current:
                path_of(s, s.journal_oldest, b"jnl", path)
                error = s.disk.unlink(s.disk, path)
                if error == -2:
                    error = 0
                if error == 0:
                    s.journal_oldest += 1
            pthread_mutex_lock(&s.lock)
            journal_measure(s)
            pthread_cond_broadcast(&s.durable)
            pthread_mutex_unlock(&s.lock)
        if error < 0:
            raise storage_error(error, f"{self.path}: removing a journal file")
        return needed

    def _stop(self):
        # No put is taken from now on; the threads finish what there is and end.
        cdef Store* s = &self.s
        self._lock()
        s.closing = True
        pthread_cond_broadcast(&s.work)
        pthread_cond_broadcast(&s.space)
        pthread_cond_broadcast(&s.journal_work)
        pthread_cond_broadcast(&s.durable)
        pthread_cond_broadcast(&s.upkeep)
        self._unlock()

    def _end(self):
        # After the threads have ended in order: say that all is on the disk.
        cdef Store* s = &self.s
        cdef int error = 0
        cdef uint64_t frame
        if s.poison or s.log_error or s.journal_error or s.slot >= 0 or s.frame_entries:
            return
        with nogil:
            error = journal_end(s)
            # None that proves anything if no file is left.
            frame = s.frame_number - 1
            if s.journal_fd < 0 and s.journal_oldest == s.journal_file:
                frame = 0
            if error == 0 and meta_closed(s, s.synced, frame) != DONE:
                error = -12
            if error == 0:
                error = meta_flush(s, True)
        if error < 0:
            raise storage_error(error, self.path)

    def _close(self):
        # After the threads have ended.
        self.open = False
        self.contexts.clear()
        self._release()

    def _tail_memory(self):
        # Bytes that tails have of the system, in use or not.
        return <uint64_t>self.s.table.chunks_top * 256

    def _statistics(self):
        cdef Store* s = &self.s
        cdef Table* t = &s.table
        cdef uint32_t i
        cdef uint64_t live = 0, whole = 0, segments = 0
        self._check(False)
        self._lock()
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
            tail_bytes=t.chunks_used * 256,
            index_bytes=t.index_bytes,
            open_files=s.open_files,
            direct=bool(s.direct),
            poisoned=bool(s.poison),
        )
        self._unlock()
        return result


cdef object storage_error(int error, str where):
    # A failed call on a file.
    return StorageError(f"{where}: {os.strerror(-error)}", errno=-error)
