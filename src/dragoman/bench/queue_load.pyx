"""The messages of the queue benchmark: made from where they belong, so that each can be checked.

Called by ``dragoman.bench.queue``. A message is random-looking bytes that depend on seed, queue and
offset alone; no store can have guessed it, and no table of what was put is needed.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize
from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy


cdef inline uint64_t _step(uint64_t* state) noexcept nogil:
    cdef uint64_t z
    state[0] += 0x9E3779B97F4A7C15ULL
    z = state[0]
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL
    return z ^ (z >> 29)


cdef inline void _fill(
    char* into, Py_ssize_t size, uint64_t seed, uint64_t queue, uint64_t offset
) noexcept nogil:
    cdef uint64_t state = seed ^ queue * 0xD6E8FEB86659FD93ULL ^ offset * 0xA0761D6478BD642FULL
    cdef uint64_t word
    cdef Py_ssize_t at = 0
    while at + 8 <= size:
        word = _step(&state)
        memcpy(into + at, &word, 8)
        at += 8
    word = _step(&state)
    memcpy(into + at, &word, size - at)


def messages(uint64_t seed, uint64_t queue, Py_ssize_t queues, uint64_t offset, Py_ssize_t size):
    """The message at ``offset`` of each of ``queues`` queues from number ``queue`` on."""
    cdef list result = []
    cdef bytes message
    cdef Py_ssize_t i
    for i in range(queues):
        message = PyBytes_FromStringAndSize(NULL, size)
        _fill(PyBytes_AS_STRING(message), size, seed, queue + i, offset)
        result.append(message)
    return result


def wrong(uint64_t seed, uint64_t queue, uint64_t offset, Py_ssize_t size, Py_ssize_t count,
          list got not None):
    """The number of ``queue``'s messages from ``offset`` on that are missing, too many or other."""
    cdef char[65536] expected
    cdef Py_ssize_t i
    cdef Py_ssize_t bad = abs(count - len(got))
    cdef object message
    if size > 65536:
        raise ValueError("messages of the benchmark have at most 65536 bytes")
    for i in range(min(count, len(got))):
        message = got[i]
        _fill(expected, size, seed, queue, offset + i)
        if (
            not PyBytes_CheckExact(message) or PyBytes_GET_SIZE(message) != size
            or memcmp(PyBytes_AS_STRING(message), expected, size) != 0
        ):
            bad += 1
    return bad
