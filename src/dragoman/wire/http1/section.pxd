from cpython.object cimport PyObject

from dragoman.budget cimport Budget


cdef enum:
    # A received object above this size is not kept for the sake of a small part of it.
    LARGE_BYTES = 16384


cdef class SectionDecoder:
    # limits
    cdef Py_ssize_t head_bytes_max
    cdef Py_ssize_t fields_max
    cdef Py_ssize_t body_bytes_max
    # what is being read
    cdef bytes data
    cdef const unsigned char* base
    cdef Py_ssize_t position
    cdef Py_ssize_t end
    cdef Py_ssize_t start           # of the message's head in data
    cdef int state
    cdef bint in_head               # data[start:] must be kept: offsets into it are in use
    cdef bint in_trailers
    cdef Py_ssize_t budget          # bytes that this section may still take
    # offsets from the head's start
    cdef Py_ssize_t name_at
    cdef Py_ssize_t name_end
    cdef Py_ssize_t value_at
    cdef Py_ssize_t value_end
    # the message
    cdef Py_ssize_t fields
    cdef Py_ssize_t content_length  # -1 without one
    cdef int coding
    cdef bint http10
    cdef bint said_close
    cdef bint said_keep_alive
    cdef readonly bint keep_alive
    cdef readonly int content_kind
    cdef bint mid_message           # bytes of an unfinished message are held
    cdef const char* origin         # where the head begins, in data or head
    cdef bytes head                 # what the head's pointers point into while the body arrives
    cdef const char* body
    cdef Py_ssize_t body_length
    cdef bytes owner                # what body points into
    cdef PyObject* held             # the body while it is put together
    cdef Budget memory              # where unfinished messages count, unless None
    cdef Py_ssize_t counted
    # wanted fields
    cdef int wanted_count
    cdef const char* wanted_name[8]
    cdef Py_ssize_t wanted_name_length[8]
    cdef Py_ssize_t wanted_at[8]        # -1: not seen
    cdef const char* wanted_value[8]
    cdef Py_ssize_t wanted_length[8]
    cdef unsigned int wanted_lengths    # bit n: some wanted name is n bytes long
    cdef tuple wanted_names
    # the verdict
    cdef readonly int status
    cdef readonly str reason

    cdef int receive(self, bytes data) except -2
    cdef Py_ssize_t buffered(self) noexcept
    cdef int need_more(self) noexcept
    cdef int fail(self, int status, str reason) noexcept
    cdef void count(self, Py_ssize_t n) noexcept
    cdef void drop(self) noexcept
    cdef void begin_head(self) noexcept
    cdef int read_fields(self) noexcept
    cdef int field(
        self, const unsigned char* name, Py_ssize_t n, const unsigned char* value, Py_ssize_t length
    ) noexcept
    cdef int common_field(
        self, const unsigned char* name, Py_ssize_t n, const unsigned char* value, Py_ssize_t length
    ) noexcept
    cdef void publish(self) noexcept


cdef inline const unsigned char* readable_end(SectionDecoder decoder) noexcept:
    """What may be read ends there: what has come, or what the section may still take."""
    cdef const unsigned char* p = decoder.base + decoder.position
    cdef const unsigned char* stop = decoder.base + decoder.end
    return p + decoder.budget if stop - p > decoder.budget else stop


cdef inline void advance(SectionDecoder decoder, const unsigned char* p, int state) noexcept:
    """The section has been read up to ``p``; go on there in ``state``."""
    cdef Py_ssize_t position = p - decoder.base
    decoder.budget -= position - decoder.position
    decoder.position = position
    decoder.state = state


cdef inline int pause(
    SectionDecoder decoder, const unsigned char* p, int state, int status, str too_large
) noexcept:
    """``advance`` to the readable end: more must come, or the section is too large."""
    advance(decoder, p, state)
    return decoder.fail(status, too_large) if decoder.budget == 0 else 0
