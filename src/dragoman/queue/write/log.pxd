from dragoman.queue.memory.state cimport Store


cdef void log_adapt(Store* s) noexcept nogil
cdef void log_run(Store* s) noexcept nogil
cdef void log_published(Store* s) noexcept nogil
