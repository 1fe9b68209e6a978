"""Plans: how a value is written as a parameter's type asks, by JVM descriptor.

``hessian2.writer`` writes by them. The invariant: a plan depends on nothing but its descriptor, so
those seen are remembered, a bounded number of them.
"""

from dragoman.wire.java.to_bean import TO_JAVA

cdef enum:
    PLANS_CACHED_MAX = 4096

cdef dict plans = {}

cdef dict PRIMITIVES = {
    "Z": (BOOLEAN, "boolean", 0, 0),
    "B": (INTEGER, "byte", -0x80, 0x7F),
    "S": (INTEGER, "short", -0x8000, 0x7FFF),
    "I": (INTEGER, "int", -0x80000000, 0x7FFFFFFF),
    "J": (LONG, "long", -0x8000000000000000, 0x7FFFFFFFFFFFFFFF),
    "F": (DOUBLE, "float", 0, 0),
    "D": (DOUBLE, "double", 0, 0),
    "C": (CHARACTER, "char", 0, 0),
}
cdef dict BOXES = {
    "java.lang.Boolean": "Z", "java.lang.Byte": "B", "java.lang.Short": "S",
    "java.lang.Integer": "I", "java.lang.Long": "J", "java.lang.Float": "F",
    "java.lang.Double": "D", "java.lang.Character": "C",
}
# Where any value will do: it is written as without a descriptor.
cdef frozenset OPEN = frozenset((
    "java.lang.Object", "java.io.Serializable", "java.lang.Comparable", "java.lang.Cloneable",
))
cdef dict LISTS = {name: None for name in (
    "java.util.List", "java.util.Collection", "java.lang.Iterable", "java.util.ArrayList",
    "java.util.AbstractList", "java.util.AbstractCollection",
)} | {name: name for name in (
    "java.util.LinkedList", "java.util.Vector", "java.util.Stack", "java.util.ArrayDeque",
    "java.util.PriorityQueue", "java.util.concurrent.CopyOnWriteArrayList",
)} | {"java.util.Queue": "java.util.LinkedList", "java.util.Deque": "java.util.LinkedList"}
cdef dict SETS = {
    "java.util.Set": "java.util.HashSet", "java.util.AbstractSet": "java.util.HashSet",
    "java.util.SortedSet": "java.util.TreeSet", "java.util.NavigableSet": "java.util.TreeSet",
} | {name: name for name in (
    "java.util.HashSet", "java.util.LinkedHashSet", "java.util.TreeSet",
    "java.util.concurrent.CopyOnWriteArraySet",
)}
cdef dict MAPS = {
    "java.util.Map": None, "java.util.HashMap": None, "java.util.AbstractMap": None,
    "java.util.SortedMap": "java.util.TreeMap", "java.util.NavigableMap": "java.util.TreeMap",
    "java.util.concurrent.ConcurrentMap": "java.util.concurrent.ConcurrentHashMap",
} | {name: name for name in (
    "java.util.LinkedHashMap", "java.util.TreeMap", "java.util.Hashtable",
    "java.util.IdentityHashMap", "java.util.WeakHashMap", "java.util.Properties",
    "java.util.concurrent.ConcurrentHashMap", "java.util.concurrent.ConcurrentSkipListMap",
)}


cdef class Plan:
    """How a value is written for one parameter's type."""

    def __cinit__(self, kind, java_class, nullable=True):
        self.kind = kind
        self.java_class = java_class
        self.nullable = nullable


cdef Plan primitive_plan(str letter, str java_class):
    kind, name, least, most = PRIMITIVES[letter]
    plan = Plan(kind, java_class or name, java_class is not None)
    (<Plan>plan).least = least
    (<Plan>plan).most = most
    return plan


cdef str element_class(Plan plan):
    """How hessian names an array's elements."""
    if plan.kind == ARRAY or plan.kind == BYTES or plan.kind == CHARACTERS:
        return plan.wire_class
    if plan.java_class == "java.lang.String":
        return "string"
    if plan.java_class == "java.lang.Object":
        return "object"
    if plan.java_class == "java.util.Date":
        return "date"
    return plan.java_class


cdef Plan make_plan(str descriptor):
    cdef Plan plan
    cdef str name
    if descriptor[0] == "[":
        element = plan_of(descriptor[1:])
        if descriptor == "[B":
            plan = Plan(BYTES, "byte[]")
            plan.wire_class = "[byte"
        elif descriptor == "[C":
            plan = Plan(CHARACTERS, "char[]")
            plan.wire_class = "[char"
        else:
            plan = Plan(ARRAY, f"{element.java_class}[]")
            plan.element = element
            plan.wire_class = "[" + element_class(element)
        return plan
    if descriptor in PRIMITIVES:
        return primitive_plan(descriptor, None)
    name = descriptor[1:len(descriptor) - 1].replace("/", ".")
    if name in BOXES:
        return primitive_plan(BOXES[name], name)
    if name in ("java.lang.String", "java.lang.CharSequence"):
        return Plan(TEXT, name)
    if name in OPEN:
        return Plan(AS_IS, name)
    if name == "java.lang.Number":
        return Plan(NUMBER, name)
    if name in LISTS or name in SETS or name in MAPS:
        kind, known = (
            (LIST, LISTS) if name in LISTS else (SET, SETS) if name in SETS else (MAP, MAPS)
        )
        plan = Plan(kind, name)
        plan.wire_class = known[name]
        return plan
    if name in TO_JAVA:
        plan = Plan(CONVERTED, name)
        plan.convert = TO_JAVA[name]
        return plan
    return Plan(OBJECT, name)


cdef Plan plan_of(str descriptor):
    """The plan of one well-formed descriptor; those seen are remembered."""
    found = plans.get(descriptor)
    if found is not None:
        return <Plan>found
    plan = make_plan(descriptor)
    if len(plans) >= PLANS_CACHED_MAX:
        plans.clear()
    if len(descriptor) <= 256:
        plans[descriptor] = plan
    return plan
