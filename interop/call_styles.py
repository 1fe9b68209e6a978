"""Call styles beside plain arguments: attachments, groups, one-way, generic, ``$echo``.

Each path has its own words for them, so they are written here for each. The invariant: what a path
does not offer is said so, not left out.
"""

from __future__ import annotations

from collections.abc import Callable

from dragoman import dubbo
from interop import call_paths
from interop.call_paths import TYPES
from interop.mesh import Answer, MeshCaller
from interop.results import Result, passed

ORDER = '{"id": 7, "customer": "c", "lines": [{"article": "a", "count": 1, "price": 1.5}]}'
OPTIONS = {"blue": "1.0.0", "green": "2.0.0"}


def expect(got: object, *wanted: object) -> Result:
    """A pass when it is one of these."""
    return Result("pass") if got in wanted else Result("fail", repr(got)[:200])


def by_agents(path: call_paths.Agents) -> dict[str, Result]:
    """Over HTTP."""
    caller = MeshCaller(path.port)

    def said(answer: Answer) -> str:
        return f"{answer.status} {answer.error}{answer.body.decode()}".strip()

    color = {"color": "green"}
    found = {
        "attachments": expect(
            said(caller.call("attachments", [], [], attachments=color)),
            '200 {"color":"green"}',
        ),
        "one-way": expect(said(caller.call("nothing", ['"x"'], oneway=True)), "202"),
        "$echo": expect(said(caller.call("$echo", ['"x"'], ["java.lang.Object"])), '200 "x"'),
    }
    whole = caller.call("attachments", [], [], attachments=color, envelope=True)
    found["attachments of the reply"] = passed(
        "", None if b'"answered-by":"/"' in whole.body else said(whole)
    )
    found["group and version"] = passed(
        "",
        *(
            None
            if (got := said(caller.call("which", [], [], group=group, version=version)))
            == f'200 "{group}/{version}"'
            else got
            for group, version in OPTIONS.items()
        ),
    )
    for kind in (True, "gson"):
        name = "generic" if kind is True else "generic, gson"
        order = [f"{TYPES.removesuffix('Types')}Order"]
        got = caller.call("order", [ORDER], order, generic=kind)
        right = got.status == 200 and b'"customer"' in got.body and b'"class"' not in got.body
        found[name] = passed("", None if right else said(got))
    found["unknown method"] = passed(
        "",
        *(
            None
            if (got := caller.call(method, args, types, generic=kind)).status == 404
            else f"generic {kind}: {said(got)}"
            for method, args, types in (
                ("noSuchMethod", ['"x"'], ["java.lang.String"]),
                ("noSuchMethod", [], []),
            )
            for kind in (False, True)
        ),
    )
    caller.close()
    return found


def by_sdk(path: call_paths.Sdk) -> dict[str, Result]:
    """With the SDK."""
    client = path.client
    types = client.service(TYPES)

    def attempt(call: Callable[[], Result]) -> Result:
        try:
            return call()
        except dubbo.DragomanError as error:
            return Result("fail", f"{type(error).__name__}: {error}"[:200])

    color = {"color": "green"}

    def reply_attachments() -> Result:
        result = dubbo.invoke(types.method("attachments", ""), attachments=color)
        return expect(result.attachments.get("answered-by"), "/")

    def one_way() -> Result:
        dubbo.send(types.nothing, "x")
        return Result("pass")

    def groups() -> Result:
        got = [
            client.service(TYPES, group=group, version=version).which()
            for group, version in OPTIONS.items()
        ]
        return expect(got, ["blue/1.0.0", "green/2.0.0"])

    def generic() -> Result:
        calling = types.method("order", [f"{TYPES.removesuffix('Types')}Order"])
        got = calling({"id": 7, "customer": "c"}, generic=True)
        return expect((got["id"], got["customer"]), (7, "c"))

    def unknown() -> Result:
        try:
            got = types.noSuchMethod("x")
        except dubbo.NotFoundError:
            return Result("pass")
        return Result("fail", repr(got))

    return {
        "attachments": attempt(
            lambda: expect(types.method("attachments", "")(attachments=color), color)
        ),
        "attachments of the reply": attempt(reply_attachments),
        "one-way": attempt(one_way),
        "$echo": attempt(lambda: expect(client.echo(types, "x"), "x")),
        "group and version": attempt(groups),
        "generic": attempt(generic),
        "generic, gson": Result("not offered", "the SDK has typed values"),
        "unknown method": attempt(unknown),
    }
