"""Which messages of a queue are out with a group's workers: leases, attempts, what is done.

``group.WorkGroup`` owns one for each queue and group that is worked on. Sans-I/O: it is told the
time (monotonic seconds) and the bodies, and says what to give. Not for several threads at once.

Invariants: a message is with one worker at a time; all before ``floor`` is done, nothing from
``next`` on was looked at, and between them there are at most ``window``; of one key at most one
message, the oldest that is not done, is out or to be given.
"""

from collections import deque
from heapq import heapify, heappop, heappush

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free

DEF ATTEMPTS_TOP = 254

cdef enum Status:
    SEEN  # parked behind another message of its key
    OUT  # with a worker, until ``due``
    AGAIN  # to be given (again)
    LOST  # the same, because its worker did not say what became of it
    LATER  # to be given again when it is ``due``
    DEAD  # to be put to the dead letters
    DONE

cdef double NEVER = 1e300
ACK, NACK, EXTEND = 0, 1, 2


cdef class Message:
    """Message(offset, attempts, body, serial, life)\n--\n
    A message that a worker was given: ``offset``, ``body``, and ``attempts``, how many times it
    was given so far, this time included."""

    def __init__(self, int64_t offset, int attempts, bytes body, uint32_t serial, bytes life):
        self.offset = offset
        self.attempts = attempts
        self.body = body
        self.serial = serial
        self.life = life

    def __reduce__(self):
        return Message, (self.offset, self.attempts, self.body, self.serial, self.life)

    def __repr__(self):
        return f"<Message offset={self.offset} attempts={self.attempts} {len(self.body)} bytes>"


def columns_of(list messages):
    """Offsets, attempts, serial numbers and bodies of messages, as they travel."""
    cdef Message message
    cdef list offsets = [], attempts = [], serials = [], bodies = []
    for message in messages:
        offsets.append(message.offset)
        attempts.append(message.attempts)
        serials.append(message.serial)
        bodies.append(message.body)
    return offsets, attempts, serials, bodies


def messages_from(bytes life, list offsets, list attempts, list serials, list bodies):
    """Messages of what ``columns_of`` made."""
    cdef Message message
    cdef list messages = []
    cdef Py_ssize_t i
    for i in range(len(offsets)):
        message = Message.__new__(Message)
        message.offset = offsets[i]
        message.attempts = attempts[i]
        message.serial = serials[i]
        message.body = bodies[i]
        message.life = life
        messages.append(message)
    return messages


