"""A growable byte buffer that encoders write into and links send from.

Encoders of every codec append to one of these; a link owns one, gathers all that is written in a
turn of its loop, and takes it out in one piece. The invariant: ``length <= capacity``, and
``data[:length]`` is what has been written since the last ``take`` or ``clear``.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

# What an emptied buffer keeps: the usual gathering of one turn. A larger one goes back to the
# allocator.
cdef size_t KEEP_BYTES = 262144
# What a buffer begins with: little, since there may be one for each of thousands of connections.
cdef size_t LEAST_BYTES = 512
# From here on it grows by a quarter.
cdef size_t LARGE_BYTES = 1048576


@cython.no_gc_clear
cdef class Buffer:
    """Bytes gathered by encoders. ``bytes(buffer)`` copies them, ``take()`` also empties it."""

    def __cinit__(self):
        self.data = NULL
        self.length = 0
        self.capacity = 0

    def __dealloc__(self):
        if self.budget is not None:
            self.budget.give(self.capacity)
        free(self.data)

    cdef char* reserve(self, size_t n) except NULL:
        """Make room for ``n`` more bytes and return where they go; the caller then adds to
        ``length``.
        """
        cdef size_t needed = self.length + n
        cdef size_t capacity
        cdef char* data
        if needed > self.capacity or self.data == NULL:
            capacity = self.capacity * 2 if self.capacity else LEAST_BYTES
            while capacity < needed:
                capacity *= 2
            if capacity > LARGE_BYTES and needed + needed // 4 < capacity:
                # No memory for what is not there.
                capacity = needed + needed // 4
            data = <char*>realloc(self.data, capacity)
            if data == NULL:
                raise MemoryError(f"no memory for a buffer of {capacity} bytes")
            if self.budget is not None:
                self.budget.take(capacity - self.capacity)
            self.data = data
            self.capacity = capacity
        return self.data + self.length

    cdef int append(self, const void* source, size_t n) except -1:
        """Copy ``n`` bytes to the end."""
        memcpy(self.reserve(n), source, n)
        self.length += n
        return 0

    cdef bytes take(self):
        """All that was written, as bytes; the buffer is empty afterwards."""
        cdef bytes result = PyBytes_FromStringAndSize(self.data, self.length)
        self.clear()
        return result

    cdef void clear(self) noexcept:
        self.length = 0
        if self.capacity > KEEP_BYTES:
            self.drop()

    cdef void release(self) noexcept:
        """Give an empty buffer's memory back."""
        if self.length == 0:
            self.drop()

    cdef void drop(self) noexcept:
        """Forget what was written, and give the memory back."""
        if self.budget is not None:
            self.budget.give(self.capacity)
        free(self.data)
        self.data = NULL
        self.length = 0
        self.capacity = 0

    def write(self, const unsigned char[::1] source not None):
        """Append a bytes-like object (for tests and cold paths)."""
        if source.shape[0]:
            self.append(&source[0], source.shape[0])

    def __len__(self):
        return self.length

    def __bytes__(self):
        return PyBytes_FromStringAndSize(self.data, self.length)
