from dragoman.queue.recovery.findings cimport Recovery

cdef int read_segments(Recovery r, list numbers) except -1
