from dragoman.queue.memory.state cimport Store

cdef int mend(Store* s, object recovery) except? -1
