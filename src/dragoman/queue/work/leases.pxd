from libc.stdint cimport int64_t, uint32_t


cdef struct Slot:
    double due_s
    uint32_t serial  # of the last giving
    unsigned char status
    unsigned char attempts
    unsigned char saved  # attempts that a crash would leave


cdef class Message:
    cdef readonly int64_t offset
    cdef readonly int attempts
    cdef readonly bytes body
    cdef readonly uint32_t serial
    cdef readonly bytes life


cdef class Leases:
    cdef readonly int64_t floor
    cdef readonly int64_t next
    cdef public int64_t mark
    cdef readonly int64_t out
    cdef readonly double alarm_s
    cdef public bint unsaved
    cdef readonly list dead
    cdef int64_t window
    cdef int attempts_max
    cdef Slot* slots
    cdef int64_t mask
    cdef uint32_t serial
    cdef list ready
    cdef dict keys  # of what is not done; None: there are none
    cdef dict busy  # by key: what waits for the one that is out or to be given

    cdef int _room(self, int64_t span) except -1
    cdef int _again(self, int64_t at, unsigned char status) except -1
    cdef Message _give(self, int64_t at, bytes body, double due_s, bytes life)
    cdef bint _first_of_key(self, int64_t at, key) except -1
    cdef int _done(self, int64_t at) except -1
    cdef void _advance(self) noexcept
    cdef bint _settle(self, int kind, int64_t at, uint32_t serial, double due_s) except -1
