"""A JSON call as a consumer's agent forwards it: its members, its arguments as Java values.

``dubbo.upstream.encode_request`` puts them into a provider's serialization; the members are in
``docs/formats/calls.md``. What a caller cannot have raises UsageError, with the place in the body.
"""

from typing import Literal

import msgspec

from dragoman.errors import UsageError
from dragoman.wire.java.descriptor import descriptor_of, java_name
from dragoman.wire.java.from_json import OBJECT, fit_json
from dragoman.wire.misfit import UNREADABLE, json_misfit

# Attachments that a call sets itself: a caller who set them would reach what it did not ask for.
SET_BY_CALL = frozenset(("path", "interface", "group", "version"))
OWN_ATTACHMENTS = SET_BY_CALL | {"generic"}
# Names of members that fastjson obeys: make an object of this class, put another value here.
COMMANDS = ("@type", "$ref")
# The parameters of ``$invoke``.
GENERIC_DESCRIPTOR = b"Ljava/lang/String;[Ljava/lang/String;[Ljava/lang/Object;"


class ForwardedCall(msgspec.Struct, rename={"class_names": "class"}):
    """The part of a JSON call that the provider's side reads."""

    types: list[str] | None = None
    args: list[msgspec.Raw] = []
    # Added by a consumer's agent: class -> field -> type, where only the type explains the JSON.
    fields: dict[str, dict[str, str]] = {}
    attachments: dict[str, str] = {}
    generic: bool | Literal["gson"] | None = None
    class_names: bool = False
    envelope: bool = False
    oneway: bool = False


_json_call = msgspec.json.Decoder(ForwardedCall)


cdef object read_json_call(bytes body):
    """The ``ForwardedCall`` that ``body`` is."""
    try:
        call = _json_call.decode(body)
    except UNREADABLE:
        raise UsageError(f"body: {json_misfit(body, ForwardedCall)}") from None
    if len(call.args) > ARGUMENTS_MAX:
        raise UsageError(f"args: at most {ARGUMENTS_MAX} arguments, {len(call.args)} given")
    if call.types is not None and len(call.types) != len(call.args):
        raise UsageError(f"{len(call.types)} types for {len(call.args)} args")
    for name in call.attachments:
        if name in OWN_ATTACHMENTS:
            raise UsageError(f"attachments: {name} is set by the call itself")
    return call


cdef int check_names(attachments) except -1:
    """Refuse attachments whose names fastjson would obey: they are text in a body like any other
    member."""
    for name in COMMANDS:
        if name in attachments:
            raise UsageError(f"attachments: {name} is not passed on; fastjson would obey it")
    return 0


cdef object fit_argument(int i, bytes raw, kind, bint beans, dict fields):
    """``args[i]`` as a Java value."""
    try:
        return fit_json(raw, kind, beans=beans, fields=fields)
    except UsageError as error:
        raise UsageError(f"args[{i}]: {error}") from None


cdef list generic_arguments(str method, types, kinds, list raws, bint gson, dict fields):
    """The arguments of ``$invoke``: the method's name, the types' names, the values."""
    if gson:
        values = [raw.decode() for raw in raws]
    else:
        values = [
            fit_argument(i, raw, OBJECT if kinds is None else kinds[i], False, fields)
            for i, raw in enumerate(raws)
        ]
    return [method, None if types is None else java_names(types), values]


cdef list java_names(types):
    """Types' names as Java's source has them, for the array of names of ``$invoke``."""
    return [java_name(descriptor_of([each])) for each in types]


cdef str guess_type(bytes raw):
    """The Java type of a JSON value whose type the caller did not name."""
    first = raw[:1]
    if first == b'"':
        return "java.lang.String"
    if first in b"tf":
        return "boolean"
    if first == b"{":
        return "java.util.Map"
    if first == b"[":
        return "java.util.List"
    if first == b"n":
        return "java.lang.Object"
    if any(mark in raw for mark in (b".", b"e", b"E")):
        return "double"
    if len(raw) > 19:
        return "java.math.BigInteger"
    return "int" if -2147483648 <= int(raw) <= 2147483647 else "long"
