# The bytes that JSONB's values begin with (fastjson2's JSONBConstants), by name; for the forms see
# ``jsonb.reader``. ``_END`` is behind a range, ``_ZERO`` the tag that stands for 0 itself.

from libc.stdint cimport uint8_t

cdef enum:
    TAG_INT_TINY = 0xF0              # up to 0x2F: -16 to 47, as a signed byte
    TAG_INT_TINY_END = 0x30
    TAG_INT_BYTE_ZERO = 0x38         # 0x30 to 0x3F, and one byte more
    TAG_INT_BYTE_END = 0x40
    TAG_INT_SHORT_ZERO = 0x44        # 0x40 to 0x47, and two bytes more
    TAG_INT_SHORT_END = 0x48
    TAG_INT = 0x48                   # then four bytes

    TAG_LONG = 0xBE                  # then eight bytes
    TAG_LONG_INT = 0xBF              # then four bytes
    TAG_LONG_SHORT = 0xC0            # and two bytes more
    TAG_LONG_SHORT_ZERO = 0xC4
    TAG_LONG_BYTE = 0xC8             # and one byte more
    TAG_LONG_BYTE_ZERO = 0xD0
    TAG_LONG_TINY = 0xD8             # in the tag alone: -8 to 15
    TAG_LONG_TINY_ZERO = 0xE0

    TAG_ASCII_TINY = 0x49            # the length in the tag: 0 to 47
    TAG_ASCII = 0x79                 # length, bytes
    TAG_UTF8 = 0x7A
    TAG_UTF16 = 0x7B                 # with a mark that tells its order
    TAG_UTF16_LITTLE = 0x7C
    TAG_UTF16_BIG = 0x7D
    TAG_GB18030 = 0x7E
    TAG_NAME = 0x7F                  # a name and its number, or that alone
    ASCII_TINY_MAX = 47

    TAG_CHAR = 0x90
    TAG_BINARY = 0x91
    TAG_TYPED = 0x92                 # type, value
    TAG_REFERENCE = 0x93
    TAG_LIST_TINY = 0x94             # the length in the tag: 0 to 15
    TAG_LIST = 0xA4                  # length, values
    TAG_OBJECT_END = 0xA5
    TAG_OBJECT = 0xA6
    LIST_TINY_MAX = 15

    TAG_LOCAL_TIME = 0xA7
    TAG_LOCAL_DATETIME = 0xA8
    TAG_LOCAL_DATE = 0xA9
    TAG_ZONED_DATETIME = 0xAA
    TAG_MILLISECONDS = 0xAB
    TAG_SECONDS = 0xAC
    TAG_MINUTES = 0xAD
    TAG_INSTANT = 0xAE

    TAG_NULL = 0xAF
    TAG_FALSE = 0xB0
    TAG_TRUE = 0xB1
    TAG_DOUBLE_ZERO = 0xB2
    TAG_DOUBLE_ONE = 0xB3
    TAG_DOUBLE_LONG = 0xB4           # a whole number
    TAG_DOUBLE = 0xB5
    TAG_FLOAT_INT = 0xB6             # a whole number
    TAG_FLOAT = 0xB7
    TAG_DECIMAL_LONG = 0xB8          # without a scale
    TAG_DECIMAL = 0xB9
    TAG_BIGINTEGER_LONG = 0xBA
    TAG_BIGINTEGER = 0xBB            # length, bytes
    TAG_SHORT = 0xBC
    TAG_BYTE = 0xBD


cdef inline bint is_text(uint8_t tag) noexcept nogil:
    return TAG_ASCII_TINY <= tag < TAG_NAME


cdef inline bint is_local(uint8_t tag) noexcept nogil:
    """Whether it is a date or a time with a calendar's fields."""
    return TAG_LOCAL_TIME <= tag <= TAG_ZONED_DATETIME


cdef inline bint is_moment(uint8_t tag) noexcept nogil:
    """Whether it is a java.util.Date or an Instant."""
    return TAG_MILLISECONDS <= tag <= TAG_INSTANT


cdef inline bint is_list(uint8_t tag) noexcept nogil:
    return TAG_LIST_TINY <= tag <= TAG_LIST
