from dragoman.queue.engine.core cimport Core

cdef int stop_threads(Core core) except -1
cdef int note_closed(Core core) except -1
cdef int let_go(Core core) except -1
