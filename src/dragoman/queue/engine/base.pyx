"""What a store holds while it is open: memory, files and the lock around them.

The lowest of the classes that make up ``engine.Engine``, each of which adds what is done with them.
Opening recovers what the directory holds; threads are the caller's to start and to wait for.

Invariants: nobody sleeps for the store's lock while holding the GIL; nothing that may run Python
code is called while the store's lock is held. Every public method is a *use*: it begins with
``enter`` (``with self._using()`` in Python), which refuses when the store is not open, and ends
with ``_leave``; memory and descriptors are let go of only when no use is left. The store's own
threads are none: they are waited for instead.
"""

cimport cython
import os
import threading

from dragoman.errors import StorageError, UsageError

from cpython.list cimport PyList_CheckExact
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.fcntl cimport O_RDWR

from dragoman.queue.disk.readahead cimport touching_end
from dragoman.queue.disk.files cimport Files
from dragoman.queue.write.journal cimport journal_end, journal_open, journal_run
from dragoman.queue.write.log cimport log_adapt, log_run
from dragoman.queue.format.meta cimport meta_closed, meta_flush, meta_opened
from dragoman.queue.recovery.scan cimport mend
from dragoman.queue.recovery.replay cimport recover
from dragoman.queue.memory.state cimport (
    BATCH, BLOCK_CHUNKS_MAX, CURSORS, DONE, GATHERED, NAME_MAX, OVERCOPY, REMOVED,
    RING_BYTES_MAX, SECTOR, SEGMENT_SLOTS, SPIN, Segment, Store, cond_init, cond_wait_ms, flag_set,
    hash_name, pthread_cond_broadcast, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock,
    spin_lock,
)
from dragoman.queue.memory.table cimport table_close, table_find, table_open, table_touch

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

# Blocks that wait for the disk may have so much, however little memory there is.
cdef uint64_t RING_LEAST = 1048576
# A frame of the journal may have so much, or an eighth of the journal, before puts wait.
cdef uint64_t FRAME_MOST = 33554432


cdef int name_slowly(object queue, const char** name, Py_ssize_t* n) except -1:
    """What ``name_of`` leaves over, and what is wrong."""
    if isinstance(queue, str):
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


cdef list listed(object values, str what):
    """The values as a list, the one that was given if it is one; ``what`` was expected."""
    if PyList_CheckExact(values):
        return <list>values
    try:
        values = iter(values)
    except TypeError:
        raise UsageError(f"{what}, not {type(values).__name__}") from None
    return list(values)


cdef object storage_error(int error, str where):
    """A failed call on a file."""
    return StorageError(f"{where}: {os.strerror(-error)}", errno=-error)


cdef bint set_freed(Store* s) noexcept nogil:
    s.freed = <uint32_t*>malloc(BATCH * BLOCK_CHUNKS_MAX * sizeof(uint32_t))
    return s.freed != NULL


