"""Holders of credits in order: who holds much, who holds little, who waits with least.

``Ranks`` keeps every holder in one of few rings, by the magnitude of what it holds or by why it
need not be looked at; ``Poorest`` keeps those who wait, the one that holds least first, and among
equals the one that has waited longest. Whatever the number of holders, moving one costs a few
pointers, or a logarithm of those who wait. Used by ``flow.shares`` and those who look at it.

Ownership: both hold bare pointers. Who puts a member in keeps it alive until it is taken out.

Invariant: a member is in one ring at most, and says which; a waiting one knows its place in the
heap.
"""

from libc.stdlib cimport free, realloc


cdef extern from *:
    int __builtin_clz(unsigned int) noexcept
    int __builtin_clzll(unsigned long long) noexcept
    int __builtin_ctzll(unsigned long long) noexcept


cdef class Ranked:
    """A member with a rank by the credits it holds."""

    def __cinit__(self, *args, **kwargs):
        self._rank = NOWHERE
        self._place = -1


cdef class Ranks:
    """Rings of members: ``EMPTY``, one for each bit length of ``held``, and the special ones."""

    cdef void put(self, Ranked member, int rank) noexcept:
        """Put ``member`` last into ring ``rank``, out of where it was."""
        cdef void* head
        cdef void* tail
        self.remove(member)
        head = self._heads[rank]
        if head == NULL:
            member._next = member._previous = <void*>member
            self._heads[rank] = <void*>member
            self._used |= <uint64_t>1 << rank
        else:
            tail = (<Ranked>head)._previous
            member._next = head
            member._previous = tail
            (<Ranked>tail)._next = <void*>member
            (<Ranked>head)._previous = <void*>member
        member._rank = rank
        self.counts[rank] += 1

    cdef void put_by_held(self, Ranked member) noexcept:
        """Put ``member`` last into the ring of what it holds."""
        self.put(member, 32 - __builtin_clz(member.held) if member.held > 0 else EMPTY)

    cdef void remove(self, Ranked member) noexcept:
        """Take ``member`` out of its ring, if it is in one."""
        cdef int rank = member._rank
        if rank == NOWHERE:
            return
        if member._next == <void*>member:
            self._heads[rank] = NULL
            self._used &= ~(<uint64_t>1 << rank)
        else:
            (<Ranked>member._previous)._next = member._next
            (<Ranked>member._next)._previous = member._previous
            if self._heads[rank] == <void*>member:
                self._heads[rank] = member._next
        member._rank = NOWHERE
        self.counts[rank] -= 1

    cdef Ranked first(self, int rank):
        """The member that is longest in ring ``rank``; None if there is none."""
        return None if self._heads[rank] == NULL else <Ranked>self._heads[rank]

    cdef Ranked last(self, int rank):
        """The member that came last into ring ``rank``; None if there is none."""
        if self._heads[rank] == NULL:
            return None
        return <Ranked>(<Ranked>self._heads[rank])._previous

    cdef int highest(self) noexcept:
        """The highest rank of those who hold something and are not set apart; 0 if there is none.
        """
        cdef uint64_t used = self._used & ((<uint64_t>1 << RANKS_MAX) - 2)
        return 63 - __builtin_clzll(used) if used else 0

    cdef int lowest(self) noexcept:
        """The lowest rank in use, ``EMPTY`` upwards; -1 if all members are set apart."""
        cdef uint64_t used = self._used & ((<uint64_t>1 << RANKS_MAX) - 1)
        return __builtin_ctzll(used) if used else -1


cdef class Poorest:
    """A binary heap by (held, time of the last change)."""

    def __dealloc__(self):
        free(self._heap)

    cdef Ranked first(self):
        """The poorest; None if nobody waits."""
        return <Ranked>self._heap[0] if self.count else None

    cdef int add(self, Ranked member) except -1:
        """``member`` waits from now on."""
        cdef Py_ssize_t capacity
        cdef void** heap
        if self.count == self._capacity:
            capacity = self._capacity * 2 if self._capacity else 16
            heap = <void**>realloc(self._heap, capacity * sizeof(void*))
            if heap == NULL:
                raise MemoryError
            self._heap = heap
            self._capacity = capacity
        self._stamps += 1
        member._stamp = self._stamps
        self.held += member.held
        self.count += 1
        self._set(self.count - 1, <void*>member)
        self._up(self.count - 1)
        return 0

    cdef void remove(self, Ranked member) noexcept:
        """``member`` waits no more."""
        cdef Py_ssize_t i = member._place
        self.held -= member.held
        member._place = -1
        self.count -= 1
        if i < self.count:
            self._set(i, self._heap[self.count])
            self._down(i)
            self._up(i)

    cdef void changed(self, Ranked member, int by) noexcept:
        """Place a waiting member anew, which holds more or less: it goes behind its new equals."""
        self._stamps += 1
        member._stamp = self._stamps
        self.held += by
        if by < 0:
            self._up(member._place)
        else:
            self._down(member._place)

    cdef void _set(self, Py_ssize_t i, void* member) noexcept:
        self._heap[i] = member
        (<Ranked>member)._place = i

    cdef void _up(self, Py_ssize_t i) noexcept:
        cdef void* member = self._heap[i]
        cdef Py_ssize_t parent
        while i > 0:
            parent = (i - 1) // 2
            if not _before(member, self._heap[parent]):
                break
            self._set(i, self._heap[parent])
            i = parent
        self._set(i, member)

    cdef void _down(self, Py_ssize_t i) noexcept:
        cdef void* member = self._heap[i]
        cdef Py_ssize_t child
        while True:
            child = 2 * i + 1
            if child >= self.count:
                break
            if child + 1 < self.count and _before(self._heap[child + 1], self._heap[child]):
                child += 1
            if not _before(self._heap[child], member):
                break
            self._set(i, self._heap[child])
            i = child
        self._set(i, member)


cdef class Account(Ranked):
    """An account of several members together. It waits among its like while one of them does."""

    def __init__(self, key, Account account):
        self.key = key
        self.account = account
        self.waiters = Poorest()


cdef inline bint _before(void* a, void* b) noexcept:
    if (<Ranked>a).held != (<Ranked>b).held:
        return (<Ranked>a).held < (<Ranked>b).held
    return (<Ranked>a)._stamp < (<Ranked>b)._stamp
