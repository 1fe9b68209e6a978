"""A Dubbo status, with the text that came with it, as an error code of the mesh.

``dubbo.upstream.egress`` asks for what a provider answered under another status than 20.
``agent.contract`` makes HTTP statuses of the codes.
"""

from dragoman.wire.dubbo.frame cimport (
    DUBBO_BAD_REQUEST, DUBBO_BAD_RESPONSE, DUBBO_CHANNEL_INACTIVE, DUBBO_CLIENT_TIMEOUT,
    DUBBO_POOL_EXHAUSTED, DUBBO_SERIALIZATION_ERROR, DUBBO_SERVER_ERROR, DUBBO_SERVER_TIMEOUT,
    DUBBO_SERVICE_ERROR, DUBBO_SERVICE_NOT_FOUND,
)

from dragoman.dubbo.no_method import says_no_such_method
from dragoman.errors import Code

cdef int C_MALFORMED = Code.MALFORMED
cdef int C_NOT_FOUND = Code.NOT_FOUND
cdef int C_OVERLOAD = Code.OVERLOAD
cdef int C_UNAVAILABLE = Code.UNAVAILABLE
cdef int C_DEADLINE = Code.DEADLINE
cdef int C_REMOTE = Code.REMOTE
cdef int C_UPSTREAM_PROTOCOL = Code.UPSTREAM_PROTOCOL
cdef int C_UPSTREAM_LOST = Code.UPSTREAM_LOST
cdef int C_BAD_RESULT = Code.BAD_RESULT

NOT_EXPORTED = "Not found exported service"


cdef bint is_retry_safe(int code) noexcept:
    """Whether a request that was answered with this code certainly did not run."""
    return code == C_OVERLOAD or code == C_UNAVAILABLE or code == C_NOT_FOUND


cdef int code_of_status(int status, str why):
    """Dubbo's status, with the text that came with it, as an error code."""
    if status == DUBBO_POOL_EXHAUSTED:
        return C_OVERLOAD
    if status == DUBBO_SERVICE_NOT_FOUND:
        return C_NOT_FOUND
    if status == DUBBO_SERVICE_ERROR and NOT_EXPORTED in why:
        # Whoever registered it serves it no more: some say so on their connections only later.
        return C_UNAVAILABLE
    if (status == DUBBO_BAD_REQUEST or status == DUBBO_SERVICE_ERROR) and says_no_such_method(why):
        # No reason to take the provider from other callers.
        return C_NOT_FOUND
    if status == DUBBO_SERVER_TIMEOUT or status == DUBBO_CLIENT_TIMEOUT:
        return C_DEADLINE
    if status == DUBBO_BAD_REQUEST:
        return C_MALFORMED
    if status == DUBBO_CHANNEL_INACTIVE:
        return C_UPSTREAM_LOST
    if status == DUBBO_SERVICE_ERROR or status == DUBBO_SERVER_ERROR:
        return C_REMOTE
    if status == DUBBO_BAD_RESPONSE or status == DUBBO_SERIALIZATION_ERROR:
        # The method ran, and what it returned could not be put on the wire.
        return C_BAD_RESULT
    return C_UPSTREAM_PROTOCOL


cdef str without_call(str why):
    """What says that a service is not exported, without what was called and with which arguments,
    which Java puts behind it: other callers are told of it too.
    """
    cdef Py_ssize_t i = why.find(NOT_EXPORTED)
    if i < 0:
        return why
    return why[i:].partition(" in [")[0].partition(", ")[0]
