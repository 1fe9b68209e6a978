"""The endpoint that a key belongs to: weighted rendezvous hashing.

Every endpoint has a score for every key, by a hash of both; the highest wins. When an endpoint
goes, only its own keys move, each to its second choice; when one comes, it takes its share of keys
from all others. Nothing is stored, and every program computes the same. Pure; called by
``cluster.line`` for calls with an ``order_key``.

Invariant: the choice depends on the key and the candidates' names and weights, not on their order.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from libc.math cimport log
from libc.stdint cimport uint64_t

from dragoman.balance.policies cimport Candidate


cdef inline uint64_t mixed(uint64_t x) noexcept:
    """Every bit of the result depends on every bit of ``x`` (the finalizer of splitmix64)."""
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef uint64_t hash_of(bytes data) noexcept:
    """FNV-1a with 64 bits: the same in every program."""
    cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef uint64_t h = <uint64_t>0xCBF29CE484222325
    cdef Py_ssize_t i
    for i in range(PyBytes_GET_SIZE(data)):
        h = (h ^ at[i]) * <uint64_t>0x100000001B3
    return h


cdef Py_ssize_t home(list candidates, bytes key) noexcept:
    """Index of the candidate that ``key`` belongs to, whatever its room; -1 when there are none.

    With u evenly spread over (0, 1), weight / -log(u) is highest in proportion to the weights.
    """
    cdef uint64_t of_key = mixed(hash_of(key))
    cdef Py_ssize_t i, best = -1
    cdef double score, highest = -1.0
    cdef Candidate candidate
    for i in range(PyList_GET_SIZE(candidates)):
        candidate = <Candidate>PyList_GET_ITEM(candidates, i)
        score = candidate.weight / -log(
            (<double>(mixed(of_key ^ candidate.identity) >> 11) + 0.5) / 9007199254740992.0
        )
        if score > highest:
            highest = score
            best = i
    return best


def home_of(names not None, bytes key not None, weights=None):
    """The one of ``names`` that ``key`` belongs to, or None when there are none."""
    cdef Candidate candidate
    cdef list candidates = []
    cdef Py_ssize_t i
    for i, name in enumerate(names):
        candidate = Candidate(1.0 if weights is None else weights[i])
        candidate.identity = hash_of(name.encode())
        candidates.append(candidate)
    i = home(candidates, key)
    return names[i] if i >= 0 else None
