"""Why a service can take no call now, in words for the caller and in a code.

``cluster.service`` asks when a call can neither be sent nor wait. What is said names one endpoint
and holds nothing of what any caller has sent.
"""

from dragoman.cluster.endpoint cimport Endpoint
from dragoman.cluster.endpoints cimport Endpoints

from dragoman.errors import Code


cdef tuple none_viable(Endpoints service):
    """The code and the words for a call to a service that no endpoint can serve now."""
    if service._ready:
        return (
            Code.OVERLOAD if _all_full(service) else Code.UNAVAILABLE, why_aside(service)
        )
    if service.endpoints:
        return Code.UNAVAILABLE, why_away(service)
    if service.unusable:
        address, why = next(iter(service.unusable.items()))
        return Code.UNAVAILABLE, f"no provider of this service can be used: {address}: {why}"
    if service.known:
        return Code.UNAVAILABLE, "no provider of this service is registered"
    return Code.UNAVAILABLE, unread(service)


cdef str unread(Endpoints service):
    """Why it is not known who serves."""
    return service.why_unread() if service.why_unread else "the registry has not been read yet"


cdef bint _all_full(Endpoints service):
    """Whether it is by their own word that they are full that no endpoint takes part."""
    cdef Endpoint endpoint
    for endpoint in service._ready:
        if endpoint.peer.breaker.open or not endpoint.full:
            return False
    return True


cdef str why_aside(Endpoints service):
    """Why none of the endpoints that are there takes part: what was said of one of them."""
    cdef Endpoint endpoint
    cdef str why
    for endpoint in service._ready:
        why = endpoint.why_aside()
        if why is not None:
            return (
                "every provider of this service has been set aside: "
                f"{endpoint.address}: {why}"
            )
    return "every provider of this service has been set aside"


cdef str why_away(Endpoints service):
    """Why none of the endpoints can be reached: what was said of one of them."""
    cdef Endpoint endpoint
    for endpoint in service.endpoints.values():
        if endpoint.reason is not None:
            return (
                "no provider of this service can be reached: "
                f"{endpoint.address}: {endpoint.reason}"
            )
    return "no provider of this service can be reached"
