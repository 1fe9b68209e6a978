"""Requests in fastjson as consumers write them (the form: ``dubbo.fastjson``).

The agents' links call this. The invariants: what is written is one valid JSON value a field
whatever the texts hold, and a refused request leaves the buffer as it was.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport strlen

from dragoman.wire.big_endian cimport put32
from dragoman.wire.buffer cimport Buffer
from dragoman.wire.decimal cimport put_decimal
from dragoman.wire.dubbo.frame cimport (
    DUBBO_FASTJSON, DUBBO_HEADER_BYTES, DUBBO_REQUEST, DUBBO_TWO_WAY, begin_frame, end_frame,
)
from dragoman.wire.json.string cimport JSON_OK, Slice, write_json_string
from dragoman.wire.json.text cimport write_json_line


cdef inline Py_ssize_t begin_field(Buffer out, bint lengths) except -1:
    """Make room for a field's length, if it has one; returns where the field begins."""
    if lengths:
        out.reserve(4)
        out.length += 4
    return out.length


cdef inline int end_field(Buffer out, bint lengths, Py_ssize_t start) except -1:
    """Put in the length of the field that began at ``start``, or the newline after it."""
    if not lengths:
        return out.append(b"\n", 1)
    put32(<uint8_t*>out.data + start - 4, <uint32_t>(<Py_ssize_t>out.length - start))
    return 0


cdef inline int write_string_field(Buffer out, bint lengths, const Slice* text) except -1:
    """A field that is a string, or null when it is absent."""
    cdef Py_ssize_t start = begin_field(out, lengths)
    cdef int code = JSON_OK
    if text.data == NULL:
        out.append(b"null", 4)
    else:
        code = write_json_string(out, text.data, text.length)
    if code == JSON_OK:
        end_field(out, lengths, start)
    return code


cdef inline int write_attachment(Buffer out, const char* name, const Slice* text) except -1:
    """One member of the attachments, after the first; none when it is absent."""
    if text.data == NULL:
        return JSON_OK
    out.append(name, strlen(name))
    return write_json_string(out, text.data, text.length)


cdef int write_head(Buffer out, const Invocation* call) except -1:
    """The fields before the arguments."""
    cdef bint lengths = call.lengths
    cdef int code = JSON_OK
    cdef Py_ssize_t start
    if call.version.data == NULL:
        start = begin_field(out, lengths)
        out.append(b'"2.0.1"', 7)
        end_field(out, lengths, start)
    else:
        code = write_string_field(out, lengths, &call.version)
    if code == JSON_OK:
        code = write_string_field(out, lengths, &call.interface)
    if code == JSON_OK:
        code = write_string_field(out, lengths, &call.service_version)
    if code == JSON_OK:
        code = write_string_field(out, lengths, &call.method)
    if code == JSON_OK:
        code = write_string_field(out, lengths, &call.descriptor)
    return code


cdef int write_timeout(Buffer out, uint32_t timeout_ms) except -1:
    """The attachments that say how long the call may take, as Java's consumers write them: one is
    text, the other, from which services count down, a number.
    """
    cdef char digits[10]
    cdef int count = put_decimal(digits, timeout_ms)
    out.append(b',"timeout":"', 12)
    out.append(digits, count)
    out.append(b'","_TO":', 8)
    return out.append(digits, count)


cdef int finish_request(Buffer out, const Invocation* call, Py_ssize_t start) except -1:
    """The attachments, then the length in the header."""
    cdef Py_ssize_t field = begin_field(out, call.lengths)
    cdef int code
    out.append(b'{"path":', 8)
    if call.path.data == NULL:
        code = write_json_string(out, call.interface.data, call.interface.length)
    else:
        code = write_json_string(out, call.path.data, call.path.length)
        if code == JSON_OK:
            code = write_attachment(out, b',"interface":', &call.interface)
    if code == JSON_OK:
        code = write_attachment(out, b',"version":', &call.service_version)
    if code == JSON_OK:
        code = write_attachment(out, b',"group":', &call.group)
    if code == JSON_OK:
        code = write_attachment(out, b',"token":', &call.token)
    if code != JSON_OK:
        return code
    if call.timeout_ms:
        write_timeout(out, call.timeout_ms)
    if call.attachments.data != NULL and call.attachments.length:
        out.append(b",", 1)
        write_json_line(out, call.attachments.data, call.attachments.length)
    out.append(b"}", 1)
    end_field(out, call.lengths, field)
    if <Py_ssize_t>out.length - start - DUBBO_HEADER_BYTES > 0x7FFFFFFF:
        return FASTJSON_TOO_LONG
    end_frame(out, start)
    return JSON_OK


cdef int write_string_request(
    Buffer out, uint64_t id, const Invocation* call, const char* argument, Py_ssize_t n
) except -1:
    """Append a two-way request with one argument, a text of ``n`` bytes of UTF-8.

    Returns 0; or ``JSON_BAD_UTF8`` or ``FASTJSON_TOO_LONG`` with nothing appended. Nothing else is
    checked: the caller has made sure that the descriptor has one parameter.
    """
    cdef Py_ssize_t start = begin_frame(out, DUBBO_REQUEST | DUBBO_TWO_WAY | DUBBO_FASTJSON, 0, id)
    cdef Slice text
    cdef int code
    text.data = argument
    text.length = n
    try:
        code = write_head(out, call)
        if code == JSON_OK:
            code = write_string_field(out, call.lengths, &text)
        if code == JSON_OK:
            code = finish_request(out, call, start)
    except MemoryError:  # half a frame would be the end of all that comes after it
        out.length = start
        raise
    if code != JSON_OK:
        out.length = start
    return code


cdef int write_json_request(
    Buffer out, uint64_t id, const Invocation* call, const Slice* arguments, Py_ssize_t count
) except -1:
    """Append a two-way request whose arguments are well-formed JSON values as text.

    Returns as ``write_string_request`` does. The caller has checked the values (``json_check``) and
    that there are as many as the descriptor has parameters.
    """
    cdef Py_ssize_t start = begin_frame(out, DUBBO_REQUEST | DUBBO_TWO_WAY | DUBBO_FASTJSON, 0, id)
    cdef Py_ssize_t i, field
    cdef int code
    try:
        code = write_head(out, call)
        if code == JSON_OK:
            for i in range(count):
                field = begin_field(out, call.lengths)
                write_json_line(out, arguments[i].data, arguments[i].length)
                end_field(out, call.lengths, field)
            code = finish_request(out, call, start)
    except MemoryError:
        out.length = start
        raise
    if code != JSON_OK:
        out.length = start
    return code
