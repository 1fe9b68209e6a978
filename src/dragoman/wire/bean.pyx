"""Java's objects as Python has them: mappings with the name of their class.

Every codec that reads or writes Java's values uses this (``dragoman.wire.java`` is the face for
programs). The invariant: the name of a class is text; nothing is ever looked up by it, so what a
peer names can neither be loaded nor instantiated.
"""

import datetime
import decimal
import uuid

cdef frozenset PLAIN = frozenset((
    type(None), bool, int, float, str, bytes, decimal.Decimal, uuid.UUID,
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta,
))


cdef bint is_plain_key(object value):
    """Whether hashing and comparing ``value`` costs no more than its own size."""
    if type(value) in PLAIN:
        return True
    # Subclasses as of java.Long.
    return isinstance(value, (int, float, str)) and not isinstance(value, Bean)


cdef Bean new_bean(str java_class):
    """An empty bean of a class."""
    cdef Bean bean = Bean.__new__(Bean)
    bean.java_class = java_class
    return bean


cdef class Bean(dict):
    """A Java object: a mapping from field names to values, with the name of its class.

    ``Bean("com.example.User", {"name": "Ann"}, age=7)``. An enum's constant is a bean whose only
    field is ``name``. Two beans are equal if class and fields are; a bean equals a plain mapping
    with the same fields. The name of the class is text and nothing else: no class is looked up.
    """

    def __init__(self, java_class, fields=(), /, **more):
        if not isinstance(java_class, str) or not java_class:
            raise TypeError("the first argument of a Bean is the name of its Java class")
        self.java_class = str(java_class)
        dict.__init__(self, fields, **more)

    def __eq__(self, other):
        if isinstance(other, Bean) and (<Bean>other).java_class != self.java_class:
            return False
        return dict.__eq__(self, other)

    def __ne__(self, other):
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self):
        # Only flat beans can be keys: hashing nested ones costs exponentially where values are
        # shared.
        for value in self.values():
            if not is_plain_key(value):
                raise TypeError(f"a Bean with a {type(value).__name__} in it cannot be a key")
        return hash((self.java_class, frozenset(self.items())))

    def __repr__(self):
        return f"Bean({self.java_class!r}, {dict.__repr__(self)})"

    def __reduce__(self):
        return Bean, (self.java_class, dict(self))

    def copy(self):
        """A shallow copy with the same class."""
        return Bean(self.java_class, self)
