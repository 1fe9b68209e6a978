"""Numbers of JSON that are not whole, as Java's natural values: doubles where a double is exact.

``java.from_json`` reads values with it of which no type is known. The invariant: the double's own
text has the value of the text that it was read from; any other number stays a decimal, digit for
digit.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize

from decimal import Decimal

cdef extern from "Python.h":
    double PyOS_string_to_double(const char* s, char** endptr, object overflow) except? -1.0

cdef enum:
    # A double has the value of every decimal of so many digits, and gives it back as its text.
    DIGITS = 15
    # So that a number without an exponent is far from a double's limits.
    CHARACTERS = 40


def natural_number(str text not None):
    """A float whose text has the value of ``text``, or a Decimal. InvalidOperation for an exponent
    that is beyond decimals."""
    cdef Py_ssize_t n, i
    cdef const char* p = PyUnicode_AsUTF8AndSize(text, &n)
    cdef int digits = 0
    if n <= CHARACTERS:
        for i in range(n):
            if c'0' < p[i] <= c'9' or (p[i] == c'0' and digits):
                digits += 1
            elif p[i] != c'.' and p[i] != c'-' and p[i] != c'0':
                digits = DIGITS + 1
                break
        if digits <= DIGITS:
            return PyOS_string_to_double(p, NULL, None)
    exact = Decimal(text)
    near = float(exact)
    return near if Decimal(repr(near)) == exact else exact
