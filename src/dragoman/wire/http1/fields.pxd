cdef enum:  # what the transfer coding is
    TE_NONE
    TE_CHUNKED
    TE_BAD
    TE_UNKNOWN


cdef bint is_framing(const unsigned char* name, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t parse_length(const unsigned char* p, Py_ssize_t n) noexcept nogil
cdef int parse_coding(const unsigned char* p, Py_ssize_t n) noexcept nogil
cdef bint tab_around(const unsigned char* value, Py_ssize_t length) noexcept nogil
cdef int parse_content_type(const unsigned char* p, Py_ssize_t n) noexcept nogil
cdef bint has_option(
    const unsigned char* p, Py_ssize_t n, const char* option, Py_ssize_t length
) noexcept nogil
