"""What the matrix says of a column, without running Java."""

from __future__ import annotations

import pytest
from interop.columns import JAVA, Column, run
from interop.results import Result

from interop import java_callers

URL = ", provider: dubbo://h:1/a.B?methods=node,text&side=consumer"
REFUSED = (
    "Fail to decode request due to: fastjson: a value that contains itself, which JSON cannot say"
)
# As consumers of 2.7.23 and 2.6.12 were seen to say it.
MEANT = {
    "2.7": "threw org.apache.dubbo.rpc.RpcException: Failed to invoke remote method: node"
    f"{URL}, cause: org.apache.dubbo.remoting.RemotingException: {REFUSED}",
    "2.6": "threw com.alibaba.dubbo.rpc.RpcException: Failed to invoke remote method: node"
    f"{URL}, cause: {REFUSED}",
}
OTHERS = {
    "a deadline": "threw org.apache.dubbo.rpc.RpcException: Failed to invoke the method node"
    f"{URL}, cause: Waiting server-side response timeout",
    "another refusal": "threw org.apache.dubbo.rpc.RpcException: Failed to invoke remote method: "
    f"node{URL}, cause: Fail to decode request due to: fastjson: malformed",
    "another value": 'gave {"bean": "org.dragoman.interop.Node", "fields": {}}',
    "no reason": "",
}


def ran(why: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What becomes of the row of cycles that a consumer says this of."""
    result = Result("fail", java_callers.shorter(why))
    monkeypatch.setattr(java_callers, "call_all", lambda *pair: ({"cycle": result}, {}))
    monkeypatch.setattr("interop.columns.lost_in_java", lambda *pair: {})
    column = Column(JAVA, "2.7", "fastjson")
    run(column, lambda text: None, scenarios=False)
    return column.values["cycle"].cell


@pytest.mark.parametrize("release", MEANT)
def test_a_cycle_that_is_refused_as_such_is_not_offered(
    release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran(MEANT[release], monkeypatch) == "not offered"


@pytest.mark.parametrize("what", OTHERS)
def test_any_other_failure_of_a_cycle_is_a_failure(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran(OTHERS[what], monkeypatch) == "fail"
