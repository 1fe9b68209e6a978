from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Bytes, Store


cdef struct Stray:
    # A block that did not join its queue's end when it was met.
    uint32_t queue
    uint32_t count
    uint64_t first
    uint64_t entry
    uint64_t best  # messages that can be had from this one on
    uint64_t next  # the number of the one to go on with


cdef class Recovery:
    cdef Store* s
    cdef str path
    cdef bytes identity
    cdef readonly list damage
    cdef readonly dict groups  # id -> {group: position}
    cdef dict worked  # (id, WORK and a group) -> the name in groups that keeps what it needs
    cdef readonly list known_lost  # (id, first, messages) that a repair gave up
    cdef readonly list dropped  # (first, end) of numbers of segments that were removed
    cdef readonly list missing  # numbers of segments that should be there
    cdef readonly uint64_t generation  # of META
    cdef readonly uint64_t meta_end
    cdef uint64_t meta_base
    cdef readonly uint64_t meta_dead
    cdef readonly uint32_t ids  # that META knows of
    cdef readonly uint64_t evidence  # synced position by journal and META
    cdef dict meta_evidence  # generation -> synced length, by the journal
    cdef readonly bint in_order  # the store was closed so
    cdef uint64_t closed_frame  # 0 unless the store was closed in order
    cdef Bytes strays
    cdef bint gaps
    cdef Bytes apart  # (queue id, end) of entries that did not join
    cdef object unsealed  # (slot, number, end, entries) of the last segment
    cdef readonly uint64_t unsynced  # the last segment, sealed, but nothing says that durably; or 0
    cdef readonly bint meta_torn  # META has an end that is to be cut
    cdef readonly list journals
    cdef readonly uint64_t frame_last
    cdef readonly list beyond  # (id, group, length) of positions that were beyond their queue's end
    cdef readonly list cuts  # (number, length) of journal files of which the end is torn
    cdef readonly bint stale  # entries were left out; they must not join later
    cdef readonly uint64_t orphans


cdef int block_found(
    Recovery r, int slot, uint64_t first, uint32_t count, uint32_t queue, uint64_t place16,
    uint32_t length, uint32_t time_s
) except -1
cdef int gap_found(Recovery r, uint32_t queue, uint64_t to) except -1
