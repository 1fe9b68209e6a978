from libc.stdint cimport int64_t

from dragoman.balance.policies cimport Candidate, Target
from dragoman.budget cimport Budget
from dragoman.flow.breaker cimport Breaker
from dragoman.rpc.client_session cimport ClientSession, SessionOwner
from dragoman.rpc.tick cimport Tick
from dragoman.timers cimport Timed

cdef enum:
    CONNECTING = 0
    READY = 1
    DOWN = 2
    DRAINING = 3


cdef class Peer(Target)


cdef class PeerUser(Candidate):
    cdef readonly Peer peer
    # How many calls it has told the peer to wait, and whether it stands in the peer's line.
    cdef int64_t _told
    cdef bint _in_line

    cdef str user_name(self)
    cdef void moved(self)
    cdef bint waits(self)
    cdef void fed(self, int64_t most)
    cdef void tell(self, int64_t waiting)
    cdef void stand_in_line(self)


cdef class Peer(Target):
    cdef readonly Peers peers
    cdef readonly str address
    cdef object _key
    cdef object _options
    cdef readonly object link
    # The link, if it is no plain one.
    cdef object special
    cdef ClientSession session
    cdef PeerOwner _owner
    cdef readonly int state
    cdef readonly str reason
    cdef readonly Breaker breaker
    # What was said of it last that speaks against it. It is told to any caller, so it holds
    # nothing of what one of them has sent.
    cdef readonly str aside
    # When it last showed that it lives, when it was first asked for something after that, and how
    # many calls it let pass their deadline since.
    cdef int64_t replied_us
    cdef int64_t asked_us
    cdef int missed
    # Set aside only for its silence, which may be one slow call.
    cdef bint suspect
    cdef int64_t _suspect_until_us
    # One call may find out whether it is well again.
    cdef bint window
    cdef bint _held
    cdef readonly dict users
    cdef object _line
    cdef bint _feeding
    cdef int64_t _wanted
    cdef list _untold
    cdef Checkup _checkup

    cdef void refresh(self)
    cdef void feed(self)
    cdef bint contested(self, PeerUser by)
    cdef void heard(self)
    cdef void failed(self, int64_t now, str why)
    cdef void missed_one(self, int64_t sent_us, int64_t now)
    cdef void look_silent(self, int64_t now, int64_t silence_us)
    cdef int _late(self, int64_t now, int64_t silence_us)
    cdef void fell_silent(self, int64_t now, str why)
    cdef void _set_aside(self, str why)
    cdef void survey(self)
    cdef void tell_users(self)
    cdef str names(self)
    cdef void join(self, PeerUser user)
    cdef void leave(self, PeerUser user)
    cdef void _end(self)
    cdef void end_calls(self, PeerUser user)


cdef class PeerOwner(SessionOwner):
    cdef Peer peer


cdef class Checkup(Timed):
    cdef Peer peer


cdef class Peers:
    cdef readonly object loop
    cdef Tick tick
    cdef readonly object dialer
    cdef readonly bytes identity
    cdef readonly Budget budget
    cdef dict _by_key

    cdef Peer at(self, options, registration)
