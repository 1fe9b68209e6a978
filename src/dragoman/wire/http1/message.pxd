from cpython.object cimport PyObject

from dragoman.budget cimport Budget


cdef enum:  # states of a decoder, in the order in which a message passes them
    S_START        # before the first byte of a message
    S_START_LF     # after the CR of the one empty line allowed there
    S_START_AGAIN  # after that empty line
    S_METHOD       # request line
    S_TARGET
    S_VERSION      # request line, or the start of a status line
    S_CODE         # status line
    S_PHRASE
    S_START_LINE_LF
    S_LINE         # a field line, or the CR that ends the section
    S_NAME
    S_LEADING
    S_VALUE
    S_VALUE_LF
    S_SECTION_LF
    S_BODY_LENGTH
    S_BODY_CLOSE   # a response's body that the end of the connection ends
    S_CHUNK_FIRST
    S_CHUNK_SIZE
    S_CHUNK_EXT_NAME_FIRST
    S_CHUNK_EXT_NAME
    S_CHUNK_EXT_VALUE_FIRST
    S_CHUNK_EXT_VALUE
    S_CHUNK_EXT_QUOTED
    S_CHUNK_EXT_ESCAPED
    S_CHUNK_EXT_QUOTED_END
    S_CHUNK_LF
    S_CHUNK_DATA
    S_CHUNK_DATA_CR
    S_CHUNK_DATA_LF
    S_CLOSED       # the last message said close: what follows is discarded
    S_DEAD         # after an error: what follows is discarded


cdef class MessageDecoder:
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
    cdef const char* origin         # where the head begins, in data or head
    cdef bytes head                 # what the head's pointers point into while the body arrives
    cdef const char* body
    cdef Py_ssize_t body_length
    cdef bytes owner                # what body points into
    # the body while it is put together
    cdef PyObject* held
    cdef Py_ssize_t held_length
    cdef Py_ssize_t held_capacity
    cdef Py_ssize_t remaining
    cdef Py_ssize_t extension_bytes
    cdef int size_digits
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
    cdef bint mid_message

    cdef int receive(self, bytes data) except -2
    cdef int next_event(self) noexcept
    cdef Py_ssize_t buffered(self) noexcept
    cdef int fail(self, int status, str reason) noexcept
    cdef void begin_head(self) noexcept
    cdef int read_start_line(self) noexcept
    cdef int field(
        self, const unsigned char* name, Py_ssize_t n, const unsigned char* value, Py_ssize_t length
    ) noexcept
    cdef int common_field(
        self, const unsigned char* name, Py_ssize_t n, const unsigned char* value, Py_ssize_t length
    ) noexcept
    cdef int head_done(self) noexcept
    cdef int check_framing(self) noexcept
    cdef int begin_body(self) noexcept
    cdef void keep_head(self) noexcept
    cdef void publish(self) noexcept
    cdef int need_more(self) noexcept
    cdef int read_fields(self) noexcept
    cdef int read_body(self) noexcept
    cdef int read_chunk_line(self) noexcept
    cdef int hold(self, const unsigned char* source, Py_ssize_t n, Py_ssize_t most) noexcept
    cdef void complete(self) noexcept
    cdef void count(self, Py_ssize_t n) noexcept
    cdef void drop(self) noexcept
