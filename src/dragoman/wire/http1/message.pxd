from dragoman.wire.http1.chunk_line cimport ChunkLine
from dragoman.wire.http1.section cimport SectionDecoder


cdef enum:
    BODY_FOLLOWS = 3  # what head_done returns beside an event: the body has not come whole


cdef class MessageDecoder(SectionDecoder):
    # the body while it is put together
    cdef Py_ssize_t held_length
    cdef Py_ssize_t held_capacity
    cdef Py_ssize_t remaining
    cdef ChunkLine chunk_line

    cdef int next_event(self) noexcept
    cdef int read_start_line(self) noexcept
    cdef int head_done(self) noexcept
    cdef int check_framing(self) noexcept
    cdef int begin_body(self) noexcept
    cdef void keep_head(self) noexcept
    cdef int read_body(self) noexcept
    cdef int read_chunk_line(self) noexcept
    cdef int hold(self, const unsigned char* source, Py_ssize_t n, Py_ssize_t most) noexcept
    cdef void complete(self) noexcept
    cdef dict values(self)
    cdef bytes content(self)
