from dragoman.queue.memory.state cimport Store

cdef object rewrite(
    Store* s, object files, str path, object committing, dict groups, list lost, list missing
)
