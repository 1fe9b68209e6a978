cdef str exception_text(const char* json, Py_ssize_t n)
cdef str throwable_text(value)
