"""A method that does not exist is not found, whatever the provider's release says of it."""

from __future__ import annotations

import pytest

from dragoman.dubbo.no_method import says_no_such_method

OLD = "com.alibaba.dubbo.rpc.RpcException"
NEW = "org.apache.dubbo.rpc.RpcException"
SIGNATURE = "org.dragoman.interop.Types.noSuchMethod(java.lang.String)"
DECODING = "Fail to decode request due to: "

# As 2.6.12, 2.7.23, 3.3.6, the demo provider and services of the SDK were seen to say it.
MISSING = {
    "2.6": f"{OLD}: Failed to invoke remote proxy method x to dubbo://h:1/a.B?c=d&e=f, cause: Not "
    'found method "x" in class a.B.',
    "2.6 generic": f"{OLD}: {SIGNATURE} {OLD}: {SIGNATURE}",
    "2.7 generic": f"{NEW}: {SIGNATURE} {NEW}: {SIGNATURE}",
    "generic without arguments": f"{NEW}: a.B.x() {NEW}: a.B.x()",
    "2.7": f"{DECODING}java.lang.IllegalArgumentException: Service not found:a.B, x "
    "java.lang.IllegalArgumentException: Service not found:a.B, x",
    "3.3": f"{DECODING}RpcInvocation [methodName=x, parameterTypes=null]",
    "3.3 generic": f"{NEW}: No such method x in class interface a.B {NEW}: No such method x in",
    "demo": "java.lang.NoSuchMethodException: Not found method x() in class a.B",
    "SDK": "java.lang.NoSuchMethodException: Failed to invoke remote proxy method x, cause: Not "
    'found method "x()" in class a.B.',
}
OTHERS = {
    "a method's own reflection": "java.lang.NoSuchMethodException: a.B.x(int)",
    "its own text": "java.lang.IllegalStateException: Not found method x in class a.B",
    "another service that it calls": f"{NEW}: Failed to invoke the method x in the service a.B",
    "arguments that do not decode": f"{DECODING}RpcInvocation [methodName=x, parameterTypes=[int]]",
    "a class that is not there": f"{NEW}: com.x.Unknown {NEW}: com.x.Unknown",
    "nothing": "",
}


@pytest.mark.parametrize("who", MISSING)
def test_what_providers_say_of_a_missing_method_is_understood(who: str) -> None:
    assert says_no_such_method(MISSING[who])


@pytest.mark.parametrize("what", OTHERS)
def test_other_errors_are_not_taken_for_a_missing_method(what: str) -> None:
    assert not says_no_such_method(OTHERS[what])


def test_a_long_text_costs_little() -> None:
    text = f"{OLD}: Failed to invoke remote proxy method " + "cause: Not found " * 600
    for _ in range(200):
        assert not says_no_such_method(text[:8192])
        assert not says_no_such_method(f"{OLD}: " + "a.b(" * 2000)
