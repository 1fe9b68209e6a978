"""Opening a store: what the directory holds comes into memory, and damage of a crash is mended.

``engine.Engine`` calls ``open_store`` and, once the log's thread runs, ``replay_journal``. The
invariant: what was found is durable before anything is acknowledged that relies on it.
"""

import os

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, malloc
from libc.string cimport memcpy
from posix.fcntl cimport O_RDWR

from dragoman.queue.disk.files cimport Files
from dragoman.queue.engine.core cimport OPEN, Core, storage_error
from dragoman.queue.format.meta cimport meta_flush, meta_opened
from dragoman.queue.memory.errors cimport DONE
from dragoman.queue.memory.layout cimport (
    BATCH, BLOCK_CHUNKS_MAX, CURSORS, GATHERED, OVERCOPY, RING_BYTES_MAX, SECTOR, SEGMENT_SLOTS,
)
from dragoman.queue.memory.state cimport Segment, Store
from dragoman.queue.memory.table cimport table_open, table_touch
from dragoman.queue.recovery.replay cimport recover
from dragoman.queue.recovery.torn_end cimport mend
from dragoman.queue.write.journal cimport journal_open
from dragoman.queue.write.log cimport log_adapt

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void**, size_t, size_t)

# Blocks that wait for the disk may have so much, however little memory there is.
cdef uint64_t RING_LEAST = 1048576
# A frame of the journal may have so much, or an eighth of the journal, before puts wait.
cdef uint64_t FRAME_MOST = 33554432


cdef int open_store(Core core, str path, Files files, dict settings) except -1:
    """Recover what ``files.directory`` holds; ``path`` of it is for messages."""
    cdef Store* s = &core.s
    core.files = files
    core.path = path
    s.disk = &files.disk
    settle(s, settings)
    take_memory(s, settings["cache_bytes"])
    core.recovery = recover(s, files, path, False)
    s.meta_start = core.recovery.meta_end
    s.meta_synced = s.meta_start
    s.meta_generation = core.recovery.generation
    s.meta_dead = core.recovery.meta_dead
    if not s.read_only:
        open_for_writing(core)
    core.state = OPEN
    return 0


