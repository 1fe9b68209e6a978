from dragoman.queue.recovery.findings cimport Recovery

cdef int settle(Recovery r) except -1
