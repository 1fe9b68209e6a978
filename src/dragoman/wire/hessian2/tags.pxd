# The bytes that hessian2's values begin with (Hessian 2.0 specification, section 4), by name.
#
# A form that holds a small number in its tag stands here as a range, from its first byte to behind
# its last (``_END``); ``_ZERO`` is the tag that stands for 0 itself.

from libc.stdint cimport uint8_t

cdef enum:
    TAG_NULL = 0x4E                  # N
    TAG_TRUE = 0x54                  # T
    TAG_FALSE = 0x46                 # F

    TAG_INT = 0x49                   # I, then four bytes
    TAG_INT_TINY = 0x80              # in the tag alone: -16 to 47
    TAG_INT_TINY_ZERO = 0x90
    TAG_INT_TINY_END = 0xC0
    TAG_INT_BYTE = 0xC0              # and one byte more: -2048 to 2047
    TAG_INT_BYTE_ZERO = 0xC8
    TAG_INT_BYTE_END = 0xD0
    TAG_INT_SHORT = 0xD0             # and two bytes more: -262144 to 262143
    TAG_INT_SHORT_ZERO = 0xD4
    TAG_INT_SHORT_END = 0xD8

    TAG_LONG = 0x4C                  # L, then eight bytes
    TAG_LONG_INT = 0x59              # then four bytes
    TAG_LONG_TINY = 0xD8             # in the tag alone: -8 to 15
    TAG_LONG_TINY_ZERO = 0xE0
    TAG_LONG_TINY_END = 0xF0
    TAG_LONG_BYTE = 0xF0             # and one byte more, up to 0xFF: -2048 to 2047
    TAG_LONG_BYTE_ZERO = 0xF8
    TAG_LONG_SHORT = 0x38            # and two bytes more: -262144 to 262143
    TAG_LONG_SHORT_ZERO = 0x3C
    TAG_LONG_SHORT_END = 0x40

    TAG_DOUBLE = 0x44                # D, then eight bytes
    TAG_DOUBLE_ZERO = 0x5B
    TAG_DOUBLE_ONE = 0x5C
    TAG_DOUBLE_BYTE = 0x5D           # a whole number in one byte
    TAG_DOUBLE_SHORT = 0x5E          # in two
    TAG_DOUBLE_MILLS = 0x5F          # thousandths in four

    TAG_DATE = 0x4A                  # milliseconds in eight bytes
    TAG_DATE_MINUTES = 0x4B          # in four

    TAG_STRING = 0x53                # S, then the length in two bytes
    TAG_STRING_CHUNK = 0x52          # R, the same, and another chunk follows
    TAG_STRING_TINY = 0x00           # the length in the tag
    TAG_STRING_TINY_END = 0x20
    TAG_STRING_SHORT = 0x30          # and one byte more
    TAG_STRING_SHORT_END = 0x34

    TAG_BINARY = 0x42                # B, then the length in two bytes
    TAG_BINARY_CHUNK = 0x41          # A, the same, and another chunk follows
    TAG_BINARY_TINY = 0x20           # the length in the tag
    TAG_BINARY_TINY_END = 0x30
    TAG_BINARY_SHORT = 0x34          # and one byte more
    TAG_BINARY_SHORT_END = 0x38

    TAG_LIST_TYPED_OPEN = 0x55       # type, values, Z
    TAG_LIST_TYPED = 0x56            # V: type, length, values
    TAG_LIST_OPEN = 0x57             # values, Z
    TAG_LIST = 0x58                  # length, values
    TAG_LIST_TYPED_TINY = 0x70       # the length in the tag
    TAG_LIST_TYPED_TINY_END = 0x78
    TAG_LIST_TINY = 0x78
    TAG_LIST_TINY_END = 0x80
    LIST_TINY_MASK = 7               # of the length in the tag

    TAG_MAP = 0x48                   # H: entries, Z
    TAG_MAP_TYPED = 0x4D             # M: type, entries, Z
    TAG_CLASS = 0x43                 # C: name, count, names of fields; a value follows
    TAG_OBJECT = 0x4F                # O: class's number, fields
    TAG_OBJECT_TINY = 0x60           # the class's number in the tag
    TAG_OBJECT_TINY_END = 0x70
    TAG_REFERENCE = 0x51
    TAG_END = 0x5A                   # Z

    STRING_TINY_MAX = 0x1F           # the longest of each form
    STRING_SHORT_MAX = 0x3FF
    BINARY_TINY_MAX = 0x0F
    BINARY_SHORT_MAX = 0x3FF
    LIST_TINY_MAX = 7
    OBJECT_TINY_MAX = 15
    CHUNK_MAX = 0x8000               # units or bytes of a chunk, as Java's writers cut them


cdef inline bint is_string(uint8_t tag) noexcept nogil:
    return (
        tag < TAG_STRING_TINY_END or TAG_STRING_SHORT <= tag < TAG_STRING_SHORT_END
        or tag == TAG_STRING_CHUNK or tag == TAG_STRING
    )


cdef inline bint is_binary(uint8_t tag) noexcept nogil:
    return (
        TAG_BINARY_TINY <= tag < TAG_BINARY_TINY_END
        or TAG_BINARY_SHORT <= tag < TAG_BINARY_SHORT_END
        or tag == TAG_BINARY_CHUNK or tag == TAG_BINARY
    )


cdef inline bint is_long(uint8_t tag) noexcept nogil:
    return (
        TAG_LONG_TINY <= tag or tag == TAG_LONG or tag == TAG_LONG_INT
        or TAG_LONG_SHORT <= tag < TAG_LONG_SHORT_END
    )


cdef inline bint is_number(uint8_t tag) noexcept nogil:
    """Whether it is an int or a long."""
    return TAG_INT_TINY <= tag or tag == TAG_INT or is_long(tag)


cdef inline bint is_double(uint8_t tag) noexcept nogil:
    return TAG_DOUBLE_ZERO <= tag <= TAG_DOUBLE_MILLS or tag == TAG_DOUBLE


cdef inline bint is_date(uint8_t tag) noexcept nogil:
    return tag == TAG_DATE or tag == TAG_DATE_MINUTES


cdef inline bint is_list(uint8_t tag) noexcept nogil:
    return (
        TAG_LIST_TYPED_OPEN <= tag <= TAG_LIST
        or TAG_LIST_TYPED_TINY <= tag < TAG_LIST_TINY_END
    )


cdef inline bint is_typed_list(uint8_t tag) noexcept nogil:
    """Whether a list has a type in front of its values."""
    return (
        tag == TAG_LIST_TYPED_OPEN or tag == TAG_LIST_TYPED
        or TAG_LIST_TYPED_TINY <= tag < TAG_LIST_TYPED_TINY_END
    )


cdef inline bint is_map(uint8_t tag) noexcept nogil:
    return tag == TAG_MAP or tag == TAG_MAP_TYPED


cdef inline bint is_object(uint8_t tag) noexcept nogil:
    return TAG_OBJECT_TINY <= tag < TAG_OBJECT_TINY_END or tag == TAG_OBJECT


cdef inline int double_bytes(uint8_t tag) noexcept nogil:
    """How many bytes follow the tag of a double."""
    if tag == TAG_DOUBLE:
        return 8
    return 4 if tag == TAG_DOUBLE_MILLS else tag - TAG_DOUBLE_ONE if tag > TAG_DOUBLE_ONE else 0


cdef inline int date_bytes(uint8_t tag) noexcept nogil:
    """How many bytes follow the tag of a date."""
    return 8 if tag == TAG_DATE else 4
