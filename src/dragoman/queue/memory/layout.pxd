# How things are laid out in words and bytes: sizes, places, entries of the index, numbers of
# variable length, and the hash of names.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from *:
    """
    #ifndef DRAGOMAN_QUEUE_LAYOUT
    #define DRAGOMAN_QUEUE_LAYOUT
    #include <stdint.h>
    #include <string.h>
    /* Short names are compared in two words, which may overlap. */
    static inline int dragoman_same(const char *a, const char *b, size_t n) {
        uint64_t x, y, z, w;
        if (n < 8 || n > 16) return memcmp(a, b, n) == 0;
        memcpy(&x, a, 8); memcpy(&y, b, 8);
        memcpy(&z, a + n - 8, 8); memcpy(&w, b + n - 8, 8);
        return ((x ^ y) | (z ^ w)) == 0;
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
    #endif
    """
    bint same_bytes "dragoman_same"(const char*, const char*, size_t) nogil
    uint64_t hash_name "dragoman_hash"(const char*, size_t, uint64_t) nogil


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

# Entry of the index: 40 bits of place, 8 of size (an upper bound), 16 of messages. A place is
# segment slot << 26 | offset / 16; or this bit and a place in the ring; or LOST.
cdef enum:
    ENTRY_PLACE_BITS = 40
    PLACE_SLOT_SHIFT = 26

cdef inline uint64_t PLACE_PENDING() noexcept nogil:
    return 1ULL << 39

cdef inline uint64_t PLACE_LOST() noexcept nogil:
    return (1ULL << 40) - 1


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


cdef inline uint32_t entry_word(uint32_t entry) noexcept nogil:
    # Where an entry of the index stands; the word before the first of each group is its base.
    return 2 + (entry // GROUP) * (GROUP + 1) + 1 + entry % GROUP


cdef inline uint64_t align_up(uint64_t n, uint64_t to) noexcept nogil:
    return (n + to - 1) & ~(to - 1)
