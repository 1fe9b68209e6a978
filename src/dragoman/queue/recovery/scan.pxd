from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.memory.state cimport Bytes, Store
from dragoman.queue.format.window cimport Window


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

    cdef int read_meta(self) except -1
    cdef uint64_t _next_record(self, Window w, uint64_t at) except? 0
    cdef uint64_t _marks(self, Window w, uint64_t at) except? 0
    cdef char* _record(self, Window w, uint64_t at) except? NULL
    cdef int _apply(self, int kind, const char* body, uint32_t n, uint64_t at) except -1
    cdef int _committed(self, uint32_t id, bytes name, uint64_t position) except -1
    cdef int block(self, int slot, uint64_t first, uint32_t count, uint32_t queue,
        uint64_t place16, uint32_t length, uint32_t time_s) except -1
    cdef int _stray(self, uint32_t queue, uint64_t first, uint32_t count, uint64_t entry) except -1
    cdef int _gap(self, uint32_t queue, uint64_t to) except -1
    cdef int read_segments(self, list numbers) except -1
    cdef bint _directory(self, Window w, int slot, uint64_t number) except -1
    cdef int _scan(self, Window w, int slot, uint64_t number, bint last) except -1
    cdef int settle(self) except -1
    cdef int _rebuild(self, uint32_t id, const Stray* strays, uint64_t n) except -1


cdef int mend(Store* s, object recovery) except -1
