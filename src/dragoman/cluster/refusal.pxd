from dragoman.cluster.endpoints cimport Endpoints


cdef tuple none_viable(Endpoints service)
cdef str unread(Endpoints service)
cdef str why_aside(Endpoints service)
cdef str why_away(Endpoints service)
