"""What a provider does to its callers: late, full, leaving, killed.

Each scenario takes a release, its serialization and a path to open, and returns a ``Result``. The
invariant: every call that was begun is counted, and its outcome is looked at.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from dragoman.harness.etcd import free_ports
from interop.call_paths import CallPath, Endpoint, Outcome
from interop.java import JavaProgram, provider
from interop.results import Result, passed

Open = Callable[[list[Endpoint]], AbstractContextManager[CallPath]]
LOAD_THREADS = 16
TEXT = "Ljava/lang/String;"


class Load:
    """Threads that call ``sleep(ms, text)`` again and again, and check what comes back."""

    def __init__(self, path: CallPath, sleep_ms: int, threads: int = LOAD_THREADS) -> None:
        self._path = path
        self._sleep_ms = sleep_ms
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.succeeded = 0
        self.failures: list[tuple[float, str]] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(threads)
        ]

    def _run(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            text = f"{number}-{count}"
            try:
                arguments = [{"int": self._sleep_ms}, text]
                outcome = self._path.call("sleep", f"I{TEXT}", arguments, timeout_ms=5000)
            except OSError as error:
                outcome = Outcome(error=f"the agent's connection: {error}")
            with self._lock:
                if outcome.returned and outcome.value == text:
                    self.succeeded += 1
                else:
                    why = outcome.error or outcome.throwable or f"wrong: {outcome.value}"
                    self.failures.append((time.monotonic(), why))

    def summary(self) -> str:
        """How many calls ended how."""
        kinds = Counter(why[:90] for _, why in self.failures)
        failed = "".join(f", {count} x {why}" for why, count in kinds.most_common(3))
        return f"{self.succeeded} calls, {len(self.failures)} failed{failed}"

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No new calls; wait for those under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def start(stack: ExitStack, release: str, serialization: str, **settings: object) -> int:
    """A provider on a free port; returns the port."""
    port = free_ports(1)[0]
    begin(stack, release, serialization, port=port, **settings)
    return port


def begin(stack: ExitStack, release: str, serialization: str, **settings: object) -> JavaProgram:
    """A provider; ready."""
    return stack.enter_context(provider(release, serialization, **settings)).wait_ready()


def timeout(release: str, serialization: str, open_path: Open) -> Result:
    """A call that takes longer than it may ends in time, and the next is answered its own reply."""
    with ExitStack() as stack:
        port = start(stack, release, serialization)
        path = stack.enter_context(open_path([Endpoint(port)]))
        path.call("sleep", f"I{TEXT}", [{"int": 0}, "warm"])
        began_s = time.monotonic()
        late = path.call("sleep", f"I{TEXT}", [{"int": 1500}, "late"], timeout_ms=300)
        took_s = time.monotonic() - began_s
        after = [path.call("text", TEXT, [f"after {i}"]).value for i in range(20)]
        time.sleep(1.5)
        later = path.call("text", TEXT, ["later"]).value
        return passed(
            f"deadline after {took_s * 1000:.0f} ms of 300",
            None if "deadline" in late.error else f"expected a deadline: {late}",
            None if 0.29 <= took_s < 0.8 else f"it took {took_s:.2f} s",
            None if after == [f"after {i}" for i in range(20)] else f"then came {after}",
            None if later == "later" else f"after the late reply came {later}",
        )


def full_pool(release: str, serialization: str, open_path: Open) -> Result:
    """As many calls as the pool has threads, always: none is seen to be rejected."""
    with ExitStack() as stack:
        port = start(stack, release, serialization, threads=4)
        path = stack.enter_context(open_path([Endpoint(port, limit=4)]))
        with Load(path, 10, threads=24) as load:
            time.sleep(4)
        return passed(
            f"pool of 4, limit 4, 24 callers: {load.summary()}",
            load.summary() if load.failures else None,
        )


def exhausted_pool(release: str, serialization: str, open_path: Open) -> Result:
    """A provider that takes less than its agent was told rejects; another one takes those calls."""
    with ExitStack() as stack:
        small = start(stack, release, serialization, threads=3)
        large = start(stack, release, serialization, threads=200)
        path = stack.enter_context(
            open_path([Endpoint(small, limit=4), Endpoint(large, limit=100)])
        )
        with Load(path, 20, threads=24) as load:
            time.sleep(4)
        return passed(
            f"pool of 3 with a limit of 4 beside one of 200: {load.summary()}",
            load.summary() if load.failures else None,
        )


def shutdown(
    release: str, serialization: str, open_path: Open, *, come_back: bool = True
) -> Result:
    """One of two providers is told to stop under load, and comes back: no call fails."""
    with ExitStack() as stack:
        leaving_port = free_ports(1)[0]
        leaving = begin(stack, release, serialization, port=leaving_port)
        staying = start(stack, release, serialization)
        path = stack.enter_context(open_path([Endpoint(leaving_port), Endpoint(staying)]))
        with Load(path, 20) as load:
            time.sleep(2)
            before = load.succeeded
            leaving.terminate()
            if come_back:
                leaving.process.wait(40)
                begin(stack, release, serialization, port=leaving_port)
            between = load.succeeded
            time.sleep(3)
        return passed(
            load.summary(),
            None if load.succeeded > between >= before > 0 else f"calls stood still: {before}",
            load.summary() if load.failures else None,
        )


def kill(release: str, serialization: str, open_path: Open) -> Result:
    """kill -9 of one of two providers: at most what was on it fails, and nothing later."""
    with ExitStack() as stack:
        dying_port = free_ports(1)[0]
        dying = begin(stack, release, serialization, port=dying_port)
        staying = start(stack, release, serialization)
        path = stack.enter_context(open_path([Endpoint(dying_port), Endpoint(staying)]))
        with Load(path, 20) as load:
            time.sleep(2)
            before = len(load.failures)
            killed_s = time.monotonic()
            dying.kill()
            time.sleep(3)
        late = [why for at_s, why in load.failures if at_s > killed_s + 1.0]
        return passed(
            load.summary(),
            f"{before} failed before the kill: {load.summary()}" if before else None,
            f"{len(late)} failed a second later: {late[0]}" if late else None,
            None if len(load.failures) <= LOAD_THREADS else load.summary(),
        )


SCENARIOS: dict[str, Callable[[str, str, Open], Result]] = {
    "timeout": timeout,
    "full pool": full_pool,
    "exhausted pool": exhausted_pool,
    "shutdown under load": shutdown,
    "kill under load": kill,
}
