"""Frames that a peer has begun to send must arrive: their deadline, and their least rate.

A frame whose length is wrong, or whose end never comes, would hold its memory for ever, and with it
every frame behind it. So a connection of any protocol whose last read ended within a frame says so
(``frame_begun``), and a ``Watch`` looks at it once a second until it is whole: it must gain
``RATE_LEAST`` bytes a second in each window, and be whole by a deadline that follows from its
length. Both are far below what a slow but honest peer reaches. Time in which we do not read
ourselves, or in which this process did not run, does not count.

Invariant: nothing is armed while no frame is in progress, and a frame that comes whole costs one
comparison.
"""

from libc.stdint cimport int64_t

cdef int64_t TICK_US = 1_000_000
cdef int64_t WINDOW_US = 5_000_000
# Bytes a second: in each window; and on the whole, beyond the first seconds.
cdef size_t RATE_LEAST = 16384
cdef int64_t DEADLINE_US = 10_000_000
cdef size_t RATE_WHOLE = 32768
# A look that comes so late says that the process stood still.
cdef int64_t AWAY_US = 3_000_000


cdef class Arriving(Gathering):
    """A connection that takes in frames."""

    cdef void frame_begun(self, Wheel wheel):
        """A read has ended within a frame."""
        if self._watch is None or self._watch._wheel is None:
            self._watch_frame(wheel)

    cdef void _watch_frame(self, Wheel wheel):
        cdef Progress frame
        cdef int64_t now
        if not self.progress(&frame):
            return
        if self._watch is None:
            self._watch = Watch()
            self._watch.owner = self
        self._watch.wheel = wheel
        now = wheel.clock_us()
        self._watch.begin(&frame, now)
        self._watch.ticked_us = now
        wheel.schedule(self._watch, now + TICK_US)

    cdef bint frame_is_late(self):
        """Whether a frame has been in progress for a while at less than the least rate: calls that
        wait behind it are as good as lost.
        """
        cdef Progress frame
        cdef int64_t age_us
        if self._watch is None or self._watch._wheel is None or not self.progress(&frame) \
                or frame.frame != self._watch.frame:
            return False
        age_us = self._watch.wheel.clock_us() - self._watch.began_us
        if age_us < TICK_US:
            return False
        return (frame.have - self._watch.began_have) * 1_000_000 < <size_t>age_us * RATE_LEAST

    cdef void end_watch(self) noexcept:
        """The connection has ended."""
        if self._watch is not None:
            if self._watch._wheel is not None:
                self._watch._wheel.cancel(self._watch)
            self._watch = None

    cdef bint progress(self, Progress* frame) noexcept:
        """Describe the frame in progress; False if there is none."""
        return False

    cdef void on_stalled(self, str why):
        """The frame in progress does not arrive: the connection is to end."""

    cdef bint on_watched(self):
        """Once a second while a frame is in progress: False when the connection has ended."""
        return True


cdef class Watch(Timed):
    """Looks at one connection's frame in progress."""

    cdef void begin(self, Progress* frame, int64_t now):
        self.frame = frame.frame
        self.began_us = self.window_us = now
        self.began_have = self.window_have = frame.have

    cdef void on_due(self):
        cdef Progress frame
        cdef int64_t now = self.wheel.clock_us()
        cdef int64_t passed_us = now - self.ticked_us
        cdef Arriving owner = self.owner
        self.ticked_us = now
        if not owner.progress(&frame):
            return
        if frame.frame != self.frame:
            self.begin(&frame, now)
        elif not frame.reading or passed_us > AWAY_US:
            self.began_us += passed_us
            self.window_us = now
            self.window_have = frame.have
        elif now - self.began_us > DEADLINE_US + <int64_t>(
            frame.length * <size_t>1_000_000 // RATE_WHOLE
        ):
            owner.on_stalled(
                f"a frame of {frame.length} bytes has not arrived within "
                f"{(now - self.began_us) // 1_000_000} s: {frame.have} bytes have"
            )
            return
        elif now - self.window_us >= WINDOW_US:
            if frame.have - self.window_have < RATE_LEAST * <size_t>(WINDOW_US // 1_000_000):
                owner.on_stalled(
                    f"a frame of {frame.length} bytes does not arrive: "
                    f"{frame.have - self.window_have} bytes in {WINDOW_US // 1_000_000} s"
                )
                return
            self.window_us = now
            self.window_have = frame.have
        if owner.on_watched():
            self.wheel.schedule(self, now + TICK_US)
