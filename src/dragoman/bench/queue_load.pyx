"""The messages of the queue benchmark, and whether those that were read are the ones that were put.

Called by ``dragoman.bench.queue_ring``. A message is random-looking bytes that depend on the seed
and on its place in the ring alone; no store can have guessed it.
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


def messages(uint64_t seed, Py_ssize_t count, uint64_t slot, Py_ssize_t size):
    """The ``count`` messages of one slot of the ring."""
    cdef list result = []
    cdef bytes message
    cdef Py_ssize_t i
    for i in range(count):
        message = PyBytes_FromStringAndSize(NULL, size)
        _fill(PyBytes_AS_STRING(message), size, seed, i, slot)
        result.append(message)
    return result


def wrong(list slots not None, Py_ssize_t part, Py_ssize_t step, Py_ssize_t queue,
          Py_ssize_t offset, Py_ssize_t count, list got not None):
    """How many of ``queue``'s messages from ``offset`` on are missing, too many or other.

    Message ``offset`` of a queue is in slot ``offset * step + queue // part`` of the ring, which
    begins anew at its end, at ``queue % part``.
    """
    cdef Py_ssize_t i
    cdef Py_ssize_t bad = abs(count - len(got))
    cdef Py_ssize_t around = len(slots)
    cdef Py_ssize_t at = queue // part
    cdef Py_ssize_t place = queue % part
    cdef object message, expected
    for i in range(min(count, len(got))):
        message = got[i]
        expected = (<list?>slots[(at + (offset + i) * step) % around])[place]
        if (
            not PyBytes_CheckExact(message) or not PyBytes_CheckExact(expected)
            or PyBytes_GET_SIZE(message) != PyBytes_GET_SIZE(expected)
            or memcmp(
                PyBytes_AS_STRING(message), PyBytes_AS_STRING(expected), PyBytes_GET_SIZE(expected)
            ) != 0
        ):
            bad += 1
    return bad


def keyed(unsigned int queue, unsigned int offset, list made not None):
    """Pairs of key and message for stores that sort: message ``offset`` of each of the queues from
    number ``queue`` on. A key is both numbers, the first byte the highest."""
    cdef unsigned char key[8]
    cdef list result = []
    cdef Py_ssize_t i
    cdef int k
    for k in range(4):
        key[4 + k] = <unsigned char>(offset >> (24 - 8 * k))
    for i in range(len(made)):
        for k in range(4):
            key[k] = <unsigned char>((queue + i) >> (24 - 8 * k))
        result.append((PyBytes_FromStringAndSize(<char*>key, 8), made[i]))
    return result
