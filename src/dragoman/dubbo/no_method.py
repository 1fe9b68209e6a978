"""What providers of different releases say of a method that does not exist.

Only Dubbo 2.7 has a form of its own for it; others answer with an exception of the framework, or
refuse the request as malformed. ``dubbo.upstream.egress`` and the SDK's client ask here, with the
one line that an error's text is, so that such a call is *not found* whoever the provider is. The
forms were recorded from 2.6.12, 2.7.23 and 3.3.6; a method's own exceptions do not have them.
"""

from __future__ import annotations

import re

_NAME = r"[\w.$/]+"
_FORMS = re.compile(
    # 2.6's wrapper, and services of the SDK; fastjson providers of the contest's kind.
    rf"(?:{_NAME}\.rpc\.RpcException|{_NAME}\.NoSuchMethodException): "
    r"(?:Failed to invoke remote proxy method .{1,8000}?cause: )?Not found method "
    # Generic invocation: 3.3, and before it the method's signature alone.
    rf"|{_NAME}\.rpc\.RpcException: No such method \S+ in class "
    rf"|({_NAME}\.rpc\.RpcException: {_NAME}\.\w+\([\w.$, \[\];]*\))(?: \1)?$"
    # 2.7 and 3.3, in the text of status 40.
    r"|Fail to decode request due to: (?:RpcInvocation \[methodName=[^,]+, parameterTypes=null"
    r"|java\.lang\.IllegalArgumentException: Service not found:)"
)


def says_no_such_method(text: str) -> bool:
    """Whether ``text``, one line, says that the provider has no such method."""
    return _FORMS.match(text) is not None
