# The structures that the engine's modules share, and what is small enough to be inline.
# docs/architecture.md ("The queue store") says how they play together.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp

from dragoman.queue.disk.readahead cimport Touching
from dragoman.queue.disk.files cimport Disk


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
    #ifndef DRAGOMAN_QUEUE_STATE
    #define DRAGOMAN_QUEUE_STATE
    #include <stdint.h>
    #include <string.h>
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

    /* Short names are compared in two words, which may overlap. */
    static inline int dragoman_same(const char *a, const char *b, size_t n) {
        uint64_t x, y, z, w;
        if (n < 8 || n > 16) return memcmp(a, b, n) == 0;
        memcpy(&x, a, 8); memcpy(&y, b, 8);
        memcpy(&z, a + n - 8, 8); memcpy(&w, b + n - 8, 8);
        return ((x ^ y) | (z ^ w)) == 0;
    }
    /* Tries so often, with pauses of some 40 ns, before it sleeps: most hold the lock for less than
       falling asleep takes. */
    static inline int dragoman_spin(pthread_mutex_t *m, int tries) {
        while (tries-- > 0) {
            if (pthread_mutex_trylock(m) == 0) return 1;
            dragoman_relax();
        }
        return 0;
    }

    static inline uint64_t dragoman_mix(uint64_t a, uint64_t b) {
        unsigned __int128 r = (unsigned __int128)a * b;
        return (uint64_t)r ^ (uint64_t)(r >> 64);
    }
    /* A seeded hash of names: multiplications that fold 64 by 64 bits. */
    static inline uint64_t dragoman_hash(const char *p, size_t n, uint64_t seed) {
        const uint64_t k1 = 0x9FB21C651E98DF25ull, k2 = 0xD6E8FEB86659FD93ull;
        uint64_t a = 0, b = 0, h = seed ^ (n * k1);
        while (n > 16) {
            memcpy(&a, p, 8); memcpy(&b, p + 8, 8);
            h = dragoman_mix(a ^ k1 ^ h, b ^ k2);
            p += 16; n -= 16;
        }
        a = b = 0;
        if (n >= 8) { memcpy(&a, p, 8); memcpy(&b, p + n - 8, 8); }
        else if (n >= 4) {
            uint32_t x, y;
            memcpy(&x, p, 4); memcpy(&y, p + n - 4, 4); a = x; b = y;
        } else if (n) {
            a = ((uint64_t)(uint8_t)p[0] << 16) | ((uint64_t)(uint8_t)p[n >> 1] << 8)
                | (uint8_t)p[n - 1];
        }
        return dragoman_mix(dragoman_mix(a ^ k2 ^ h, b ^ k1) ^ n, k2 ^ seed);
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
    bint same_bytes "dragoman_same"(const char*, const char*, size_t) nogil
    bint spin_lock "dragoman_spin"(pthread_mutex_t*, int tries) nogil
    uint64_t hash_name "dragoman_hash"(const char*, size_t, uint64_t) nogil
    uint64_t monotonic_ms "dragoman_monotonic_ms"() nogil
    uint32_t unix_s "dragoman_unix_s"() nogil
    void cond_init "dragoman_cond_init"(pthread_cond_t*) nogil
    int cond_wait_ms "dragoman_cond_wait_ms"(pthread_cond_t*, pthread_mutex_t*, uint64_t) nogil


cdef enum:
    CHUNK = 256
    CHUNK_DATA = 252
    INLINE_NAME = 16
    NAME_MAX = 65536
    MESSAGE_MAX = 16777216
    # A record that is longer becomes a block of its own at once.
    TAIL_RECORD_MAX = 60000
    BLOCK_MESSAGES_MAX = 65535
    BLOCK_LEAST = 512
    BLOCK_MOST = 65536
    RING = 16384
    # Bytes that may wait for the log's writer before puts wait.
    RING_BYTES_MAX = 134217728
    BLOCK_HEADER = 32
    SEGMENT_HEADER = 64
    DIRECTORY_ENTRY = 24
    SEGMENT_SLOTS = 8192
    GATHERED = 4194304
    # So many bytes behind a buffer may be written without meaning.
    OVERCOPY = 64
    SECTOR = 4096
    FILE_NAME = 32  # bytes that the name of a file takes
    REMOVED = 116  # ESTALE, as poison: what was synced has no name any more
    CURSORS = 65536
    # Chunks that go back to the system at once: 16 MiB, or a sixteenth where there are few.
    RETIRE = 65536
    RETIRE_LEAST = 1024
    BATCH = 128  # blocks that the writer takes from the ring at once
    BLOCK_CHUNKS_MAX = 264
    # Tries for the lock before sleeping: with the GIL held, and without.
    SPIN = 40
    SPIN_WRITER = 1000
    GROUP = 63  # entries of the index between two bases
    MIXED = 0  # ``uniform`` of a tail whose messages differ in length
    QUEUE_ALIVE = 1
    QUEUE_DIRTY = 2
    KIND_MESSAGES = 0
    KIND_PADDING = 1
    KIND_MARK = 2
    KIND_DIRECTORY = 3
    KIND_TRAILER = 4
    FLAG_UNIFORM = 1
    BLOCK_MAGIC = 0x5144
    # What the engine's functions return.
    DONE = 0
    WAIT = 1
    NO_MEMORY = 2
    TOO_MANY = 3

# Entry of the index: 40 bits of place, 8 of size (an upper bound), 16 of messages. A place is
# segment slot << 26 | offset / 16; or this bit and a place in the ring; or LOST.
cdef enum:
    ENTRY_PLACE_BITS = 40
    PLACE_SLOT_SHIFT = 26

cdef inline uint64_t PLACE_PENDING() noexcept nogil:
    return 1ULL << 39

cdef inline uint64_t PLACE_LOST() noexcept nogil:
    return (1ULL << 40) - 1


cdef struct Chunk:
    uint32_t next
    char data[252]


cdef struct Queue:
    # 64 bytes: one cache line each.
    uint64_t next  # the offset that the next message gets
    uint64_t* index  # see table.pyx; NULL while the queue has neither blocks nor a trim
    uint32_t entries
    uint32_t hash
    uint32_t head  # first and last chunk of the tail, 0 for none
    uint32_t cur
    uint32_t bytes  # of the tail's records
    uint16_t count
    uint16_t uniform  # length of all the tail's messages + 1, or MIXED
    uint8_t used  # of the last chunk's data
    uint8_t flags
    uint16_t name_length  # less one
    uint32_t birth  # journal file that holds the tail's first message, 0 for none
    char name[16]  # or a pointer, where the name is longer


cdef struct Pending:
    # A tail on its way to the log.
    uint32_t queue
    uint32_t head
    uint32_t bytes
    uint16_t count
    uint16_t uniform
    uint64_t first
    uint64_t block  # number of its entry, counted over the queue's life
    char* big  # instead of chunks: one message of ``bytes`` bytes, owned
    uint64_t place  # by the writer, once gathered
    uint32_t length  # of the payload


cdef struct Bytes:
    # A growing buffer.
    char* data
    size_t length
    size_t capacity


cdef struct Table:
    Queue* queues
    uint32_t ids  # the next id; 0 is none
    uint32_t ids_max
    uint32_t alive
    uint64_t* slots
    uint64_t mask
    uint64_t seed
    Chunk* chunks
    uint32_t chunks_top
    uint32_t chunks_max
    uint32_t* free
    uint32_t free_count
    uint32_t retiring  # chunks from this one on are on their way out; 0: none
    uint32_t* retired  # those that are out already
    uint32_t retired_count
    uint64_t touched  # bytes of chunks that were taken from the system ahead of their use
    uint64_t chunks_used
    uint64_t index_bytes
    uint64_t name_bytes
    uint32_t limit  # the block size now
    uint32_t run  # more than 0: lately the queues came in the order in which they were made
    uint32_t last  # ids of the last two puts that did not follow each other
    uint32_t last_but_one
    uint64_t messages  # put since opening, and found by it
    uint64_t message_bytes
    Pending* ring
    uint64_t ring_size
    uint64_t ring_mask
    uint64_t ring_bytes_max
    uint64_t ring_head
    uint64_t ring_tail
    uint64_t ring_bytes


cdef struct Segment:
    uint64_t number
    uint64_t serial  # of this use of the slot: a segment that was compacted keeps its number
    uint64_t length
    uint64_t live  # bytes that blocks which queues still have take, by ``block_cost``
    int fd
    uint32_t readers
    uint32_t used
    uint32_t newest_s
    uint8_t state  # 0 free, 1 sealed, 2 being written, 3 to be removed, 4 being compacted,
    # 5 sealed, but queues do not know yet of its last blocks, 6 being made by compaction
    bint aside  # damaged: never compacted


cdef struct Store:
    pthread_mutex_t lock  # over everything but what a comment gives to one thread
    int wanted  # the log's writer waits for the lock
    pthread_cond_t work  # the log's writer has something to do
    pthread_cond_t space  # the ring has room, or the writer is done
    pthread_cond_t journal_work
    pthread_cond_t durable
    pthread_cond_t upkeep  # the journal is near its bound, or the store closes
    Table table
    Disk* disk
    uint8_t identity[16]
    bint direct  # O_DIRECT is taken
    uint64_t read_align
    bint read_only
    bint closing
    int leaving  # the store closes as soon as the calls under way have ended
    int poison  # errno of the sync that failed, once and for all
    int log_error  # errno of the log's last write, 0 when it works again
    int journal_error
    # The log.
    uint64_t segment_bytes
    Segment* segments
    uint32_t slots_top
    uint32_t open_files
    uint32_t used_clock
    uint64_t serials
    int slot  # being written, -1 for none
    uint64_t number  # of the newest segment
    char* gather  # GATHERED bytes
    uint64_t gather_start  # offset in the segment of gather[0]
    uint64_t gather_fill
    bint mark_due
    Bytes directory
    uint32_t* freed  # chunks of the blocks that were gathered, to be given back
    uint32_t freed_count
    uint64_t synced  # position: segment number << 32 | offset
    uint64_t flush_asked  # by counting: the writer pads and writes what it has
    uint64_t flush_done
    bint writer_alive
    uint64_t memory  # what all of it may use
    uint64_t tail_bytes_max
    uint64_t swept  # id from which the next eviction starts
    uint64_t log_written
    uint64_t blocks_written
    uint64_t block_messages
    uint64_t blocks_read
    uint64_t bytes_read
    uint64_t cache_hits
    uint64_t swept_blocks
    uint64_t compactions
    uint64_t compacted_written
    # META.
    pthread_mutex_t meta_lock  # held while META is written; taken before ``lock``
    int meta_fd
    Bytes meta
    uint64_t meta_start  # offset in the file of meta.data[0]
    uint64_t meta_synced
    uint64_t meta_written
    uint64_t meta_generation
    uint64_t meta_dead  # bytes of records that a rewritten META would not have, about
    uint64_t meta_rewrites
    # The journal.
    int durability  # 0 none, 1 interval, 2 always
    uint64_t interval_ms
    Bytes frame  # being filled; begins with the frame's header
    Bytes frame_out  # being written, by the journal's thread
    uint64_t frame_most  # bytes of a frame from which on puts wait
    uint32_t frame_entries
    uint64_t frame_number  # of the one being filled
    uint64_t frame_synced  # all up to this one are on the disk
    uint64_t frame_wanted  # somebody waits for this one
    uint64_t frame_written
    uint32_t journal_file
    uint32_t journal_oldest
    uint32_t journal_strays[16]  # numbers between that are somebody else's files
    uint32_t journal_strays_count
    int journal_fd
    uint64_t journal_offset
    uint64_t journal_file_bytes
    uint64_t journal_bytes_max
    bint journal_alive
    bint journal_due  # old tails should leave it soon
    bint journal_full  # puts wait until they have
    uint64_t journal_written
    uint64_t syncs
    # Read blocks: a ring of bytes, overwritten in turn, and a hash of where blocks lie in it.
    char* cache
    uint64_t cache_bytes
    uint64_t cache_head
    uint64_t* cache_slots  # pairs: key, offset
    uint64_t cache_mask
    # Where the last reads of queues ended, by the low bits of the queue's id: who goes on there
    # reads in order. NULL without a cache.
    uint64_t* cursors
    Touching touching  # while the store is being opened


cdef inline uint32_t varint_size(uint64_t n) noexcept nogil:
    cdef uint32_t size = 1
    while n >= 128:
        n >>= 7
        size += 1
    return size


cdef inline uint32_t varint_put(char* into, uint64_t n) noexcept nogil:
    cdef uint32_t size = 0
    while n >= 128:
        into[size] = <char>((n & 127) | 128)
        n >>= 7
        size += 1
    into[size] = <char>n
    return size + 1


cdef inline int varint_get(
    const char* data, uint64_t length, uint64_t* at, uint64_t* value
) noexcept nogil:
    # -1 when it does not end within the bytes, or in 5.
    cdef uint64_t result = 0
    cdef uint32_t shift = 0
    cdef uint8_t byte
    while at[0] < length and shift < 35:
        byte = <uint8_t>data[at[0]]
        at[0] += 1
        result |= <uint64_t>(byte & 127) << shift
        if byte < 128:
            value[0] = result
            return 0
        shift += 7
    return -1


cdef inline uint64_t size_of_code(uint32_t code) noexcept nogil:
    # 64 bytes apart up to 1 KiB, then sixteen steps to each doubling.
    if code < 16:
        return (<uint64_t>code + 1) * 64
    return (<uint64_t>((code & 15) + 17) << ((code >> 4) - 1)) * 64


cdef inline uint32_t code_of_size(uint64_t size) noexcept nogil:
    # The smallest code whose size holds ``size``.
    cdef uint64_t units = (size + 63) // 64
    cdef uint32_t shift = 0
    if units == 0:
        units = 1
    if units <= 16:
        return <uint32_t>(units - 1)
    while ((units + (1ULL << shift) - 1) >> shift) > 32:
        shift += 1
    return ((shift + 1) << 4) + <uint32_t>(((units + (1ULL << shift) - 1) >> shift) - 17)


cdef inline uint64_t block_cost(uint32_t code) noexcept nogil:
    # What a block takes of a segment: header, payload, its entry of the directory.
    return size_of_code(code) + BLOCK_HEADER + DIRECTORY_ENTRY


cdef inline uint64_t entry_of(uint64_t place, uint32_t code, uint32_t count) noexcept nogil:
    return (place << 24) | (<uint64_t>code << 16) | count


cdef inline uint64_t entry_place(uint64_t entry) noexcept nogil:
    return entry >> 24


cdef inline uint32_t entry_code(uint64_t entry) noexcept nogil:
    return <uint32_t>(entry >> 16) & 255


cdef inline uint32_t entry_count(uint64_t entry) noexcept nogil:
    return <uint32_t>entry & 65535


cdef inline const char* queue_name(Queue* q) noexcept nogil:
    if <uint32_t>q.name_length + 1 <= INLINE_NAME:
        return q.name
    return (<char**>q.name)[0]


cdef inline uint32_t queue_name_length(Queue* q) noexcept nogil:
    return <uint32_t>q.name_length + 1


cdef inline uint32_t entry_word(uint32_t entry) noexcept nogil:
    # Where an entry of the index stands; the word before the first of each group is its base.
    return 2 + (entry // GROUP) * (GROUP + 1) + 1 + entry % GROUP


cdef inline bint queue_named(Queue* q, const char* name, uint32_t n) noexcept nogil:
    return (
        q.flags & QUEUE_ALIVE and queue_name_length(q) == n and same_bytes(queue_name(q), name, n)
    )


cdef inline uint64_t queue_first(Queue* q) noexcept nogil:
    return q.index[0] if q.index != NULL else 0


cdef inline uint64_t tail_first(Queue* q) noexcept nogil:
    return q.next - q.count


cdef inline uint64_t align_up(uint64_t n, uint64_t to) noexcept nogil:
    return (n + to - 1) & ~(to - 1)
