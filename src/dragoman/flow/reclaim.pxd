from dragoman.flow.shares cimport Holder, Shares


cdef void welcome(Shares shares)
cdef void ask_back(Shares shares)
cdef void forget_asked(Shares shares, Holder holder) noexcept
