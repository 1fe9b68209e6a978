from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t


cdef extern from *:
    """
    #ifndef DRAGOMAN_CRC32C
    #define DRAGOMAN_CRC32C
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>

    static uint32_t dragoman_crc_table[8][256];
    static int dragoman_crc_hardware = -1;
    /* What a checksum becomes by so many bytes of zeros, byte by byte of it: with that, three
       stretches are computed side by side and joined. The instruction takes one word a cycle but
       has its result only after three. */
    #define DRAGOMAN_CRC_STRETCH 256
    static uint32_t dragoman_crc_zeros[4][256];

    /* Castagnoli's polynomial, reflected. */
    static void dragoman_crc_prepare(void) {
        if (dragoman_crc_hardware >= 0) return;
        for (int i = 0; i < 256; i++) {
            uint32_t c = (uint32_t)i;
            for (int k = 0; k < 8; k++) c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
            dragoman_crc_table[0][i] = c;
        }
        for (int i = 0; i < 256; i++)
            for (int t = 1; t < 8; t++) {
                uint32_t c = dragoman_crc_table[t - 1][i];
                dragoman_crc_table[t][i] = (c >> 8) ^ dragoman_crc_table[0][c & 0xFF];
            }
        uint32_t bit[32];
        for (int i = 0; i < 32; i++) {
            uint32_t c = 1u << i;
            for (int k = 0; k < DRAGOMAN_CRC_STRETCH; k++)
                c = (c >> 8) ^ dragoman_crc_table[0][c & 0xFF];
            bit[i] = c;
        }
        for (int t = 0; t < 4; t++)
            for (int i = 0; i < 256; i++) {
                uint32_t c = 0;
                for (int k = 0; k < 8; k++) if (i >> k & 1) c ^= bit[8 * t + k];
                dragoman_crc_zeros[t][i] = c;
            }
    #if defined(__x86_64__)
        __builtin_cpu_init();
        dragoman_crc_hardware = __builtin_cpu_supports("sse4.2") ? 1 : 0;
    #else
        dragoman_crc_hardware = 0;
    #endif
    }

    static uint32_t dragoman_crc_soft(uint32_t crc, const void *data, size_t n) {
        const unsigned char *p = (const unsigned char *)data;
        crc = ~crc;
        while (n >= 8) {
            uint64_t w;
            memcpy(&w, p, 8);
            w ^= crc;
            crc = dragoman_crc_table[7][w & 0xFF] ^ dragoman_crc_table[6][(w >> 8) & 0xFF]
                ^ dragoman_crc_table[5][(w >> 16) & 0xFF] ^ dragoman_crc_table[4][(w >> 24) & 0xFF]
                ^ dragoman_crc_table[3][(w >> 32) & 0xFF] ^ dragoman_crc_table[2][(w >> 40) & 0xFF]
                ^ dragoman_crc_table[1][(w >> 48) & 0xFF] ^ dragoman_crc_table[0][w >> 56];
            p += 8; n -= 8;
        }
        while (n--) crc = (crc >> 8) ^ dragoman_crc_table[0][(crc ^ *p++) & 0xFF];
        return ~crc;
    }

    static inline uint32_t dragoman_crc_shift(uint32_t c) {
        return dragoman_crc_zeros[0][c & 0xFF] ^ dragoman_crc_zeros[1][(c >> 8) & 0xFF]
            ^ dragoman_crc_zeros[2][(c >> 16) & 0xFF] ^ dragoman_crc_zeros[3][c >> 24];
    }

    #if defined(__x86_64__)
    __attribute__((target("sse4.2")))
    static uint32_t dragoman_crc_hard(uint32_t crc, const void *data, size_t n) {
        const unsigned char *p = (const unsigned char *)data;
        uint64_t c = (uint32_t)~crc;
        while (n >= 3 * DRAGOMAN_CRC_STRETCH) {
            uint64_t d = 0, e = 0, u, v, w;
            for (int i = 0; i < DRAGOMAN_CRC_STRETCH; i += 8) {
                memcpy(&u, p + i, 8);
                memcpy(&v, p + i + DRAGOMAN_CRC_STRETCH, 8);
                memcpy(&w, p + i + 2 * DRAGOMAN_CRC_STRETCH, 8);
                c = __builtin_ia32_crc32di(c, u);
                d = __builtin_ia32_crc32di(d, v);
                e = __builtin_ia32_crc32di(e, w);
            }
            d ^= dragoman_crc_shift((uint32_t)c);
            c = e ^ dragoman_crc_shift((uint32_t)d);
            p += 3 * DRAGOMAN_CRC_STRETCH; n -= 3 * DRAGOMAN_CRC_STRETCH;
        }
        while (n >= 8) {
            uint64_t w;
            memcpy(&w, p, 8);
            c = __builtin_ia32_crc32di(c, w);
            p += 8; n -= 8;
        }
        while (n--) c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
        return ~(uint32_t)c;
    }
    #endif

    static inline uint32_t dragoman_crc(uint32_t crc, const void *data, size_t n) {
    #if defined(__x86_64__)
        if (dragoman_crc_hardware == 1) return dragoman_crc_hard(crc, data, n);
    #endif
        return dragoman_crc_soft(crc, data, n);
    }
    #endif
    """
    # Each module that cimports these has tables of its own: it calls crc_prepare when it loads.
    void crc_prepare "dragoman_crc_prepare"() nogil
    uint32_t crc "dragoman_crc"(uint32_t before, const void* data, size_t n) nogil
    uint32_t crc_soft "dragoman_crc_soft"(uint32_t before, const void* data, size_t n) nogil


cdef inline uint32_t crc_place(uint64_t number, uint64_t offset) noexcept nogil:
    """What a checksum begins with, so that it also covers where its bytes lie."""
    cdef uint64_t place[2]
    place[0] = number
    place[1] = offset
    return crc(0, place, 16)
