cdef str natural_descriptor(object value)
cdef object mapping_of_value(value)
cdef object plain_value(value)