cdef class Leases:
    """The messages from ``floor`` on. ``attempts_max`` 0: there is no end of attempts."""

    def __cinit__(self, int64_t floor, int64_t window, int attempts_max, bint keyed):
        self.floor = self.next = self.mark = floor
        self.window = window
        self.attempts_max = attempts_max
        self.alarm_s = NEVER
        self.ready = []
        self.dead = []
        self.keys = {} if keyed else None
        self.busy = {}
        self._room(64)

    def __dealloc__(self):
        free(self.slots)

    cdef int _room(self, int64_t span) except -1:
        # A ring with room for so many messages.
        cdef int64_t size = 64, at
        cdef Slot* slots
        while size < span:
            size *= 2
        if self.slots != NULL and size <= self.mask + 1:
            return 0
        slots = <Slot*>calloc(size, sizeof(Slot))
        if slots == NULL:
            raise MemoryError
        for at in range(self.floor, self.next):
            slots[at & (size - 1)] = self.slots[at & self.mask]
        free(self.slots)
        self.slots = slots
        self.mask = size - 1
        return 0

    @property
    def waiting(self):
        """About how many are to be given again, or to be put to the dead letters."""
        return len(self.ready) + len(self.dead)

    # What outlives a crash.

    def restore(self, bytes stream, int64_t end, double due_s):
        """What ``stream`` said, and all up to ``end``, had been given before; the workers that have
        it may be there until ``due_s``. Only once, at first."""
        cdef int64_t at
        cdef unsigned char value
        cdef Slot* slot
        end = max(end, self.floor + len(stream))
        self._room(end - self.floor)
        for at in range(self.floor, end):
            value = stream[at - self.floor] if at - self.floor < len(stream) else 2
            slot = &self.slots[at & self.mask]
            self.next = at + 1
            if value == 0:
                slot.status = DONE
                continue
            slot.attempts = slot.saved = value - 1
            slot.due_s = due_s
            slot.status = OUT
            self.out += 1
        self.mark = self.next
        self.alarm_s = due_s
        self._advance()

    def stream(self, bint generous):
        """A byte for each message from ``floor`` to ``next``: 0 for one that is done, else 1 and
        its attempts. ``generous``: at least one attempt, so that the first need not be noted."""
        cdef bytearray stream = bytearray(self.next - self.floor)
        cdef unsigned char* into = stream
        cdef int64_t at
        cdef Slot* slot
        for at in range(self.floor, self.next):
            slot = &self.slots[at & self.mask]
            if slot.status == DONE:
                continue
            slot.saved = max(slot.attempts, 1 if generous else 0)
            into[at - self.floor] = 1 + slot.saved
        self.unsaved = False
        return bytes(stream)

    # Time.

    cdef int _again(self, int64_t at, unsigned char status) except -1:
        cdef Slot* slot = &self.slots[at & self.mask]
        if self.attempts_max and slot.attempts >= self.attempts_max:
            slot.status = DEAD
            self.dead.append(at)
            return 0
        slot.status = status
        heappush(self.ready, at)
        if len(self.ready) > self.next - self.floor + 1024:
            # Some of which stand there several times.
            self.ready = list(set(self.ready))
            heapify(self.ready)
        return 0

    def expire(self, double now_s):
        """Leases that have ended by now, and delays."""
        cdef int64_t at
        cdef Slot* slot
        cdef double least = NEVER
        if now_s < self.alarm_s:
            return
        for at in range(self.floor, self.next):
            slot = &self.slots[at & self.mask]
            if slot.status != OUT and slot.status != LATER:
                continue
            if slot.due_s > now_s:
                least = min(least, slot.due_s)
                continue
            if slot.status == OUT:
                self.out -= 1
                self._again(at, LOST)
            else:
                self._again(at, AGAIN)
        self.alarm_s = least

    def idle(self, double now_s):
        """Whether no lease and no delay is under way."""
        self.alarm_s = now_s
        self.expire(now_s)
        return self.alarm_s == NEVER

    def gone_before(self, int64_t first):
        """The queue begins at ``first`` now; what was before it is done."""
        cdef int64_t at
        if first <= self.floor:
            return
        for at in range(self.floor, min(first, self.next)):
            self._done(at)
        if first > self.next:
            self.floor = self.next = first
        self._advance()

    # Giving.

    def again(self, Py_ssize_t count):
        """Offsets of at most ``count`` messages that are to be given again; ``give`` or ``back``
        has to follow. One whose last attempt it is, and which may have killed its worker, is given
        alone: so its neighbours are not taken for what it is."""
        cdef list offsets = []
        cdef int64_t at
        cdef Slot* slot
        while self.ready and len(offsets) < count:
            at = self.ready[0]
            slot = &self.slots[at & self.mask]
            if at < self.floor or (slot.status != AGAIN and slot.status != LOST):
                heappop(self.ready)
                continue
            if slot.status == LOST and 1 < self.attempts_max == slot.attempts + 1:
                if offsets:
                    break
                count = 1
            heappop(self.ready)
            if not offsets or at != offsets[len(offsets) - 1]:
                offsets.append(at)
        return offsets

    def alone(self, list offsets):
        """Whether what ``again`` said is to be given alone."""
        cdef Slot* slot
        if len(offsets) != 1 or self.attempts_max < 2:
            return False
        slot = &self.slots[<int64_t>offsets[0] & self.mask]
        return slot.status == LOST and slot.attempts + 1 == self.attempts_max

    def condemn(self, int64_t at):
        """It is for the dead letters, whatever its attempts: it cannot be read."""
        cdef Slot* slot = &self.slots[at & self.mask]
        if slot.status == OUT:
            self.out -= 1
        slot.status = DEAD
        self.dead.append(at)

    def back(self, list offsets):
        """They could not be read."""
        for at in offsets:
            heappush(self.ready, at)

    def room(self, int64_t count):
        """How many of ``count`` new messages may be looked at."""
        return max(0, min(count, self.window - (self.next - self.floor)))

    cdef Message _give(self, int64_t at, bytes body, double due_s, bytes life):
        cdef Slot* slot = &self.slots[at & self.mask]
        cdef Message message = Message.__new__(Message)
        self.serial += 1
        slot.status = OUT
        slot.serial = self.serial
        slot.due_s = due_s
        if slot.attempts < ATTEMPTS_TOP:
            slot.attempts += 1
        if slot.attempts > slot.saved:
            self.unsaved = True
        self.out += 1
        message.offset = at
        message.attempts = slot.attempts
        message.body = body
        message.serial = self.serial
        message.life = life
        return message

    def give(self, list offsets, list bodies, double due_s, bytes life):
        """The messages at ``offsets`` are out until ``due_s``."""
        cdef Py_ssize_t i
        if due_s < self.alarm_s:
            self.alarm_s = due_s
        return [
            self._give(<int64_t>offsets[i], <bytes>bodies[i], due_s, life)
            for i in range(len(offsets))
        ]

    def give_new(self, list bodies, list keys, double due_s, bytes life):
        """The messages from ``next`` on are ``bodies``: those that may be are out until ``due_s``.
        ``keys``: theirs, None without."""
        cdef Py_ssize_t i
        cdef int64_t at
        cdef list given = []
        cdef Slot* slot
        self._room(self.next + len(bodies) - self.floor)
        if due_s < self.alarm_s:
            self.alarm_s = due_s
        for i in range(len(bodies)):
            at = self.next
            slot = &self.slots[at & self.mask]
            slot.status = SEEN
            slot.attempts = 0
            slot.saved = 1 if at < self.mark else 0
            self.next += 1
            if keys is not None and not self._first_of_key(at, keys[i]):
                continue
            given.append(self._give(at, <bytes>bodies[i], due_s, life))
        return given

    cdef bint _first_of_key(self, int64_t at, key) except -1:
        self.keys[at] = key
        waiting = self.busy.get(key)
        if waiting is None:
            self.busy[key] = deque()
            return True
        waiting.append(at)
        return False

    def take_back(self, list messages, bint alone):
        """They were given and could not be noted: nobody has them, nor was it an attempt."""
        cdef Message message
        cdef Slot* slot
        self.unsaved = True
        for message in messages:
            slot = &self.slots[message.offset & self.mask]
            if message.offset >= self.floor and slot.status == OUT:
                self.out -= 1
                slot.attempts -= 1
                slot.serial = 0
                slot.status = LOST if alone else AGAIN
                heappush(self.ready, message.offset)

    def unsettled(self):
        """Offsets that are not done."""
        cdef int64_t at
        return [
            at for at in range(self.floor, self.next) if self.slots[at & self.mask].status != DONE
        ]

    def set_keys(self, list offsets, list keys):
        """After ``restore``: the keys of the ``unsettled`` ones, in order."""
        cdef Slot* slot
        cdef Py_ssize_t i
        for i in range(len(offsets)):
            if not self._first_of_key(offsets[i], keys[i]):
                slot = &self.slots[<int64_t>offsets[i] & self.mask]
                if slot.status == OUT:
                    self.out -= 1
                slot.status = SEEN

    # Settling.

    cdef int _done(self, int64_t at) except -1:
        cdef Slot* slot = &self.slots[at & self.mask]
        if slot.status == DONE:
            return 0
        if slot.status == OUT:
            self.out -= 1
        slot.status = DONE
        if self.keys is None:
            return 0
        key = self.keys.pop(at)
        waiting = self.busy[key]
        if waiting and waiting[0] == at:
            waiting.popleft()  # trimmed while it was parked
            return 0
        while waiting:
            following = waiting.popleft()
            if self.slots[<int64_t>following & self.mask].status == SEEN:
                self._again(following, AGAIN)
                return 0
        del self.busy[key]
        return 0

    cdef void _advance(self) noexcept:
        while self.floor < self.next and self.slots[self.floor & self.mask].status == DONE:
            self.floor += 1

    cdef bint _settle(self, int kind, int64_t at, uint32_t serial, double due_s) except -1:
        cdef Slot* slot
        if at < self.floor:
            return kind == 0
        if at >= self.next:
            return False
        slot = &self.slots[at & self.mask]
        if slot.serial != serial or slot.status == SEEN:
            return False
        if kind == 0:
            self._done(at)
            return True
        if kind == 2 and (slot.status == OUT or slot.status == LOST):
            self.out += slot.status == LOST
            slot.status = OUT
        elif kind == 1 and (slot.status == OUT or slot.status == LOST):
            self.out -= slot.status == OUT
            slot.status = AGAIN
            if due_s == 0 or (self.attempts_max and slot.attempts >= self.attempts_max):
                self._again(at, AGAIN)
                return True
            slot.status = LATER
        else:
            return False
        slot.due_s = due_s
        if due_s < self.alarm_s:
            self.alarm_s = due_s
        return True

    def settle(self, int kind, list messages, double due_s, bytes life):
        """Messages of ``life`` are done (ACK), to be given again at ``due_s`` (NACK; 0: at once)
        or out until ``due_s`` (EXTEND); how many that was true of."""
        cdef Message message
        cdef Py_ssize_t count = 0
        for message in messages:
            if message.life == life:
                count += self._settle(kind, message.offset, message.serial, due_s)
        self._advance()
        return count

    def settle_numbers(self, int kind, list offsets, list serials, double due_s):
        """``settle`` by offsets beside the serial numbers of ``Message.serial``."""
        cdef Py_ssize_t i, count = 0
        for i in range(len(offsets)):
            count += self._settle(kind, offsets[i], serials[i], due_s)
        self._advance()
        return count

    def buried(self, list offsets):
        """These of ``dead`` have been put to the dead letters."""
        for at in offsets:
            if at >= self.floor:
                self._done(at)
        self._advance()

    def take_dead(self):
        """Offsets that are to be put to the dead letters; ``buried`` or ``back_dead`` follows."""
        cdef list dead = [
            at for at in self.dead
            if at >= self.floor and self.slots[<int64_t>at & self.mask].status == DEAD
        ]
        self.dead = []
        return dead

    def back_dead(self, list offsets):
        """They could not be put."""
        self.dead += offsets
