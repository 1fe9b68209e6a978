from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Bytes, Store


cdef enum:
    RUN_MOST = 8  # segments at once: each holds a descriptor
    DAMAGED = 1  # beside negative errnos
    STOPPED = 2
    OUT_BYTES = 1048576


cdef struct Living:
    # A block that was read.
    uint64_t first
    uint32_t count
    uint32_t queue
    uint32_t length
    uint32_t time_s
    uint32_t check
    uint32_t flags
    uint64_t at  # of its payload in the batch


cdef struct Run:
    Store* store
    int slots[8]
    int fds[8]
    uint32_t count
    uint32_t slot  # of the new segment
    uint64_t number
    int fd
    bint renamed  # the new segment has its name
    # What is being written.
    char* out
    uint64_t out_start
    uint64_t out_fill
    Bytes directory
    uint32_t newest_s
    # What was read: payloads, and what they are.
    char* batch
    uint64_t batch_bytes
    uint64_t batch_fill
    Living* living
    uint64_t living_count
    uint64_t living_most
    char* window
    uint64_t window_bytes
    char* merged
    uint64_t merged_bytes
    # Not faster than this.
    uint64_t bytes_s
    uint64_t began_ms
    uint64_t moved


cdef int write_segment(Run* r) noexcept nogil
