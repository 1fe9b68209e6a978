from libc.stdint cimport uint32_t


cdef inline int put_decimal(char* to, uint32_t number) noexcept nogil:
    """Write a number's digits, at most ten; returns how many they are."""
    cdef char digits[10]
    cdef int count = 0, i
    while True:
        digits[count] = <char>(48 + number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    for i in range(count):
        to[i] = digits[count - 1 - i]
    return count
