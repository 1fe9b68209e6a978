from libc.stdint cimport int32_t, uint64_t


cdef uint64_t next_random(uint64_t* state) noexcept nogil
cdef void fill_alphanumeric(uint64_t* state, char* to, Py_ssize_t n) noexcept nogil
cdef int32_t java_hash(const char* text, Py_ssize_t n) noexcept nogil
cdef bytes random_question(bytes head, uint64_t* state, int32_t* expected)
cdef bint is_answer(const char* text, Py_ssize_t n, int32_t expected) noexcept nogil
