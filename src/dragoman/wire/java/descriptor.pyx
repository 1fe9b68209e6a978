"""Parameter descriptors in the JVM's form (The Java Virtual Machine Specification, section 4.3.3).

``Ljava/lang/String;[I`` is what a Dubbo request carries for ``(String, int[])``; people write
Java's type names. The agents call this: it counts and checks the parameters of a descriptor, and
makes one from names. The invariant: a descriptor that passes has 0 to 255 parameters, and none of
its bytes can end a JSON string or a line.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memchr

from dragoman.errors import UsageError

cdef enum:
    PARAMETERS_MAX = 255       # section 4.3.3: a method has at most 255 parameters
    DIMENSIONS_MAX = 255  # section 4.4.1: an array has at most 255 dimensions
    TYPES_CACHED_MAX = 1024


cdef dict PRIMITIVES = {
    "boolean": "Z", "byte": "B", "char": "C", "short": "S", "int": "I", "long": "J", "float": "F",
    "double": "D",
}

# What people leave the package out of; a Dubbo interface in no package at all does not occur.
cdef dict WELL_KNOWN = {
    name: f"Ljava/lang/{name};"
    for name in (
        "Boolean", "Byte", "Character", "Double", "Float", "Integer", "Long", "Number", "Object",
        "Short", "String",
    )
}

cdef dict cached = {}  # tuple of names -> descriptor


cdef int descriptor_count(const char* descriptor, Py_ssize_t n) noexcept nogil:
    """How many parameters there are, or -1 when ``descriptor[:n]`` is malformed."""
    cdef const unsigned char* p = <const unsigned char*>descriptor
    cdef Py_ssize_t i = 0
    cdef int count = 0, dimensions
    cdef unsigned char c
    cdef bint empty
    while i < n:
        if count == PARAMETERS_MAX:
            return -1
        dimensions = 0
        while i < n and p[i] == 91:  # [
            dimensions += 1
            i += 1
        if i == n or dimensions > DIMENSIONS_MAX:
            return -1
        c = p[i]
        i += 1
        if c == 76:  # L, then names between slashes, then a semicolon
            empty = True
            while True:
                if i == n:
                    return -1
                c = p[i]
                i += 1
                if c == 47 or c == 59:
                    if empty:
                        return -1
                    if c == 59:
                        break
                    empty = True
                elif c <= 32 or c == 127 or memchr(b'"\\.[<>:()', c, 9) != NULL:
                    return -1
                else:
                    empty = False
        elif memchr(b"ZBCSIJFD", c, 8) == NULL:
            return -1
        count += 1
    return count


cdef str one_type(str name):
    """The descriptor of one Java type name. Type arguments are erased; ``...`` is an array."""
    cdef str plain = name.strip()
    cdef str prefix = ""
    cdef str result
    cdef bytes encoded
    cdef int opened
    if "<" in plain or ">" in plain:
        opened = plain.find("<")
        end = plain.rfind(">")
        depth = 0
        for at, c in enumerate(plain):
            depth += (c == "<") - (c == ">")
            if depth < 0 or (depth == 0 and opened < at < end):
                raise UsageError(f"{name!r:.200} is no Java type: its angle brackets do not match")
        if depth != 0 or opened <= 0 or plain[end + 1:].strip("[]. "):
            raise UsageError(f"{name!r:.200} is no Java type: its angle brackets do not match")
        plain = plain[:opened].rstrip() + plain[end + 1:]
    while plain.endswith("]") or plain.endswith("..."):
        if plain.endswith("..."):
            plain = plain.removesuffix("...").rstrip()
        else:
            plain = plain.removesuffix("]").rstrip()
            if not plain.endswith("["):
                raise UsageError(f"{name!r:.200} is no Java type: ']' without '['")
            plain = plain.removesuffix("[").rstrip()
        prefix += "["
    if plain in PRIMITIVES:
        result = prefix + PRIMITIVES[plain]
    elif plain in WELL_KNOWN:
        result = prefix + WELL_KNOWN[plain]
    elif plain.startswith("[") or plain.endswith(";"):
        result = prefix + plain.replace(".", "/")  # Class.getName's form, or the JVM's own
    elif plain == "void" or "/" in plain or ";" in plain:
        raise UsageError(f"{name!r:.200} is no Java type of a parameter")
    else:
        result = f"{prefix}L{plain.replace('.', '/')};"
    try:
        encoded = result.encode()
    except UnicodeEncodeError:
        encoded = b""
    if descriptor_count(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded)) != 1:
        raise UsageError(
            f"{name!r:.200} is no Java type, such as int, java.lang.String or a.Bean[]"
        )
    return result


cdef str descriptor_from_types(types):
    """``descriptor_of`` for compiled callers; remembers the lists it has seen, at most 1,024."""
    cdef tuple key = tuple(types)
    known = cached.get(key)
    if known is not None:
        return <str>known
    if len(key) > PARAMETERS_MAX:
        raise UsageError(f"a method has at most {PARAMETERS_MAX} parameters, not {len(key)}")
    for name in key:
        if not isinstance(name, str):
            raise UsageError(f"a Java type name must be text, not {type(name).__name__}")
    result = "".join([one_type(name) for name in key])
    if len(cached) >= TYPES_CACHED_MAX:
        cached.clear()
    if len(result) <= 1024:
        cached[key] = result
    return result


def count_parameters(bytes descriptor not None):
    """How many parameters a descriptor has. UsageError when it is malformed."""
    cdef int count = descriptor_count(PyBytes_AS_STRING(descriptor), PyBytes_GET_SIZE(descriptor))
    if count < 0:
        raise UsageError(
            f"{descriptor.decode('utf-8', 'replace')!r:.200} is no parameter descriptor, such as"
            " Ljava/lang/String;[I"
        )
    return count


cpdef list split_descriptor(str descriptor):
    """The parameters of a well-formed descriptor, one by one."""
    cdef list parts = []
    cdef Py_ssize_t start = 0, at = 0, n = len(descriptor)
    while at < n:
        if descriptor[at] == "[":
            at += 1
            continue
        at = descriptor.index(";", at) + 1 if descriptor[at] == "L" else at + 1
        parts.append(descriptor[start:at])
        start = at
    return parts


def descriptor_of(types):
    """The descriptor of a list of Java type names. UsageError names the type that is none.

    Takes ``int``, ``java.lang.String``, ``java.util.List<a.Bean>`` (type arguments are erased),
    ``a.Bean[]``, ``long...``, ``Class.getName``'s ``[Ljava.lang.String;``, JVM descriptors, and the
    classes of ``java.lang`` without their package.
    """
    return descriptor_from_types(types)


cdef dict NAMES = {letter: name for name, letter in PRIMITIVES.items()}


def java_name(str descriptor not None):
    """The name in Java's source of the one type in ``descriptor``: ``[La/Bean;`` is ``a.Bean[]``.

    UsageError when it is not one type.
    """
    if count_parameters(descriptor.encode()) != 1:
        raise UsageError(f"{descriptor!r:.200} is not one type's descriptor")
    plain = descriptor.lstrip("[")
    name = NAMES.get(plain) or plain[1:len(plain) - 1].replace("/", ".")
    return name + "[]" * (len(descriptor) - len(plain))


cdef str one_descriptor(str text):
    """The descriptor of one type, given as such or as people write it."""
    try:
        if count_parameters(text.encode()) == 1:
            return text
    except (UsageError, UnicodeEncodeError):
        pass
    return descriptor_of([text])
