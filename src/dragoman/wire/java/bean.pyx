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


# What a key that is a list, a map or a bean may have in it: hashes and comparisons visit all of it.
cdef enum:
    KEY_PARTS = 200

KEY_PARTS_MAX = KEY_PARTS


cdef bint is_plain_key(object value):
    """Whether hashing and comparing ``value`` costs no more than its own size."""
    if type(value) in PLAIN:
        return True
    # Subclasses as of java.Long.
    return isinstance(value, (int, float, str)) and not isinstance(value, Bean)


cdef object frozen_key(object value):
    """``value`` as a key can be: lists become tuples, maps become MapKeys, and beans hold such.

    What is shared is counted each time, so a key costs what it says. TypeError for a value that is
    no key, or has more than ``KEY_PARTS`` values in it.
    """
    cdef int left = KEY_PARTS
    return freeze(value, &left)


cdef object freeze(object value, int* left):
    cdef Bean bean
    if is_plain_key(value):
        left[0] -= 1
        if left[0] < 0:
            raise TypeError(f"of more than {KEY_PARTS} values")
        return value
    left[0] -= 1
    if left[0] < 0:
        raise TypeError(f"of more than {KEY_PARTS} values")
    if isinstance(value, Bean):
        bean = new_bean((<Bean>value).java_class)
        bean.constant = (<Bean>value).constant
        for key, each in (<dict>value).items():
            (<dict>bean)[key] = freeze(each, left)
        return bean
    if isinstance(value, dict):
        return MapKey(
            {freeze(key, left): freeze(each, left) for key, each in (<dict>value).items()},
            getattr(value, "java_class", "") or "java.util.HashMap",
        )
    if isinstance(value, (list, tuple)):
        return tuple([freeze(each, left) for each in value])
    raise TypeError(f"that is a {type(value).__name__}")


cdef Bean new_bean(str java_class):
    """An empty bean of a class."""
    cdef Bean bean = Bean.__new__(Bean)
    bean.java_class = java_class
    return bean


cdef class Bean(dict):
    """Bean(java_class, fields=(), /, **more)\n--\n
    A Java object: a mapping from field names to values, with the name of its class.

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
        # What is nested must have been made a key's: hashing costs exponentially where values are
        # shared.
        for value in self.values():
            if not is_plain_key(value) and not isinstance(value, (tuple, MapKey, Bean)):
                raise TypeError(f"a Bean with a {type(value).__name__} in it cannot be a key")
        return hash((self.java_class, frozenset(self.items())))

    def __repr__(self):
        return f"Bean({self.java_class!r}, {dict.__repr__(self)})"

    def __reduce__(self):
        return Bean, (self.java_class, dict(self))

    def copy(self):
        """A shallow copy with the same class."""
        made = Bean(self.java_class, self)
        made.constant = self.constant
        return made


class MapKey(dict):
    """A map that is a key of another map: it can be hashed, and must not be changed.

    The readers make such keys; ``java_class`` is the map's.
    """

    __slots__ = ("java_class",)

    def __init__(self, values=(), java_class="java.util.HashMap"):
        dict.__init__(self, values)
        self.java_class = java_class

    def __hash__(self):
        return hash(frozenset(self.items()))

    def __reduce__(self):
        return MapKey, (dict(self), self.java_class)
