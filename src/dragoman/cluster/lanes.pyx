"""The calls of each order key: where they go, how many are under way, which wait.

``cluster.line`` has a lane for each key that has calls, and forgets it with the last of them.
While calls of a key are under way, all further ones go to the same place; so their order is that
of one session, which the server keeps.

Invariant: those that wait leave in their sequence, also when one comes back.
"""

from dragoman.cluster.endpoint cimport Endpoint
from dragoman.flow.waiting cimport Waiter

from collections import OrderedDict


cdef class Lane:
    """``place`` is the endpoint where ``under_way`` calls are, or where the next is to go."""

    def __cinit__(self, bytes key not None):
        self.key = key
        self._line = OrderedDict()

    cdef int push(self, Waiter waiter, int64_t sequence) except -1:
        """``waiter`` waits; its ``sequence`` is the number of its call among all calls."""
        if sequence < self._last and self.waiting:
            self._mixed = True
        else:
            self._last = sequence
        self._line[sequence] = waiter
        self.waiting = len(self._line)
        return 0

    cdef Waiter first(self):
        """The next that is to leave, or None."""
        if self._mixed:
            self._line = OrderedDict(sorted(self._line.items()))
            self._mixed = False
            self._last = next(reversed(self._line), 0)
        if self.waiting == 0:
            return None
        return <Waiter>self._line[next(iter(self._line))]

    cdef void remove(self, int64_t sequence):
        """The one with this sequence waits no longer."""
        self._line.pop(sequence, None)
        self.waiting = len(self._line)

    cdef list calls(self):
        """Those that wait."""
        return list(self._line.values())


cdef class Lanes:
    """The lanes of a service by their keys; ``unplaced`` are those that wait for a place at all."""

    def __cinit__(self):
        self.by_key = {}
        self.unplaced = OrderedDict()

    cdef Lane of(self, bytes key):
        """The lane of ``key``, made where there is none."""
        cdef Lane lane = self.by_key.get(key)
        if lane is None:
            lane = Lane(key)
            self.by_key[key] = lane
        return lane

    cdef void queue(self, Lane lane):
        """``lane`` has calls that wait for its place to have room."""
        if lane.place is None:
            self.unplaced[lane] = None
        else:
            lane.place.lanes[lane] = None

    cdef void unqueue(self, Lane lane):
        """The opposite."""
        self.unplaced.pop(lane, None)
        if lane.place is not None:
            lane.place.lanes.pop(lane, None)

    cdef void move(self, Lane lane, Endpoint endpoint):
        """The calls that wait in ``lane``, of which none is under way, go to ``endpoint``."""
        if lane.place is not endpoint:
            self.unqueue(lane)
            lane.place = endpoint
            self.queue(lane)

    cdef void tidy(self, Lane lane):
        """Forget ``lane`` if it has no calls."""
        if lane.under_way == 0 and lane.waiting == 0 and self.by_key.get(lane.key) is lane:
            del self.by_key[lane.key]
