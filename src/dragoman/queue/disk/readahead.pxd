from libc.stdint cimport int64_t, uint64_t

from dragoman.queue.disk.files cimport Disk

cdef extern from "pthread.h" nogil:
    ctypedef unsigned long pthread_t


cdef struct Reading:
    # One read that a thread of its own does.
    pthread_t thread
    bint running
    Disk* disk
    int fd
    char* into
    uint64_t bytes
    uint64_t offset
    int64_t got


cdef struct Touching:
    # Memory that a thread of its own takes from the system.
    pthread_t thread
    bint running
    int enough
    char* at
    uint64_t bytes


cdef bint reading_begin(Reading* r) noexcept nogil
cdef int64_t reading_end(Reading* r) noexcept nogil
cdef bint touching_begin(Touching* t, void* at, uint64_t bytes) noexcept nogil
cdef void touching_end(Touching* t) noexcept nogil
