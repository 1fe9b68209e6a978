"""Names, lists and messages as callers give them.

For ``put``, ``get`` and ``queues``. The invariant: a wrong argument is a UsageError that says what
was expected, before anything has been done.
"""

from dragoman.errors import UsageError

from cpython.list cimport PyList_CheckExact

from dragoman.queue.memory.layout cimport NAME_MAX

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL


cdef int name_slowly(object queue, const char** name, Py_ssize_t* n) except -1:
    """Names that are text, and errors for those that are no names."""
    if isinstance(queue, str):
        try:
            name[0] = PyUnicode_AsUTF8AndSize(queue, n)
        except UnicodeEncodeError:
            raise UsageError("a queue's name has a lone surrogate, which is not text") from None
    elif isinstance(queue, bytes):
        name[0] = <const char*>queue
        n[0] = len(queue)
    else:
        raise UsageError(f"a queue's name is str or bytes, not {type(queue).__name__}")
    if n[0] < 1 or n[0] > NAME_MAX:
        raise UsageError(f"a queue's name has 1 to 65536 bytes, not {n[0]}")
    return 0


cdef list listed(object values, str expected):
    """The values as a list, itself if it is one; ``expected`` is the error's text."""
    if PyList_CheckExact(values):
        return <list>values
    try:
        values = iter(values)
    except TypeError:
        raise UsageError(f"{expected}, not {type(values).__name__}") from None
    return list(values)


cdef bytes message_of(object message):
    """The bytes of a message that is no ``bytes``."""
    if not isinstance(message, (bytes, bytearray, memoryview)):
        raise UsageError(f"a message is bytes, not {type(message).__name__}")
    return bytes(message)
