from libc.stdint cimport uint32_t, uint64_t

from dragoman.queue.engine.core cimport Core

cdef int sync_all(Core core) except -1
cdef int flush_log(Core core) except -1
cdef int note_position(Core core, uint32_t id, bytes group, uint64_t position) except -1
cdef int sync_meta(Core core, bint sync) except -1
