from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.engine.core cimport Core

cdef int keep_newest(Core core, uint64_t most) except -1
cdef tuple oldest_segment(Core core)
cdef int drop_segment(Core core, int slot) except -1
cdef uint64_t remove_dead(Core core) except? 0xFFFFFFFFFFFFFFFF
cdef object compact_segments(
    Core core, object maintaining, double below, uint64_t before, uint64_t bytes_s,
    uint64_t memory_bytes
)
cdef int reserve_meta(Core core) except -1
cdef object rewrite_meta(Core core, object committing, dict groups)
cdef list segments_of(Core core)
cdef list verify_segment(Core core, int slot, object progress)
cdef int note_lost(Core core, uint32_t id, uint64_t first, uint64_t messages) except -1
cdef int note_dropped(Core core, uint64_t number) except -1
cdef int detach_tails(Core core) except -1
cdef int leave_journal(Core core) except -1
cdef int collect_journal(Core core) except -1
