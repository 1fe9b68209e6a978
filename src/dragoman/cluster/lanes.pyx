"""The calls of one order key: where they go, how many are under way, which wait.

``cluster.service`` keeps a lane for each key that has calls, and forgets it with the last of them.
While calls of a key are under way, all further ones go to the same place; so their order is that
of one session, which the server keeps.

Invariant: those that wait leave in the order of their turns, also when one comes back.
"""

from collections import OrderedDict


cdef class Lane:
    """``place`` is the endpoint where ``under_way`` calls are, or where the next is to go."""

    def __cinit__(self, bytes key not None):
        self.key = key
        self._line = OrderedDict()

    cdef int push(self, Waiter waiter, int64_t turn) except -1:
        """``waiter`` waits; its ``turn`` is the number of its call among all calls."""
        if turn < self._last and self.waiting:
            self._mixed = True
        else:
            self._last = turn
        self._line[turn] = waiter
        self.waiting = len(self._line)
        return 0

    cdef Waiter first(self):
        """Whose turn it is, or None."""
        if self._mixed:
            self._line = OrderedDict(sorted(self._line.items()))
            self._mixed = False
            self._last = next(reversed(self._line), 0)
        if self.waiting == 0:
            return None
        return <Waiter>self._line[next(iter(self._line))]

    cdef void remove(self, int64_t turn):
        """The one with this turn waits no longer."""
        self._line.pop(turn, None)
        self.waiting = len(self._line)

    cdef list calls(self):
        """Those that wait."""
        return list(self._line.values())
