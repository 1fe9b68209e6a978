"""The names that stand before a forwarded call: of its interface, its method and so on.

``dubbo.upstream.encode_request`` reads them where they are (``docs/formats/calls.md``).
"""

from libc.string cimport memchr

from dragoman.wire.dubbo.fastjson_request cimport Invocation
from dragoman.wire.json.string cimport Slice

from dragoman.errors import UsageError


cdef str method_name(const Invocation* invocation):
    """The method's name as text."""
    try:
        return invocation.method.data[:invocation.method.length].decode()
    except UnicodeDecodeError:
        raise UsageError("the method's name is not UTF-8") from None


cdef Py_ssize_t read_names(const char** at, Py_ssize_t n, Slice* parts, int count) except -1:
    """Take ``count`` texts with a NUL after each; how much is left after them."""
    cdef const char* end = at[0] + n
    cdef const char* nul
    cdef int i
    for i in range(count):
        nul = <const char*>memchr(at[0], 0, end - at[0])
        if nul == NULL:
            raise UsageError(f"a call without its {count} names")
        parts[i].data = at[0]
        parts[i].length = nul - at[0]
        at[0] = nul + 1
    return end - at[0]
