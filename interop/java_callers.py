"""Java consumers that call the SDK's service, and what the consumers say of it."""

from __future__ import annotations

import time
from contextlib import ExitStack

from dragoman import dubbo
from dragoman.harness.etcd import free_ports
from interop.call_paths import TYPES
from interop.java import LOOPBACK, JavaProgram, json_lines, listing, provider
from interop.programs import Program, python_program
from interop.results import Result, passed
from interop.zookeeper import zookeeper

SEEN = {
    "attachment of the reply": "attachments of the reply",
    "another group and version": "group and version",
}
CALL_STYLES = ("attachments", "group and version", "$echo", "one-way", "timeout", *SEEN)


def serve(stack: ExitStack, port: int = 0, *registry: str) -> tuple[Program, int]:
    """The SDK's service as a process; ready."""
    port = port or free_ports(1)[0]
    program = python_program("SDK service", "interop.service", str(port), *registry)
    stack.enter_context(program).wait_line("ready")
    return program, port


def call_all(release: str, serialization: str) -> tuple[dict[str, Result], dict[str, Result]]:
    """All cases and all call styles, by a consumer of this release: the results of both."""
    with ExitStack() as stack:
        _, port = serve(stack)
        settings = {"serialization": serialization, "generic": "true"}
        consumer = JavaProgram(release, "Consumer", address=f"{LOOPBACK}:{port}", **settings)
        said = json_lines(stack.enter_context(consumer).wait_end())
        if consumer.lines[-1:] != ["done"]:
            raise AssertionError(consumer.errors())
    by_name = {each["name"]: Result(each["outcome"], shorter(each.get("why", ""))) for each in said}
    cases = {case["name"]: by_name[case["name"]] for case in listing()}
    styles = {SEEN.get(name, name): by_name[name] for name in CALL_STYLES}
    generic = {name: each for name, each in by_name.items() if name.startswith("generic")}
    failed = [f"{name}: {each.why}" for name, each in generic.items() if each.cell != "pass"]
    styles["generic"] = passed(f"{len(generic)} calls", *failed)
    return cases, styles


def shorter(why: str) -> str:
    """What a consumer says went wrong, without the provider's URL, which stands between."""
    said, _, rest = why.partition(", provider: ")
    cause = rest.rpartition(", cause: ")[2] if ", cause: " in rest else ""
    cause = cause.removeprefix("org.apache.dubbo.remoting.RemotingException: ")
    return f"{said[:200]}, cause: {cause[:200]}" if cause else said[:200]


def shutdown(release: str, serialization: str) -> Result:
    """One of two SDK services is told to stop under a Java consumer's load: no call fails.

    Both are in ZooKeeper, as Java's own would be.
    """
    with ExitStack() as stack:
        url = f"zookeeper://{stack.enter_context(zookeeper())}"
        leaving, _ = serve(stack, 0, url)
        serve(stack, 0, url)
        settings = {"serialization": serialization, "registry": url, "load": 9000}
        consumer = stack.enter_context(JavaProgram(release, "Consumer", **settings))
        consumer.wait_ready()
        time.sleep(3)
        leaving.terminate()
        leaving.wait_end(20)
        (said,) = json_lines(consumer.wait_end())
        what = f"{said['succeeded']} calls, {said['failed']} failed"
        return passed(
            what,
            f"{what}: {said['why']}"[:250] if said["failed"] else None,
            None if said["succeeded"] > 1000 else what,
            None if leaving.process.returncode == 0 else leaving.errors()[-200:],
        )


def registered_java(release: str) -> Result:
    """A Java provider that registered in ZooKeeper is found and called by the SDK."""
    with ExitStack() as stack:
        at = stack.enter_context(zookeeper())
        (port,) = free_ports(1)
        program = provider(release, registry=f"zookeeper://{at}", port=port)
        stack.enter_context(program).wait_ready()
        client = stack.enter_context(dubbo.connect_sync(f"zookeeper://{at}"))
        types = client.service(TYPES)
        client.ready(types, timeout_ms=20000)
        got = [types.text("found"), client.service(TYPES, group="blue", version="1.0.0").which()]
        return passed("", None if got == ["found", "blue/1.0.0"] else repr(got))


def registered_sdk(release: str) -> Result:
    """An SDK service that registered in ZooKeeper is found and called by a Java consumer."""
    with ExitStack() as stack:
        url = f"zookeeper://{stack.enter_context(zookeeper())}"
        serve(stack, 0, url)
        consumer = JavaProgram(release, "Consumer", registry=url, only="String chinese")
        (said,) = json_lines(stack.enter_context(consumer).wait_end())
        return Result(said["outcome"], said.get("why", "")[:200])