cdef int settle(Store* s, dict settings) except -1:
    # What was asked for, as numbers. Reads with O_DIRECT are aligned to ``alignment``, 0: there
    # are none.
    cdef bytes identity = settings["identity"]
    cdef uint64_t alignment = settings["alignment"]
    memcpy(s.identity, <char*>identity, 16)
    s.direct = alignment != 0
    s.read_align = alignment if alignment else 512
    s.read_only = settings["read_only"]
    s.segment_bytes = settings["segment_bytes"]
    s.durability = settings["durability"]
    s.interval_ms = settings["interval_ms"]
    s.memory = settings["memory_bytes"]
    s.tail_bytes_max = s.memory
    s.journal_bytes_max = settings["journal_bytes"]
    s.frame_most = min(FRAME_MOST, s.journal_bytes_max // 8)
    s.journal_file_bytes = settings["journal_file_bytes"]
    return 0


cdef int take_memory(Store* s, uint64_t cache_bytes) except -1:
    s.segments = <Segment*>calloc(SEGMENT_SLOTS, sizeof(Segment))
    s.freed = <uint32_t*>malloc(BATCH * BLOCK_CHUNKS_MAX * sizeof(uint32_t))
    if (
        s.segments == NULL
        or s.freed == NULL
        or table_open(&s.table, int.from_bytes(os.urandom(8), "little")) != DONE
        or posix_memalign(<void**>&s.gather, SECTOR, GATHERED + OVERCOPY) != 0
        or journal_open(s) != DONE
    ):
        raise MemoryError("no memory for the store")
    if cache_bytes:
        take_cache(s, cache_bytes)
    if s.read_only:
        # Nothing leaves memory: what is replayed stays in the ring.
        s.table.ring_mask = 0xFFFFFFFF
        s.table.ring_bytes_max = 0xFFFFFFFFFFFFFFFF
    else:
        # What waits for a disk that takes nothing is of the memory too.
        s.table.ring_bytes_max = max(RING_LEAST, min(RING_BYTES_MAX, s.memory // 4))
    return 0


cdef int take_cache(Store* s, uint64_t cache_bytes) except -1:
    cdef uint64_t slots = 1024
    while slots < cache_bytes // 512:
        slots *= 2
    s.cache = <char*>malloc(cache_bytes)
    s.cache_slots = <uint64_t*>calloc(2 * slots, 8)
    s.cursors = <uint64_t*>calloc(CURSORS, 8)
    if s.cache == NULL or s.cache_slots == NULL or s.cursors == NULL:
        raise MemoryError("no memory for the cache")
    s.cache_mask = slots - 1
    s.cache_bytes = cache_bytes
    return 0


cdef int open_for_writing(Core core) except -1:
    # After recovery: what it found is made durable, and what a crash left half-done is put right.
    cdef Store* s = &core.s
    cdef int error
    recovery = core.recovery
    open_meta(core)
    for number in recovery.journals:
        # What was found may be in the page cache only; it is relied on from now on.
        sync_file(core, f"{number:010}.jnl")
    if recovery.unsynced:
        sync_file(core, f"{recovery.unsynced:010}.seg")
    s.synced = recovery.evidence
    error = mend(s, recovery)
    if error < 0:
        raise storage_error(error, f"{core.path}: the last segment")
    s.writer_alive = True
    s.journal_alive = True
    return 0


cdef int open_meta(Core core) except -1:
    cdef Store* s = &core.s
    cdef int error
    s.meta_fd = s.disk.open(s.disk, b"META", O_RDWR)
    if s.meta_fd < 0:
        raise storage_error(s.meta_fd, f"{core.path}/META")
    for name in os.listdir(core.files.directory):
        if name.endswith(".new"):
            core.files.unlink(name)  # of a rewriting that was cut short
    # Names too: what was renamed or made may be so in the page cache only.
    error = s.disk.sync_directory(s.disk)
    if error == 0 and core.recovery.meta_torn:
        error = s.disk.truncate(s.disk, s.meta_fd, s.meta_start)
        if error == 0:
            error = s.disk.sync(s.disk, s.meta_fd)
    s.meta_synced = 0
    if error == 0 and meta_opened(s) != DONE:
        raise MemoryError
    if error == 0:
        error = meta_flush(s, True)
    if error < 0:
        raise storage_error(error, f"{core.path}/META")
    return 0


cdef int sync_file(Core core, str name, int64_t length=-1) except -1:
    # What was found is on the disk, and what is behind ``length`` gone from it.
    cdef Store* s = &core.s
    cdef bytes encoded = os.fsencode(name)
    cdef int fd = s.disk.open(s.disk, <char*>encoded, O_RDWR)
    cdef int error = fd
    if fd >= 0:
        error = s.disk.truncate(s.disk, fd, length) if length >= 0 else 0
        if error == 0:
            error = s.disk.sync(s.disk, fd)
        s.disk.close(s.disk, fd)
    if error < 0:
        raise storage_error(error, f"{core.path}/{name}")
    return 0


cdef int replay_journal(Core core) except -1:
    """The journal into memory; the log's thread must be running unless read-only."""
    cdef Store* s = &core.s
    core.lock()
    log_adapt(s)
    core.unlock()
    core.recovery.replay()
    if not s.read_only:
        for number, end in core.recovery.cuts:
            # Or what is written from now on would seem to follow it.
            sync_file(core, f"{number:010}.jnl", end)
    s.frame_number = core.recovery.frame_last + 1
    s.frame_synced = s.frame_written = s.frame_number - 1
    journals = core.recovery.journals
    s.journal_oldest = journals[0] if journals else 1
    s.journal_file = max(journals) + 1 if journals else 1
    return 0


cdef int touch_memory(Core core, uint64_t queues, uint64_t chunk_bytes) except -1:
    """Take memory from the system ahead of its use."""
    cdef int result
    core.lock()
    result = table_touch(&core.s.table, queues, chunk_bytes)
    core.unlock()
    if result != DONE:
        raise MemoryError
    return 0
