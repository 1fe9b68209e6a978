cdef struct FormField:
    const char* name
    Py_ssize_t name_length
    const char* value
    Py_ssize_t value_length
    bint name_encoded   # holds % or +
    bint value_encoded  # holds % or +: decode it; otherwise it is the value as it stands


cdef struct FormCursor:
    const char* at
    const char* end


cdef enum:  # what find_field and read_known_fields return beside a count
    FORM_REPEATED = -1
    FORM_TOO_MANY = -2
    FORM_MALFORMED = -3


cdef void begin_form(FormCursor* cursor, const char* body, Py_ssize_t n) noexcept nogil
cdef bint next_field(FormCursor* cursor, FormField* field) noexcept nogil
cdef Py_ssize_t decode(const char* source, Py_ssize_t n, char* to) noexcept nogil
cdef bint is_name(const FormField* field, const char* name, Py_ssize_t n) noexcept nogil
cdef int find_field(
    const char* body, Py_ssize_t n, const char* name, Py_ssize_t name_length, FormField* field
) noexcept nogil
cdef int read_known_fields(
    const char* body,
    Py_ssize_t n,
    const char** names,
    const Py_ssize_t* name_lengths,
    int known,
    int fields_max,
    FormField* fields,
) noexcept nogil
cdef bint valid_utf8(const char* source, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t encoded_length(const char* source, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t encode(const char* source, Py_ssize_t n, char* to) noexcept nogil
