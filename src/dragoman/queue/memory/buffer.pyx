"""A buffer that grows: records of META, frames of the journal, directories of segments.

Whoever has it frees ``data``. The invariant: what did not fit for want of memory changed nothing.
"""

from libc.stddef cimport size_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from dragoman.queue.memory.errors cimport DONE, NO_MEMORY
from dragoman.queue.memory.state cimport Bytes


cdef int bytes_reserve(Bytes* b, size_t more) noexcept nogil:
    """Room for ``more`` bytes behind ``length``. DONE or NO_MEMORY."""
    cdef size_t capacity = b.capacity if b.capacity else 4096
    cdef char* data
    if b.length + more <= b.capacity:
        return DONE
    while capacity < b.length + more:
        capacity *= 2
    data = <char*>realloc(b.data, capacity)
    if data == NULL:
        return NO_MEMORY
    b.data = data
    b.capacity = capacity
    return DONE


cdef int bytes_add(Bytes* b, const void* data, size_t n) noexcept nogil:
    """Append. DONE or NO_MEMORY."""
    if bytes_reserve(b, n) != DONE:
        return NO_MEMORY
    memcpy(b.data + b.length, data, n)
    b.length += n
    return DONE
