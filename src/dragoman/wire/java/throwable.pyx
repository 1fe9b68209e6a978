"""Class and message of a Java throwable, from its JSON as fastjson writes one, or from its Bean.

The agents' links pass it on to the caller. Best effort and bounded: the text is one line of at most
8 KiB whatever the provider sent, and nothing that it names is instantiated.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset, strlen

from dragoman.wire.java.bean cimport Bean
from dragoman.wire.json.string cimport Slice, json_equals, json_string_to_utf8
from dragoman.wire.json.text cimport json_value_end

cdef Py_ssize_t MESSAGE_BYTES_MAX = 4096


cdef str short_text(const Slice* json):
    """The text of a JSON string, at most 4 KiB, on one line; None when it is no string."""
    cdef Py_ssize_t length
    cdef char* room
    if json.data == NULL or json.length < 2 or json.data[0] != 34:
        return None
    room = <char*>malloc(json.length)
    if room == NULL:
        raise MemoryError(f"no memory for a text of {json.length} bytes")
    try:
        length = json_string_to_utf8(json.data, json.length, room)
        if length < 0:
            return json.data[1:min(json.length - 1, MESSAGE_BYTES_MAX)].decode("utf-8", "replace")
        text = room[:min(length, MESSAGE_BYTES_MAX)].decode("utf-8", "replace")
        return " ".join(text.split())
    finally:
        free(room)


cdef str exception_text(const char* json, Py_ssize_t n):
    """A throwable as ``class: message``, best effort, at most 8 KiB, on one line.

    ``json`` has passed ``fastjson.read_reply``. Takes an object's ``@type`` (or ``class``) and
    ``message`` (or ``localizedMessage``, ``detailMessage``), or a plain string.
    """
    cdef Slice name, value, class_name, message, second
    cdef Py_ssize_t i, end
    memset(&class_name, 0, sizeof(Slice))
    memset(&message, 0, sizeof(Slice))
    memset(&second, 0, sizeof(Slice))
    if n > 0 and json[0] == 123:
        i = skip(json, 1, n)
        while i < n and json[i] == 34:
            end = json_value_end(json, n, i)
            if end < 0:
                break
            name.data = json + i
            name.length = end - i
            i = skip(json, skip(json, end, n) + 1, n)
            end = json_value_end(json, n, i)
            if end < 0:
                break
            value.data = json + i
            value.length = end - i
            if value.data[0] == 34:
                if named(&name, b"@type") or named(&name, b"class"):
                    class_name = value
                elif named(&name, b"message"):
                    message = value
                elif named(&name, b"localizedMessage") or named(&name, b"detailMessage"):
                    second = value
            i = skip(json, end, n)
            if i < n and json[i] == 44:
                i = skip(json, i + 1, n)
    elif n > 0 and json[0] == 34:
        message.data = json
        message.length = n
    kind = short_text(&class_name)
    said = short_text(&message if message.data != NULL else &second)
    if kind and said:
        return f"{kind}: {said}"
    return kind or said or "the provider raised an exception without a message"


cdef str line_of(value):
    """At most 4 KiB of a text on one line, None if it is none."""
    if not isinstance(value, str):
        return None
    text = value.encode("utf-8", "replace")[:MESSAGE_BYTES_MAX].decode("utf-8", "replace")
    return " ".join(text.split())


cdef str throwable_text(value):
    """The same of a throwable read from hessian2: a Bean, or whatever came in its place.

    The exception that generic invocation wraps around the service's gives way to that.
    """
    if not isinstance(value, Bean):
        return line_of(value) or "the provider raised an exception without a message"
    kind = line_of(value.java_class)
    said = line_of(value.get("detailMessage")) or line_of(value.get("message"))
    if kind.endswith("service.GenericException"):
        kind = line_of(value.get("exceptionClass")) or kind
        said = line_of(value.get("exceptionMessage")) or said
    return f"{kind}: {said}" if said else kind


cdef inline Py_ssize_t skip(const char* json, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    while i < n and (json[i] == 32 or json[i] == 10 or json[i] == 13 or json[i] == 9):
        i += 1
    return i


cdef inline bint named(const Slice* name, const char* text) noexcept nogil:
    return json_equals(name.data, name.length, text, strlen(text))
