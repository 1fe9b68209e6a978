# The line before each chunk of a chunked body: its size and extensions (RFC 9112 section 7.1).
# ``MessageDecoder`` calls this with what has come of a line, in any pieces; compiled into it. The
# invariant: a line is either exactly of the RFC's form, within the limits, or named as what it is
# instead; extensions are checked and passed over.

from dragoman.wire.http1.tables cimport C_TOKEN, CHARS, DEL, HEX


cdef struct ChunkLine:  # what has been read of the line before a chunk
    int state
    Py_ssize_t size
    Py_ssize_t extension_bytes  # in all lines of the message
    int digits


cdef enum:  # what read_chunk_line returns
    CHUNK_LINE_MORE = 0
    CHUNK_LINE_WHOLE = 1
    CHUNK_SIZE_MISSING = -1
    CHUNK_SIZE_MALFORMED = -2
    CHUNK_SIZE_OVERFLOWS = -3
    CHUNK_EXTENSION_MALFORMED = -4
    CHUNK_EXTENSIONS_TOO_LARGE = -5
    CHUNK_LINE_CR = -6  # without its LF


cdef enum:
    # All chunk extensions of one message together; they carry nothing that dragoman uses.
    EXTENSION_BYTES_MAX = 1024
    # 2^64 - 1 has 16 hexadecimal digits.
    SIZE_DIGITS_MAX = 16
    # One digit more makes a size overflow that has more bits than these.
    SIZE_BITS_MAX = 59


cdef enum:  # what the next byte belongs to; a FIRST is followed by its rest
    IN_SIZE
    IN_NAME_FIRST
    IN_NAME
    IN_VALUE_FIRST
    IN_VALUE
    IN_QUOTED
    IN_ESCAPED
    IN_QUOTED_END
    IN_LF
    MALFORMED


cdef inline void begin_chunk_lines(ChunkLine* line) noexcept nogil:
    """A chunked body begins."""
    line.state = IN_SIZE
    line.digits = 0
    line.extension_bytes = 0


cdef inline int after(int state, unsigned char c) noexcept nogil:
    """The state after the byte ``c`` of an extension."""
    cdef bint token = (CHARS[c] & C_TOKEN) != 0
    if state == IN_NAME_FIRST or state == IN_VALUE_FIRST:
        if token:
            return state + 1
        return IN_QUOTED if c == c'"' and state == IN_VALUE_FIRST else MALFORMED
    if state == IN_QUOTED or state == IN_ESCAPED:
        if state == IN_QUOTED and c == c'"':
            return IN_QUOTED_END
        if state == IN_QUOTED and c == c'\\':
            return IN_ESCAPED
        return IN_QUOTED if c == c'\t' or (c >= c' ' and c != DEL) else MALFORMED
    # the end of a name, a value or a quoted value
    if c == c'\r':
        return IN_LF
    if c == c';':
        return IN_NAME_FIRST
    if c == c'=' and state == IN_NAME:
        return IN_VALUE_FIRST
    return state if token and state != IN_QUOTED_END else MALFORMED


cdef inline int read_chunk_line(
    ChunkLine* line, const unsigned char** at, const unsigned char* stop
) noexcept nogil:
    """Read on from ``at``, and move it. CHUNK_LINE_WHOLE: ``size`` bytes of data follow."""
    cdef const unsigned char* p = at[0]
    cdef int state = line.state
    cdef int digits = line.digits
    cdef Py_ssize_t size = line.size if digits else 0
    cdef unsigned char c
    while p < stop:
        if state == IN_SIZE:
            while p < stop and HEX[p[0]]:
                if digits == SIZE_DIGITS_MAX or size >> SIZE_BITS_MAX:
                    return CHUNK_SIZE_OVERFLOWS
                size = (size << 4) | (HEX[p[0]] - 1)
                digits += 1
                p += 1
            if p == stop:
                break
        c = p[0]
        p += 1
        if state == IN_SIZE:
            if digits == 0:
                return CHUNK_SIZE_MISSING
            if c == c'\r':
                state = IN_LF
            elif c == c';':
                state = IN_NAME_FIRST
                line.extension_bytes += 1
            else:
                return CHUNK_SIZE_MALFORMED
        elif state == IN_LF:
            if c != c'\n':
                return CHUNK_LINE_CR
            line.state = IN_SIZE
            line.digits = 0
            line.size = size
            at[0] = p
            return CHUNK_LINE_WHOLE
        else:
            line.extension_bytes += 1
            state = after(state, c)
            if state == MALFORMED:
                return CHUNK_EXTENSION_MALFORMED
            if line.extension_bytes > EXTENSION_BYTES_MAX:
                return CHUNK_EXTENSIONS_TOO_LARGE
    line.state = state
    line.digits = digits
    line.size = size
    at[0] = p
    return CHUNK_LINE_MORE
