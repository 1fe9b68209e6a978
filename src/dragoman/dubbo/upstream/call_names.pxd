from dragoman.wire.dubbo.fastjson_request cimport Invocation
from dragoman.wire.json.string cimport Slice

cdef str method_name(const Invocation* invocation)
cdef Py_ssize_t read_names(const char** at, Py_ssize_t n, Slice* parts, int count) except -1
