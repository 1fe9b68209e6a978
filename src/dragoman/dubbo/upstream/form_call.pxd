from dragoman.wire.buffer cimport Buffer
from dragoman.wire.json.string cimport Slice

cdef int read_form(const char* body, Py_ssize_t n, Buffer scratch, Slice* values) except -1
