from dragoman.dubbo.upstream.connection cimport DubboConnection, ProviderState


cdef class DubboLink(ProviderState):
    cdef DubboConnection pick(self)
