cdef enum:
    ARGUMENTS_MAX = 255

cdef object read_json_call(bytes body)
cdef int check_names(attachments) except -1
cdef object fit_argument(int i, bytes raw, kind, bint beans, dict fields)
cdef list generic_arguments(str method, types, kinds, list raws, bint gson, dict fields)
cdef list java_names(types)
cdef str guess_type(bytes raw)
