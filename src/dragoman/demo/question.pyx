"""The question the demo asks, and its answer: a random string and its Java ``hashCode``.

The demo consumer and the load generator's form mode call it for each request. The form has the
contest's fields: ``interface``, ``method``, ``parameterTypesString``, ``parameter``; the parameter
has 0 to 1023 letters and digits, which no escape can change. The invariant: ``expected`` is the
hash of exactly the string sent.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from dragoman.wire.http1.tables cimport format_uint

INTERFACE = "com.alibaba.dubbo.performance.demo.provider.IHelloService"
METHOD = "hash"
PARAMETER_TYPES = "Ljava/lang/String;"

cdef bytes PREFIX = (
    b"interface=com.alibaba.dubbo.performance.demo.provider.IHelloService&method=hash"
    b"&parameterTypesString=Ljava%2Flang%2FString%3B&parameter="
)
cdef const char* ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


cdef uint64_t next_random(uint64_t* state) noexcept nogil:
    """The next 64 random bits (xorshift64*, Vigna 2016); ``state`` is never 0."""
    cdef uint64_t x = state[0]
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    state[0] = x
    return x * 0x2545F4914F6CDD1DULL


cdef void fill_alphanumeric(uint64_t* state, char* to, Py_ssize_t n) noexcept nogil:
    """Write ``n`` random letters and digits at ``to``."""
    cdef uint64_t bits = 0
    cdef Py_ssize_t i
    for i in range(n):
        if i & 3 == 0:
            bits = next_random(state)
        to[i] = ALPHABET[((bits & 0xFFFF) * 62) >> 16]
        bits >>= 16


cdef int32_t java_hash(const char* text, Py_ssize_t n) noexcept nogil:
    """``String.hashCode`` of ASCII text: s[0] * 31^(n-1) + ... + s[n-1] in 32 bits, wrapping."""
    cdef const unsigned char* p = <const unsigned char*>text
    cdef uint32_t h = 0
    cdef Py_ssize_t i = 0
    while i + 4 <= n:  # four at a time: one multiplication waits for the one before
        h = h * 923521 + p[i] * 29791U + p[i + 1] * 961U + p[i + 2] * 31U + p[i + 3]
        i += 4
    while i < n:
        h = h * 31 + p[i]
        i += 1
    return <int32_t>h


cdef bytes random_question(bytes head, uint64_t* state, int32_t* expected):
    """A whole request with a random form.

    ``head`` lacks Content-Length (``request_head`` made it). The text has up to 1,023 characters.
    """
    cdef Py_ssize_t n = next_random(state) >> 54
    cdef Py_ssize_t prefix = PyBytes_GET_SIZE(PREFIX)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(head)
    cdef char number[24]
    cdef Py_ssize_t digits = format_uint(number, prefix + n)
    cdef bytes result = PyBytes_FromStringAndSize(NULL, length + 16 + digits + 4 + prefix + n)
    cdef char* p = PyBytes_AS_STRING(result)
    memcpy(p, PyBytes_AS_STRING(head), length)
    p += length
    memcpy(p, b"content-length: ", 16)
    p += 16
    memcpy(p, number, digits)
    p += digits
    memcpy(p, b"\r\n\r\n", 4)
    p += 4
    memcpy(p, PyBytes_AS_STRING(PREFIX), prefix)
    p += prefix
    fill_alphanumeric(state, p, n)
    expected[0] = java_hash(p, n)
    return result


cdef bint is_answer(const char* text, Py_ssize_t n, int32_t expected) noexcept nogil:
    """Whether the text is the decimal number ``expected``.

    White space around it does not matter.
    """
    cdef char number[24]
    cdef Py_ssize_t digits
    while n > 0 and (text[0] == c' ' or (text[0] >= c'\t' and text[0] <= c'\r')):
        text += 1
        n -= 1
    while n > 0 and (text[n - 1] == c' ' or (text[n - 1] >= c'\t' and text[n - 1] <= c'\r')):
        n -= 1
    if expected < 0:
        if n < 1 or text[0] != c'-':
            return False
        text += 1
        n -= 1
        digits = format_uint(number, <uint64_t>(-<long long>expected))
    else:
        digits = format_uint(number, <uint64_t>expected)
    return n == digits and memcmp(text, number, n) == 0


# -- for Python


def hash_code(bytes text not None):
    """Java's ``hashCode`` of ASCII text, as a signed 32-bit number."""
    return java_hash(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


def answers(bytes text not None, expected):
    """Whether an answer's text is the number ``expected``."""
    return bool(is_answer(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), expected))


def draw(seed, *, head=b""):
    """A whole request with the random form of a seed, and the hash expected (for tests)."""
    cdef uint64_t state = seed or 1
    cdef int32_t expected = 0
    request = random_question(head, &state, &expected)
    return request, expected
