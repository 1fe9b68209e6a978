from dragoman.queue.engine.core cimport Core


cdef class StoreThreads:
    cdef Core core
