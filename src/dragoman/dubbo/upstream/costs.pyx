"""What it costs to transcode a request or a reply: whether it may be done on the loop.

``dubbo.upstream.egress`` asks for what is longer than ``SMALL_BYTES``, and has it done elsewhere if
it is costly (``dubbo.upstream.transcoder``). The invariant: what is not costly takes a few
milliseconds at most on a usual machine, whatever it holds; the question itself costs less than a
copy of the body.

Where values become Python objects, their number is what counts (up to 2 us for each): in JSON the
commas and opened brackets, in binary forms the bytes, for most values can be written in one. Where
bytes are made of bytes it is some nanoseconds a byte.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

from dragoman.dubbo.upstream.encode_request cimport AS_BODY, METHOD_FORM, METHOD_JSON, Asked
from dragoman.wire.dubbo.frame cimport DUBBO_FASTJSON, DUBBO_FASTJSON2, DUBBO_HESSIAN2
from dragoman.wire.http1.form cimport FormField, find_field

from dragoman.errors import UsageError

cdef enum:
    VALUES_MAX = 8192            # as Python objects
    BINARY_VALUES_MAX = 32768    # the same of binary forms, where few values take a byte
    BINARY_BYTES_MAX = 131072    # of hessian2 made JSON without objects
    BYTES_MAX = 1048576          # of text, and of JSON made JSON
    JSON_WEIGHT = 8              # of a value, at what reads values of bytes
    NAMES = 5                    # before a hessian2 call's arguments, with the length of these


cdef bint many_values(const char* text, Py_ssize_t n, bint encoded) noexcept nogil:
    """Whether so many values may be in JSON; ``encoded``: in a form's field."""
    cdef Py_ssize_t at = 0, end, i
    cdef Py_ssize_t count = 0
    cdef uint8_t c
    while at < n:
        end = min(at + 65536, n)
        if encoded:
            for i in range(at, end):
                c = text[i]
                count += (c == 44) + (c == 91) + (c == 123) + (c == 37)
        else:
            for i in range(at, end):
                c = text[i]
                count += (c == 44) + (c == 91) + (c == 123)
        if count > VALUES_MAX:
            return True
        at = end
    return False


cdef bint is_text_form(const char* body, Py_ssize_t n) noexcept nogil:
    """Whether a form's argument is a text, which is not looked into."""
    cdef FormField kind
    if find_field(body, n, b"parameterTypesString", 20, &kind) <= 0:
        return False
    if kind.value_length < 18 or kind.value_length > 30 or kind.value[0] != 76:
        return False
    return memcmp(kind.value + 1, b"java", 4) == 0 and (
        memcmp(kind.value + kind.value_length - 7, b"String;", 7) == 0
        or memcmp(kind.value + kind.value_length - 9, b"String%3", 8) == 0
    )


cdef inline Py_ssize_t length_at(const uint8_t* p) noexcept nogil:
    return <Py_ssize_t>p[0] << 24 | <Py_ssize_t>p[1] << 16 | <Py_ssize_t>p[2] << 8 | p[3]


cdef Py_ssize_t attachments_bytes(const char* body, Py_ssize_t n) noexcept nogil:
    """How long the attachments of a hessian2 call are."""
    cdef const char* end = body + n
    cdef const uint8_t* p
    cdef const char* nul
    cdef int i
    for i in range(NAMES):
        nul = <const char*>memchr(body, 0, end - body)
        if nul == NULL:
            return 0
        body = nul + 1
    if end - body < 4:
        return 0
    p = <const uint8_t*>body
    return (end - body) - 4 - length_at(p)


cdef bint costly_request(
    int serialization, int method, const char* body, Py_ssize_t n
) noexcept nogil:
    """Whether a request by a mesh method takes long to be made for a provider."""
    if n <= SMALL_BYTES:
        return False
    if method == METHOD_FORM:
        if n > BYTES_MAX:
            return True
        return serialization != DUBBO_FASTJSON and not is_text_form(body, n) \
            and many_values(body, n, True)
    if method == METHOD_JSON:
        # For fastjson only what stands beside the arguments becomes objects.
        return n > BYTES_MAX or (
            (serialization != DUBBO_FASTJSON or n > BINARY_BYTES_MAX)
            and many_values(body, n, False)
        )
    if serialization == DUBBO_HESSIAN2:
        return attachments_bytes(body, n) > BINARY_BYTES_MAX
    return n > (BINARY_BYTES_MAX if serialization == DUBBO_FASTJSON else BINARY_VALUES_MAX)


cdef bint heavier(const char* text, Py_ssize_t n, Py_ssize_t weight_max) noexcept nogil:
    """Whether the values in JSON weigh more: those of text take longer to read than of bytes."""
    cdef const char* end = text + n
    cdef const char* quote
    cdef const char* before
    cdef Py_ssize_t weight = 0
    cdef char c
    while text < end:
        c = text[0]
        text += 1
        if c == 44 or c == 58:
            weight += JSON_WEIGHT
        elif c == 91 or c == 123:
            weight += 2 * JSON_WEIGHT
        elif c == 34:
            # Past the text, by a quote with an even number of backslashes before it.
            while True:
                quote = <const char*>memchr(text, 34, end - text)
                if quote == NULL:
                    return weight > weight_max
                before = quote
                while before > text and (before - 1)[0] == 92:
                    before -= 1
                text = quote + 1
                if (quote - before) & 1 == 0:
                    break
        if weight > weight_max:
            return True
    return False


cdef inline bint is_hessian2_text(uint8_t tag) noexcept nogil:
    """A string or binary, of one chunk or more."""
    return tag < 0x38 or tag == 0x41 or tag == 0x42 or tag == 0x52 or tag == 0x53


cdef bint costly_reply(
    const Asked* asked, int serialization, const char* body, Py_ssize_t n
) noexcept nogil:
    """Whether a provider's reply takes long to be read for who asked so."""
    cdef const uint8_t* p = <const uint8_t*>body
    cdef Py_ssize_t at
    if n <= SMALL_BYTES:
        return False
    if serialization == DUBBO_HESSIAN2:
        if asked.answer == AS_BODY:
            return False
        # Attachments follow, which are passed over unless they are asked for.
        if is_hessian2_text(p[1]) and not asked.envelope:
            return n > BYTES_MAX
        return n > BINARY_BYTES_MAX
    if serialization == DUBBO_FASTJSON:
        return n > BYTES_MAX or (asked.answer == AS_BODY and many_values(body, n, False))
    if serialization == DUBBO_FASTJSON2:
        # The reply's kind is a document of its own, and so is the value; each has its length.
        at = 8 + length_at(p)
        if at < n and (0x49 <= p[at] < 0x7F or p[at] == 0x91):
            return n > BYTES_MAX or n - at - length_at(p + at - 4) > BINARY_VALUES_MAX
        return n > BINARY_VALUES_MAX
    return False


# For Python callers: tests and the fuzzer.


def request_is_costly(int serialization, int method, bytes body not None):
    """Whether a request by the mesh method of that number takes long to be made."""
    return costly_request(serialization, method, PyBytes_AS_STRING(body), len(body))


def reply_is_costly(bytes asked not None, int serialization, bytes body not None):
    """Whether a reply takes long to be read for who asked so; ``asked`` is ``Asked``'s bytes."""
    if len(asked) != sizeof(Asked):
        raise UsageError(f"asked: {sizeof(Asked)} bytes were expected")
    return costly_reply(
        <const Asked*>PyBytes_AS_STRING(asked), serialization, PyBytes_AS_STRING(body), len(body)
    )
