cdef int descriptor_count(const char* descriptor, Py_ssize_t n) noexcept nogil
cdef str descriptor_from_types(types)
cpdef list split_descriptor(str descriptor)
cdef str one_descriptor(str text)
