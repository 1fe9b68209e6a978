from libc.stdint cimport int64_t

from dragoman.cluster.choice cimport Choice
from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints


cdef void attempt_failed(
    Endpoints service, Choice choice, Endpoint endpoint, int64_t sent_us, bint answered, int code,
    str message, int64_t now,
)
cdef void missed_deadline(Endpoint endpoint, int64_t sent_us, int64_t now)
cdef void did_well(Endpoints service, Endpoint endpoint, int64_t sent_us)
