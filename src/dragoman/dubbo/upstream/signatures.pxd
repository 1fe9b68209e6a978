from dragoman.wire.json.string cimport Slice
from dragoman.wire.json.usual_call cimport UsualCall

cdef enum:  # what needs no object between JSON and hessian2; OF_ANY does
    OF_ANY = 0
    OF_TEXT = 1
    OF_INT = 2
    OF_LONG = 3
    OF_DOUBLE = 4
    OF_BOOLEAN = 5


cdef class Signature:
    cdef readonly bytes descriptor   # of all parameters
    cdef readonly bint generic       # some class is the provider's own
    cdef list kinds         # JavaType of each
    cdef list descriptors   # of each
    cdef list names         # as generic invocation names them
    cdef bytes forms        # OF_* of each
    cdef bytes natural      # 1 where nothing is to be fitted
    cdef dict fields        # class -> field -> type


cdef Signature signature_of(const UsualCall* call)
cdef bint whole_number(const Slice* json, long long* value) noexcept nogil
