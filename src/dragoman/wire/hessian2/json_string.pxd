from libc.stdint cimport uint8_t

from dragoman.wire.buffer cimport Buffer
from dragoman.wire.hessian2.string cimport StringShape

cdef int write_json_units(Buffer out, const uint8_t* p, const StringShape* shape) except -1
