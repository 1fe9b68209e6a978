from libc.stdint cimport uint64_t

from dragoman.queue.disk.files cimport Files
from dragoman.queue.engine.core cimport Core

cdef int open_store(Core core, str path, Files files, dict settings) except -1
cdef int replay_journal(Core core) except -1
cdef int touch_memory(Core core, uint64_t queues, uint64_t chunk_bytes) except -1
