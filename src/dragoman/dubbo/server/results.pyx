"""What served functions return and raise, as the values that replies carry.

``dubbo.server.dispatch`` calls this for generic callers and for exceptions. The invariant: whatever
an exception is, it becomes a Java exception and a text of bounded length.
"""

from dragoman.wire.java.bean cimport Bean

from dragoman.dubbo.types.mapping import ENUMS
from dragoman.errors import JavaError
from dragoman.wire.java import TypedList

GENERIC_EXCEPTION = "org.apache.dubbo.rpc.service.GenericException"


cdef str words(error):
    """An error's text, whatever it is."""
    try:
        text = str(error)
    except BaseException:
        text = ""
    return (text or type(error).__name__)[:TEXT_MAX]


def throwable_of(error, generic=False):
    """The Java exception that an exception of Python travels as, a Bean."""
    if isinstance(error, JavaError):
        java_class = error.java_class
        fields = dict(error.fields)
        message = str(error)
    else:
        java_class = JavaError.java_class
        fields = {}
        message = words(error)
    if generic:
        # Who calls generically need not have the class.
        fields = {"exceptionClass": java_class, "exceptionMessage": message}
        java_class = GENERIC_EXCEPTION
    return Bean(java_class, {
        "detailMessage": message,
        "stackTrace": TypedList("[java.lang.StackTraceElement"),
        **fields,
    })


def generalized(value, _memo=None):
    """A value as generic callers get it: beans as maps with their class under ``class``."""
    if isinstance(value, dict):
        if _memo is None:
            _memo = {}
        if id(value) in _memo:
            return _memo[id(value)]
        made = _memo[id(value)] = {}
        java_class = getattr(value, "java_class", None)
        if isinstance(value, Bean):
            if java_class in ENUMS:
                return value.get("name")
            made["class"] = java_class
        for key, item in value.items():
            made[key] = generalized(item, _memo)
        return made
    if isinstance(value, (list, tuple, set, frozenset)):
        if _memo is None:
            _memo = {}
        if id(value) in _memo:
            return _memo[id(value)]
        items = _memo[id(value)] = []
        items.extend([generalized(item, _memo) for item in value])
        return items
    return value
