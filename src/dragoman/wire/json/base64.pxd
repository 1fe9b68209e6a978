# Base64 (RFC 4648 section 4), three bytes at a time, of bytes that come in pieces.

from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    static const char dm_base64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    """
    const char* LETTERS "dm_base64"

cdef struct Base64:
    char* to             # where the text goes on; there is room for all of it
    uint32_t gathered
    int held             # bytes of ``gathered`` that are not written yet


cdef inline void more_base64(Base64* text, const uint8_t* p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint32_t gathered = text.gathered
    for i in range(n):
        gathered = (gathered << 8) | p[i]
        text.held += 1
        if text.held == 3:
            text.to[0] = LETTERS[(gathered >> 18) & 63]
            text.to[1] = LETTERS[(gathered >> 12) & 63]
            text.to[2] = LETTERS[(gathered >> 6) & 63]
            text.to[3] = LETTERS[gathered & 63]
            text.to += 4
            text.held = 0
    text.gathered = gathered


cdef inline void end_base64(Base64* text) noexcept nogil:
    cdef uint32_t gathered
    if text.held:
        gathered = text.gathered << (8 * (3 - text.held))
        text.to[0] = LETTERS[(gathered >> 18) & 63]
        text.to[1] = LETTERS[(gathered >> 12) & 63]
        text.to[2] = LETTERS[(gathered >> 6) & 63] if text.held == 2 else c'='
        text.to[3] = c'='
        text.to += 4
