# The alphabets and names of HTTP/1.1 (RFC 9110 section 5.6, RFC 9112, RFC 3986), shared by the HTTP
# decoders and encoders of this package. Compiled into each module that cimports it; no object is
# made. The invariant: a byte is valid in a place exactly when its entry of CHARS has that place's
# bit.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    /* Bits of CHARS. */
    #define DRAGOMAN_TOKEN 1   /* tchar, RFC 9110 5.6.2 */
    #define DRAGOMAN_TARGET 2  /* the characters of a URI without its fragment, RFC 3986 */
    #define DRAGOMAN_VALUE 4   /* field-vchar, SP and HTAB, RFC 9110 5.5 */
    #define DRAGOMAN_HOST 8    /* reg-name without comma, RFC 3986 3.2.2 */
    #define T DRAGOMAN_TOKEN
    #define U DRAGOMAN_TARGET
    #define V DRAGOMAN_VALUE
    #define H DRAGOMAN_HOST
    static const unsigned char DRAGOMAN_CHARS[256] __attribute__((unused)) = {
        ['\\t'] = V, [' '] = V, ['!'] = T|U|V|H, ['"'] = V, ['#'] = T|V, ['$'] = T|U|V|H,
        ['%'] = T|U|V|H, ['&'] = T|U|V|H, ['\\''] = T|U|V|H, ['('] = U|V|H, [')'] = U|V|H,
        ['*'] = T|U|V|H, ['+'] = T|U|V|H, [','] = U|V, ['-'] = T|U|V|H, ['.'] = T|U|V|H,
        ['/'] = U|V, ['0' ... '9'] = T|U|V|H, [':'] = U|V, [';'] = U|V|H, ['<'] = V,
        ['='] = U|V|H, ['>'] = V, ['?'] = U|V, ['@'] = U|V, ['A' ... 'Z'] = T|U|V|H, ['['] = U|V,
        ['\\\\'] = V, [']'] = U|V, ['^'] = T|V, ['_'] = T|U|V|H, ['`'] = T|V,
        ['a' ... 'z'] = T|U|V|H, ['{'] = V, ['|'] = T|V, ['}'] = V, ['~'] = T|U|V|H,
        [0x80 ... 0xff] = V,
    };
    #undef T
    #undef U
    #undef V
    #undef H
    /* The value of a hexadecimal digit plus one; 0 for what is none. */
    static const unsigned char DRAGOMAN_HEX[256] __attribute__((unused)) = {
        ['0'] = 1, ['1'] = 2, ['2'] = 3, ['3'] = 4, ['4'] = 5,
        ['5'] = 6, ['6'] = 7, ['7'] = 8, ['8'] = 9, ['9'] = 10,
        ['a'] = 11, ['b'] = 12, ['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16,
        ['A'] = 11, ['B'] = 12, ['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
    };
    /* 1 if the n bytes at p are the lower-case literal, whatever their case; n is already equal. */
    static inline int dragoman_same(const unsigned char *p, const char *lower, size_t n) {
        size_t i;
        for (i = 0; i < n; i++) {
            unsigned char c = p[i];
            if (c >= 'A' && c <= 'Z') c |= 0x20;
            if (c != (unsigned char)lower[i]) return 0;
        }
        return 1;
    }
    /* The first byte from p on that is not a field value's, or stop. Eight at a time while none of
       them is below 0x20 or 0x7f; what is left is looked up byte by byte. */
    static inline const unsigned char *dragoman_skip_value(
        const unsigned char *p, const unsigned char *stop
    ) {
        const unsigned long long ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
        while (stop - p >= 8) {
            unsigned long long w, del;
            memcpy(&w, p, 8);
            del = w ^ (ones * 0x7f);
            if ((((w - ones * 0x20) & ~w) | ((del - ones) & ~del)) & tops) break;
            p += 8;
        }
        while (p < stop && (DRAGOMAN_CHARS[*p] & DRAGOMAN_VALUE)) p++;
        return p;
    }
    """
    const unsigned char CHARS "DRAGOMAN_CHARS"[256]
    const unsigned char HEX "DRAGOMAN_HEX"[256]
    enum:
        C_TOKEN "DRAGOMAN_TOKEN"
        C_TARGET "DRAGOMAN_TARGET"
        C_VALUE "DRAGOMAN_VALUE"
        C_HOST "DRAGOMAN_HOST"
    bint same "dragoman_same"(const unsigned char* p, const char* lower, size_t n) noexcept nogil
    const unsigned char* skip_value "dragoman_skip_value"(
        const unsigned char* p, const unsigned char* stop
    ) noexcept nogil


cdef enum:
    DEL = 0x7F


cdef enum:  # places in ``HTTP/1.1``
    MAJOR_AT = 5
    MINOR_AT = 7
    VERSION_BYTES = 8


cdef inline const unsigned char* skip(
    const unsigned char* p, const unsigned char* stop, int allowed
) noexcept nogil:
    """The first byte from ``p`` on without the bit ``allowed``, or ``stop``."""
    while p < stop and CHARS[p[0]] & allowed:
        p += 1
    return p


cdef enum:  # what next_event returns
    EV_NEED_MORE = 0
    EV_REQUEST = 1   # one complete request is described by the decoder's fields
    EV_RESPONSE = 1  # one complete response is
    EV_CONTINUE = 2  # the head asks for 100 Continue and its body has not come
    EV_ERROR = -1    # status and reason say why; the decoder is dead, the connection must close


cdef enum:  # request methods that the decoder lets through
    M_OTHER = 0      # no request yet; other methods are refused with 501
    M_GET = 1
    M_HEAD = 2
    M_POST = 3
    M_PUT = 4
    M_DELETE = 5
    M_OPTIONS = 6
    M_PATCH = 7
    M_CONNECT = 8    # refused with 405
    M_TRACE = 9      # refused with 405


cdef enum:  # what the content is
    CT_NONE = 0      # no Content-Type
    CT_FORM = 1      # application/x-www-form-urlencoded
    CT_JSON = 2      # application/json
    CT_OTHER = 3
    CT_JSON_OTHERWISE = 4  # application/json whose charset is not UTF-8


cdef enum:
    WANTED_MAX = 8       # how many names of fields a decoder can record
    NAME_BYTES_MAX = 31  # and how long each may be: a bit of 32 stands for a length


cdef inline Py_ssize_t format_uint(char* to, uint64_t value) noexcept nogil:
    """Write ``value`` in decimal at ``to`` (room for 20) and return its length."""
    cdef char digits[20]
    cdef Py_ssize_t at = 20
    while True:
        at -= 1
        digits[at] = <char>(c'0' + value % 10)
        value //= 10
        if value == 0:
            break
    memcpy(to, digits + at, 20 - at)
    return 20 - at
