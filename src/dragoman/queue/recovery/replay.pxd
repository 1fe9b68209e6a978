from dragoman.queue.memory.state cimport Store

cdef object recover(Store* s, object files, str path, bint repair)
