from dragoman.queue.recovery.findings cimport Recovery

cdef int read_meta(Recovery r) except -1
