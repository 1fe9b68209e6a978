"""Threads that run ahead of opening: one reads on in a file, one takes memory from the system.

Called by recovery. Most of the time of opening a store after a crash went into zeroing the pages
of its tails, and into waiting for the disk between two stretches of the journal; both now happen
beside the replay. The threads know nothing of Python and end with ``*_end``.

Invariant: between ``reading_begin`` and ``reading_end`` the buffer is the thread's.
"""

from libc.stdint cimport int64_t, uint64_t

cdef extern from "pthread.h" nogil:
    int pthread_create(pthread_t*, void*, void* (*)(void*) noexcept nogil, void*)
    int pthread_join(pthread_t, void**)

cdef extern from *:
    """
    #include <sys/mman.h>
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    /* Another thread sets and looks at it. */
    #define dragoman_ahead_flag(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define dragoman_ahead_set(p, x) __atomic_store_n((p), (x), __ATOMIC_RELAXED)
    """
    int flag "dragoman_ahead_flag"(int*) nogil
    void flag_set "dragoman_ahead_set"(int*, int) nogil
    int MADV_POPULATE_WRITE
    int madvise(void*, size_t, int) nogil

# Between two looks at whether it is enough.
cdef uint64_t STEP = 16777216


cdef void* _read(void* context) noexcept nogil:
    cdef Reading* r = <Reading*>context
    r.got = r.disk.read(r.disk, r.fd, r.into, r.bytes, r.offset)
    return NULL


cdef bint reading_begin(Reading* r) noexcept nogil:
    """Read as the fields say; False where that cannot be done beside."""
    # Files of the tests are Python's and are read in turn.
    if r.disk.context != NULL:
        return False
    r.running = pthread_create(&r.thread, NULL, _read, r) == 0
    return r.running


cdef int64_t reading_end(Reading* r) noexcept nogil:
    """Wait for the read; what it returned."""
    pthread_join(r.thread, NULL)
    r.running = False
    return r.got


cdef void* _touch(void* context) noexcept nogil:
    cdef Touching* t = <Touching*>context
    cdef uint64_t done = 0
    while done < t.bytes and not flag(&t.enough):
        # A kernel without it leaves the pages to whoever comes first.
        if madvise(t.at + done, min(STEP, t.bytes - done), MADV_POPULATE_WRITE) != 0:
            break
        done += STEP
    return NULL


cdef bint touching_begin(Touching* t, void* at, uint64_t bytes) noexcept nogil:
    """Begin with ``bytes`` bytes at ``at``, which begins a page; False if it cannot be done."""
    t.at = <char*>at
    t.bytes = bytes & ~<uint64_t>4095
    t.enough = 0
    t.running = pthread_create(&t.thread, NULL, _touch, t) == 0
    return t.running


cdef void touching_end(Touching* t) noexcept nogil:
    """What has been taken is enough."""
    if t.running:
        flag_set(&t.enough, 1)
        pthread_join(t.thread, NULL)
        t.running = False
