"""What a call to a provider names beside itself, and what may be called there.

``dubbo.upstream.encode_request`` makes its requests with it. Invariant: where ``interfaces`` are
given, no call leaves for another one, under whatever mesh method, generic or not.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcmp, memset

from dragoman.errors import NotFoundError

cdef enum:
    INTERFACE_SHOWN_MAX = 200


cdef class Target:
    """What a provider serves.

    ``interfaces`` are those that may be called; None: any. ``path`` is what it serves the interface
    under, if that is not the interface's name; one that ends with ``/`` stands before the name.
    ``token`` is what its calls must show.
    """

    def __init__(self, str group, str version, str path, str token, interfaces):
        self._group = group.encode() if group else None
        self._version = version.encode() if version else None
        self._path = path.encode() if path else None
        self._before = path.endswith("/")
        self._whole_path = Buffer()
        self._token = token.encode() if token else None
        self._interfaces = None if interfaces is None else [name.encode() for name in interfaces]

    cdef void invocation(self, Invocation* to, uint32_t timeout_ms) noexcept:
        """Begin a call to this provider, which may take ``timeout_ms``; 0 for no word of that."""
        memset(to, 0, sizeof(Invocation))
        point(&to.group, self._group)
        point(&to.service_version, self._version)
        point(&to.token, self._token)
        to.lengths = self._lengths
        to.timeout_ms = timeout_ms

    cdef int serve_under(self, Invocation* call) except -1:
        """Name the path of the call's interface, if it is not the interface's own name."""
        if self._path is None:
            return 0
        if not self._before:
            point(&call.path, self._path)
            return 0
        self._whole_path.clear()
        self._whole_path.append(PyBytes_AS_STRING(self._path), len(self._path))
        self._whole_path.append(call.interface.data, call.interface.length)
        call.path.data = self._whole_path.data
        call.path.length = self._whole_path.length
        return 0

    cdef int check_interface(self, const Slice* name) except -1:
        """Refuse what is not among the interfaces that may be called."""
        cdef Py_ssize_t i = self._asked_last, tried
        cdef bytes interface
        if self._interfaces is None:
            return 0
        for tried in range(len(self._interfaces)):
            interface = <bytes>self._interfaces[i]
            if len(interface) == name.length and memcmp(
                PyBytes_AS_STRING(interface), name.data, name.length
            ) == 0:
                self._asked_last = i
                return 0
            i = i + 1 if i + 1 < len(self._interfaces) else 0
        asked = name.data[:min(name.length, INTERFACE_SHOWN_MAX)].decode("utf-8", "replace")
        raise NotFoundError(f"this provider's agent serves no interface {asked!r} (--interface)")


cdef void point(Slice* slice, bytes text) noexcept:
    """Let a Slice borrow from ``text``; None is absent."""
    slice.data = NULL if text is None else PyBytes_AS_STRING(text)
    slice.length = 0 if text is None else len(text)
