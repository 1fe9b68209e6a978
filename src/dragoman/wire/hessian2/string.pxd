from libc.stdint cimport uint8_t, uint16_t, uint32_t

from dragoman.wire.buffer cimport Buffer

cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    /* How many bytes below 0x80 p begins with. */
    static inline Py_ssize_t dm_ascii_run(const unsigned char *p, Py_ssize_t n) {
        Py_ssize_t i = 0;
    #if defined(__SSE2__)
        for (; n - i >= 16; i += 16) {
            int mask = _mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(p + i)));
            if (mask) return i + __builtin_ctz(mask);
        }
    #endif
        while (i < n && p[i] < 0x80) i++;
        return i;
    }

    /* How many bytes a text of so many characters of one unit each takes, found by counting the
       bytes that begin one; -1 where that is not all there is to see: cut short, a surrogate or a
       character of two units. Says nothing of whether it is UTF-8. */
    static inline Py_ssize_t dm_units_length(
        const unsigned char *p, Py_ssize_t n, Py_ssize_t units
    ) {
        Py_ssize_t i = 0;
    #if defined(__SSE2__)
        const __m128i last_inner = _mm_set1_epi8((char)0xbf);
        const __m128i surrogate = _mm_set1_epi8((char)0xed);
        const __m128i long_one = _mm_set1_epi8((char)0xf0);
        while (n - i >= 16 && units >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(p + i));
            __m128i odd = _mm_or_si128(_mm_cmpeq_epi8(v, surrogate),
                _mm_cmpeq_epi8(_mm_max_epu8(v, long_one), v));
            if (_mm_movemask_epi8(odd)) return -1;
            units -= __builtin_popcount(_mm_movemask_epi8(_mm_cmpgt_epi8(v, last_inner)));
            i += 16;
        }
        /* The inner bytes of what the last sixteen began. */
        while (i && i < n && (p[i] & 0xc0) == 0x80) i++;
    #endif
        while (units > 0) {
            if (i >= n || p[i] == 0xed || p[i] >= 0xf0) return -1;
            i += p[i] < 0xc0 ? 1 : p[i] < 0xe0 ? 2 : 3;
            units--;
        }
        return i <= n ? i : -1;
    }

    /* Units of 16 bits as UTF-8, surrogates as they come; dst has room for 3 * n + 16 bytes.
       Returns where the text ends. */
    static inline unsigned char *dm_units_scalar(
        unsigned char *dst, const unsigned short *src, Py_ssize_t n
    ) {
        for (Py_ssize_t i = 0; i < n; i++) {
            unsigned int c = src[i];
            if (c < 0x80) {
                *dst++ = (unsigned char)c;
            } else if (c < 0x800) {
                *dst++ = (unsigned char)(0xc0 | c >> 6);
                *dst++ = (unsigned char)(0x80 | (c & 63));
            } else {
                *dst++ = (unsigned char)(0xe0 | c >> 12);
                *dst++ = (unsigned char)(0x80 | (c >> 6 & 63));
                *dst++ = (unsigned char)(0x80 | (c & 63));
            }
        }
        return dst;
    }
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <tmmintrin.h>
    __attribute__((target("ssse3")))
    static unsigned char *dm_units_ssse3(
        unsigned char *dst, const unsigned short *src, Py_ssize_t n
    ) {
        /* Eight characters of three bytes each at a time: the first two bytes of each, and its
           third, put in order by a shuffle for the first 16 bytes and one for the last 8. */
        const __m128i zero = _mm_setzero_si128();
        const __m128i two_a = _mm_setr_epi8(0, 1, -1, 2, 3, -1, 4, 5, -1, 6, 7, -1, 8, 9, -1, 10);
        const __m128i one_a = _mm_setr_epi8(
            -1, -1, 0, -1, -1, 2, -1, -1, 4, -1, -1, 6, -1, -1, 8, -1);
        const __m128i two_b = _mm_setr_epi8(
            11, -1, 12, 13, -1, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1);
        const __m128i one_b = _mm_setr_epi8(
            -1, 10, -1, -1, 12, -1, -1, 14, -1, -1, -1, -1, -1, -1, -1, -1);
        Py_ssize_t i = 0;
        for (; n - i >= 8; i += 8) {
            __m128i c = _mm_loadu_si128((const __m128i *)(src + i));
            __m128i low = _mm_cmpeq_epi16(_mm_and_si128(c, _mm_set1_epi16((short)0xf800)), zero);
            if (_mm_movemask_epi8(low)) {
                dst = dm_units_scalar(dst, src + i, 8);
                continue;
            }
            __m128i two = _mm_or_si128(
                _mm_or_si128(_mm_srli_epi16(c, 12), _mm_set1_epi16((short)0x80e0)),
                _mm_and_si128(_mm_slli_epi16(c, 2), _mm_set1_epi16(0x3f00)));
            __m128i one = _mm_or_si128(
                _mm_and_si128(c, _mm_set1_epi16(0x3f)), _mm_set1_epi16(0x80));
            _mm_storeu_si128((__m128i *)dst,
                _mm_or_si128(_mm_shuffle_epi8(two, two_a), _mm_shuffle_epi8(one, one_a)));
            _mm_storel_epi64((__m128i *)(dst + 16),
                _mm_or_si128(_mm_shuffle_epi8(two, two_b), _mm_shuffle_epi8(one, one_b)));
            dst += 24;
        }
        return dm_units_scalar(dst, src + i, n - i);
    }
    static unsigned char *dm_units_to_utf8(
        unsigned char *dst, const unsigned short *src, Py_ssize_t n
    ) {
        return __builtin_cpu_supports("ssse3") ? dm_units_ssse3(dst, src, n)
            : dm_units_scalar(dst, src, n);
    }
    #else
    #define dm_units_to_utf8 dm_units_scalar
    #endif
    """
    Py_ssize_t units_length "dm_units_length"(
        const uint8_t* p, Py_ssize_t n, Py_ssize_t units
    ) noexcept nogil
    uint8_t* units_to_utf8 "dm_units_to_utf8"(
        uint8_t* dst, const uint16_t* src, Py_ssize_t n
    ) noexcept nogil
    Py_ssize_t ascii_run "dm_ascii_run"(const uint8_t* p, Py_ssize_t n) noexcept nogil

# What a string is, found before anything is allocated for it.
cdef struct StringShape:
    Py_ssize_t start     # of its first chunk's header
    Py_ssize_t end       # behind its last byte
    Py_ssize_t text      # of the text, if it is ASCII in one chunk, else -1
    Py_ssize_t points    # characters
    uint32_t widest      # the highest of them

cdef Py_ssize_t one_chunk(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t* length
) noexcept nogil
cdef str read_text(const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t* end)
cdef int string_shape(
    const uint8_t* p, Py_ssize_t n, Py_ssize_t at, StringShape* shape
) noexcept nogil
cdef str string_text(const uint8_t* p, const StringShape* shape)
cdef int write_text(Buffer out, str text) except -1
cdef int utf8_point(const uint8_t* p, Py_ssize_t n, uint32_t* point) noexcept nogil
cdef int write_hessian_string(Buffer out, const char* utf8, Py_ssize_t n) except -1
cdef Py_ssize_t hessian_string_to_utf8(
    const char* data, Py_ssize_t n, char* dst, Py_ssize_t* used
) noexcept nogil
