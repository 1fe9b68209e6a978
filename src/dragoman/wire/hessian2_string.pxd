from libc.stdint cimport uint8_t, uint32_t

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
    """
    Py_ssize_t ascii_run "dm_ascii_run"(const uint8_t* p, Py_ssize_t n) noexcept nogil

# What a string is, found before anything is allocated for it.
cdef struct StringShape:
    Py_ssize_t start     # of its first chunk's header
    Py_ssize_t end       # behind its last byte
    Py_ssize_t text      # of the text, if it is ASCII in one chunk, else -1
    Py_ssize_t points    # characters
    uint32_t widest      # the highest of them

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
