# Small numbers as Hessian wrote them first and JSONB after it: in the tag, with one byte, with two.
#
# A form is given by the tag that stands for its 0. The writers of both put their ints and longs so.

from libc.stdint cimport int64_t, uint8_t


cdef inline int put_short_number(
    uint8_t* to, int64_t value, int least, int most, int tiny_zero, int byte_zero, int short_zero
) noexcept nogil:
    """Put ``value`` at ``to``: the bytes that it takes, 0 if it is too large for three of them.

    ``least`` to ``most`` go into the tag alone.
    """
    if least <= value <= most:
        to[0] = <uint8_t>(tiny_zero + value)
        return 1
    if -2048 <= value <= 2047:
        to[0] = <uint8_t>(byte_zero + (value >> 8))
        to[1] = value & 255
        return 2
    if -262144 <= value <= 262143:
        to[0] = <uint8_t>(short_zero + (value >> 16))
        to[1] = (value >> 8) & 255
        to[2] = value & 255
        return 3
    return 0
