# Locks, flags that threads share, clocks, and hints to the processor.

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct pthread_mutexattr_t:
        pass
    ctypedef struct pthread_condattr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t*, const pthread_mutexattr_t*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_trylock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_condattr_init(pthread_condattr_t*)
    int pthread_condattr_setclock(pthread_condattr_t*, int)
    int pthread_cond_init(pthread_cond_t*, const pthread_condattr_t*)
    int pthread_cond_destroy(pthread_cond_t*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_signal(pthread_cond_t*)
    int pthread_cond_broadcast(pthread_cond_t*)

cdef extern from *:
    """
    #ifndef DRAGOMAN_QUEUE_THREADS
    #define DRAGOMAN_QUEUE_THREADS
    #include <stdint.h>
    #include <time.h>
    #include <pthread.h>
    /* gcc takes a function that only prefetches for one without effect and drops the call. */
    #if defined(__x86_64__)
    #define dragoman_prefetch(p) __asm__ volatile("prefetcht0 %0" : : "m"(*(const char *)(p)))
    #else
    #define dragoman_prefetch(p) __builtin_prefetch((p), 1, 3)
    #endif
    #define dragoman_likely(x) __builtin_expect(!!(x), 1)
    #if defined(__x86_64__)
    #define dragoman_relax() __builtin_ia32_pause()
    #else
    #define dragoman_relax() __asm__ volatile("" ::: "memory")
    #endif
    /* Another thread sets and looks at it. */
    #define dragoman_flag(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define dragoman_flag_set(p, x) __atomic_store_n((p), (x), __ATOMIC_RELAXED)
    /* Tries so often, with pauses of some 40 ns, before it sleeps: most hold the lock for less than
       falling asleep takes. */
    static inline int dragoman_spin(pthread_mutex_t *m, int tries) {
        while (tries-- > 0) {
            if (pthread_mutex_trylock(m) == 0) return 1;
            dragoman_relax();
        }
        return 0;
    }
    static inline uint64_t dragoman_monotonic_ms(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    }
    static inline uint32_t dragoman_unix_s(void) {
        struct timespec t; clock_gettime(CLOCK_REALTIME_COARSE, &t);
        return (uint32_t)t.tv_sec;
    }
    static inline void dragoman_cond_init(pthread_cond_t *c) {
        pthread_condattr_t a;
        pthread_condattr_init(&a);
        pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
        pthread_cond_init(c, &a);
    }
    /* Waits at most ms milliseconds. */
    static inline int dragoman_cond_wait_ms(pthread_cond_t *c, pthread_mutex_t *m, uint64_t ms) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += ms / 1000; t.tv_nsec += (ms % 1000) * 1000000;
        if (t.tv_nsec >= 1000000000) { t.tv_sec++; t.tv_nsec -= 1000000000; }
        return pthread_cond_timedwait(c, m, &t);
    }
    #endif
    """
    void prefetch "dragoman_prefetch"(const void*) nogil
    bint likely "dragoman_likely"(bint) nogil
    void relax "dragoman_relax"() nogil
    int flag "dragoman_flag"(int*) nogil
    void flag_set "dragoman_flag_set"(int*, int) nogil
    bint spin_lock "dragoman_spin"(pthread_mutex_t*, int tries) nogil
    uint64_t monotonic_ms "dragoman_monotonic_ms"() nogil
    uint32_t unix_s "dragoman_unix_s"() nogil
    void cond_init "dragoman_cond_init"(pthread_cond_t*) nogil
    int cond_wait_ms "dragoman_cond_wait_ms"(pthread_cond_t*, pthread_mutex_t*, uint64_t) nogil


cdef enum:
    # Tries for the lock before sleeping: with the GIL held, and without.
    SPIN = 40
    SPIN_WRITER = 1000