@cython.no_gc_clear
cdef class Held:
    """A store's memory, files and lock, from opening to closing."""

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

        self.idle = threading.Event()

    def __dealloc__(self):
        if self.state != FOREIGN:
            self._release()

    def __reduce__(self):
        raise TypeError(f"{type(self).__name__} cannot be pickled: pass its path instead")

    @property
    def open(self):
        """Whether it can be called."""
        return self.state == OPEN

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
        uint64_t alignment, int durability, uint64_t interval_ms, uint64_t memory_bytes, uint64_t
        cache_bytes, uint64_t journal_bytes, uint64_t journal_file_bytes, bint read_only,
    ):
        """Recover what ``files.directory`` holds; ``path`` of it is for messages.

        Reads with O_DIRECT are aligned to ``alignment``, 0: there are none. Threads are the
        caller's to start (``_run_*``).
        """
        cdef Store* s = &self.s
        cdef uint64_t slots = 1024
        cdef int error
        self.files = files
        self.path = path
        s.disk = &files.disk
        memcpy(s.identity, <char*>identity, 16)
        s.direct = alignment != 0
        s.read_align = alignment if alignment else 512
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
        # What waits for a disk that takes nothing is of the memory too.
        s.table.ring_bytes_max = max(RING_LEAST, min(RING_BYTES_MAX, memory_bytes // 4))
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
            s.meta_fd = s.disk.open(s.disk, b"META", O_RDWR)
            if s.meta_fd < 0:
                raise storage_error(s.meta_fd, f"{path}/META")
            for name in os.listdir(files.directory):
                if name.endswith(".new"):
                    files.unlink(name)  # of a rewriting that was cut short
            # Names too: what was renamed or made may be so in the page cache only.
            error = s.disk.sync_directory(s.disk)
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
                self._sync_file(f"{number:010}.jnl")
            if self.recovery.unsynced:
                self._sync_file(f"{self.recovery.unsynced:010}.seg")
            s.synced = self.recovery.evidence
            error = mend(s, self.recovery)
            if error < 0:
                raise storage_error(error, f"{path}: the last segment")
            s.writer_alive = True
            s.journal_alive = True
        self.state = OPEN

    cdef int _sync_file(self, str name, int64_t length=-1) except -1:
        # What was found is on the disk, and what is behind ``length`` gone from it.
        cdef Store* s = &self.s
        cdef bytes encoded = os.fsencode(name)
        cdef int fd = s.disk.open(s.disk, <char*>encoded, O_RDWR)
        cdef int error = fd
        if fd >= 0:
            error = s.disk.truncate(s.disk, fd, length) if length >= 0 else 0
            if error == 0:
                error = s.disk.sync(s.disk, fd)
            s.disk.close(s.disk, fd)
        if error < 0:
            raise storage_error(error, f"{self.path}/{name}")
        return 0

    def _replay(self):
        """The journal into memory; the writer's thread must be running unless read-only."""
        cdef Store* s = &self.s
        self._lock()
        log_adapt(s)
        self._unlock()
        self.recovery.replay()
        if not s.read_only:
            for number, end in self.recovery.cuts:
                # Or what is written from now on would seem to follow it.
                self._sync_file(f"{number:010}.jnl", end)
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

    def _threads_part(self):
        """What its threads run."""
        cdef Part part = Part.__new__(Part)
        part.s = &self.s
        return part

    # Uses.

    cdef int _refuse(self) except -1:
        if self.state == FOREIGN:
            raise UsageError(
                "the store was opened by the process that this one was forked from: open it anew"
            )
        if self.state != OPEN:
            raise UsageError("the store is closed")
        raise UsageError("the store was opened read-only")

    cdef void _leave(self, Use* use) noexcept:
        # With the GIL held.
        if use.before != NULL:
            use.before.after = use.after
        else:
            self.uses = use.after
        if use.after != NULL:
            use.after.before = use.before
        if self.uses == NULL and self.state == CLOSING:
            self.idle.set()

    def _check(self):
        """Raise UsageError when it cannot be called."""
        if self.state != OPEN:
            self._refuse()

    def _using(self, bint writing=False):
        """A context in which the store stays open. Raises UsageError when it cannot be called."""
        cdef Using using = Using.__new__(Using)
        using.store = self
        using.writing = writing
        return using

    def _close_uses(self):
        """Refuse calls from now on, and wait for those that are under way.

        Raises UsageError when one of them is this thread's own, which would wait for itself.
        """
        cdef Use* use = self.uses
        cdef unsigned long thread = PyThread_get_thread_ident()
        while use != NULL:
            if use.thread == thread:
                raise UsageError("a store cannot be closed from within a call of it")
            use = use.after
        self.state = CLOSING
        flag_set(&self.s.leaving, 1)
        while self.uses != NULL:
            self.idle.wait()
            self.idle.clear()

    def _disown(self):
        """After a fork, in the child: nothing here is this process's."""
        cdef Store* s = &self.s
        cdef uint32_t i
        if self.state == FOREIGN or (self.state == CLOSED and s.segments == NULL):
            return  # the numbers of descriptors may be those of others by now
        self.state = FOREIGN
        if s.disk == NULL or s.disk.context != NULL:
            return  # what the descriptors of a double are is for it to say
        if s.meta_fd >= 0:
            s.disk.close(s.disk, s.meta_fd)
        if s.journal_fd >= 0:
            s.disk.close(s.disk, s.journal_fd)
        for i in range(s.slots_top):
            if s.segments[i].fd >= 0 and s.segments[i].state:
                s.disk.close(s.disk, s.segments[i].fd)

    cdef void _lock(self) noexcept:
        # With the GIL held; after a microsecond or two it is given up rather than waited with.
        if not spin_lock(&self.s.lock, SPIN):
            with nogil:
                pthread_mutex_lock(&self.s.lock)

    cdef void _unlock(self) noexcept nogil:
        pthread_mutex_unlock(&self.s.lock)

    cdef object _failure(self):
        # Why a put or sync could not be done.
        cdef Store* s = &self.s
        if s.poison == REMOVED:
            return StorageError(
                f"{self.path}: the store's files were removed or replaced under it, nothing is"
                " acknowledged any more",
                errno=REMOVED,
            )
        if s.poison:
            return storage_error(
                -s.poison, f"{self.path}: a sync has failed, nothing is acknowledged any more"
            )
        if s.journal_error:
            return storage_error(-s.journal_error, f"{self.path}: the journal cannot be written")
        if s.log_error:
            return storage_error(-s.log_error, f"{self.path}: the log cannot be written")
        if s.closing or self.state != OPEN:
            return UsageError("the store is closed")
        return StorageError(f"{self.path}: the store has stopped writing")

    def _poison_removed(self):
        """The files have no names any more: nothing is acknowledged from now on."""
        cdef Store* s = &self.s
        self._lock()
        if not s.poison:
            s.poison = REMOVED
            pthread_cond_broadcast(&s.durable)
            pthread_cond_broadcast(&s.space)
        self._unlock()

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

    # Closing.

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
        # After the threads have ended, and all uses.
        self.state = CLOSED
        self.contexts.clear()
        self._release()


cdef class Using:
    """A use of the store by a method that is written in Python."""

    def __enter__(self):
        enter(self.store, &self.use, self.writing)

    def __exit__(self, *_):
        self.store._leave(&self.use)


cdef class Part:
    """What a store's own threads have of it, so that it can be let go while they run: whoever lets
    go of the store waits for them first."""

    def write_log(self):
        """The log's thread."""
        with nogil:
            log_run(self.s)

    def write_journal(self):
        """The journal's thread."""
        with nogil:
            journal_run(self.s)

    def await_upkeep(self, uint64_t ms):
        """Wait that long, or until the journal needs work (True) or the store closes."""
        cdef Store* s = self.s
        cdef bint due
        with nogil:
            pthread_mutex_lock(&s.lock)
            if not s.closing and not s.journal_due:
                cond_wait_ms(&s.upkeep, &s.lock, ms)
            due = s.journal_due
            s.journal_due = False
            pthread_mutex_unlock(&s.lock)
        return due
