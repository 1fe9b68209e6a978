"""Which function answers a request: the methods of a served object by name and JVM descriptor.

``dubbo.server.server`` makes a ``BoundService`` of each object, ``dubbo.server.dispatch`` asks it
for the method that a request means. The invariant: a request finds a method only if its types are
those declared, or if they fit no other method of the name.
"""

from dragoman.wire.java.descriptor cimport split_descriptor

import inspect

# Descriptors other than those declared, under which a service's methods have been found.
cdef Py_ssize_t FOUND_MAX = 1024
ECHO = "Ljava/lang/Object;"

# Java's types that stand for one in Python: who calls a method with another of the same family
# means this method.
_FAMILIES = {}
for _family in (
    ("B", "S", "I", "J", "java/lang/Byte", "java/lang/Short", "java/lang/Integer",
     "java/lang/Long", "java/math/BigInteger", "java/lang/Number"),
    ("F", "D", "java/lang/Float", "java/lang/Double", "java/math/BigDecimal"),
    ("Z", "java/lang/Boolean"),
    ("C", "java/lang/String", "java/lang/Character", "java/lang/CharSequence"),
    ("java/util/List", "java/util/Set", "java/util/Collection", "java/util/ArrayList",
     "java/util/LinkedList", "java/util/HashSet", "java/util/EnumSet", "java/lang/Iterable"),
):
    for _name in _family:
        _FAMILIES[_name if len(_name) == 1 else f"L{_name};"] = _family[0]


def _alike(str declared, str asked):
    """Whether a value of the type asked for can stand for one of the type declared."""
    if declared == asked or ECHO in (declared, asked):
        return True
    if declared == "Ljava/util/List;" or declared == "Ljava/util/Set;":
        return (asked[0] == "[" and asked != "[B") or _FAMILIES.get(asked) == "java/util/List"
    family = _FAMILIES.get(declared)
    if family is not None or asked in _FAMILIES or len(asked) == 1 or asked[0] == "[":
        return family is not None and family == _FAMILIES.get(asked)
    # Beans and maps: subclasses, interfaces and the like; their fields will tell.
    return declared[0] == "L"


cdef class Bound:
    """A method with the function that answers it."""

    def __init__(self, method, function, Py_ssize_t count, bint threads):
        self.method = method
        self.function = function
        self.decoders = tuple([mapping.decode for mapping in method.parameters[:count]])
        self.encode = method.result.encode
        self.encode_inner = method.result.encode_inner
        self.descriptor = method.result.descriptor
        if self.descriptor == "V":
            # Whatever it returns, nobody waits for a value.
            self.descriptor = None
            self.encode = self.encode_inner = _nothing
        self.coroutine = inspect.iscoroutinefunction(function)
        self.threaded = threads and not self.coroutine


cdef class BoundService:
    """An object whose methods are served; ``declaration`` says how."""

    def __init__(self, declaration, instance, *, bint threads, version=None, group=None):
        cdef Py_ssize_t count
        self.interface = declaration.interface
        self.version = declaration.version if version is None else version
        self.group = declaration.group if group is None else group
        self._exact = {}
        self._by_name = {}
        for method in declaration.methods:
            function = getattr(instance, method.python_name)
            for count in range(method.least, len(method.parameters) + 1):
                bound = Bound(method, function, count, threads)
                self._exact[(method.name, method.descriptor(count))] = bound
                self._by_name.setdefault(method.name, []).append(
                    (method.descriptor(count), bound)
                )

    cdef Bound find(self, str name, str descriptor):
        """The method that is meant, or None: of this very descriptor, or the only one that its
        types fit.
        """
        cdef tuple key = (name, descriptor)
        cdef list fitting
        bound = self._exact.get(key)
        if bound is not None:
            return <Bound>bound
        candidates = self._by_name.get(name)
        if candidates is None:
            return None
        if descriptor is None:
            # A generic call without types: there must be no other of the name.
            return <Bound>candidates[0][1] if len(candidates) == 1 else None
        asked = split_descriptor(descriptor)
        fitting = []
        for declared, bound in candidates:
            own = split_descriptor(declared)
            if len(own) == len(asked) and all([_alike(a, b) for a, b in zip(own, asked)]):
                fitting.append(bound)
        if len(fitting) != 1:
            return None
        if len(self._exact) < FOUND_MAX:
            self._exact[key] = fitting[0]
        return <Bound>fitting[0]

    @property
    def methods(self):
        """The names of the methods in Java, in order."""
        return list(self._by_name)


def _nothing(value):
    return None
