"""The race from its task to its posted result, step by step.

Called by ``dragoman.cli.race``. The invariant: ``run`` always returns a result and always leaves
the machine as it found it: whatever fails, and whenever the user interrupts, every process is
stopped, the logs are packed, the workspace is unlocked, and the result says ``qps`` -1 with the
reason.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from dragoman.balance.policies import POLICIES
from dragoman.errors import DragomanError, UsageError
from dragoman.harness import machine
from dragoman.harness.interruption import Interrupted, Interruption
from dragoman.harness.processes import raise_descriptor_limit
from dragoman.race import archive, load_drivers, posting, signatures
from dragoman.race import task as tasks
from dragoman.race.chain import Chain
from dragoman.race.config import RaceConfig, build
from dragoman.race.level import Level
from dragoman.race.lock import WorkspaceLock
from dragoman.race.progress import Progress, Silent

log = logging.getLogger(__name__)


class Race:
    """One race. ``given`` are the fields of RaceConfig that the user set.

    UsageError at construction if they are wrong; ``run`` raises nothing.
    """

    def __init__(self, given: dict[str, Any], progress: Progress | None = None) -> None:
        self._given = given
        self._progress = progress or Silent()
        self._interruption = Interruption()
        self.config = build(given)
        self.error: Exception | None = None
        """The reason for the failure, after ``run``."""
        self.result: dict[str, Any] = {"qps": -1}

    def run(self) -> dict[str, Any]:
        """Run the whole workflow; returns the result, which has ``error`` if anything failed."""
        started_s = time.monotonic()
        self.result |= {
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": shlex.join(["dragoman", *sys.argv[1:]]),
            "team_id": self.config.team_id,
        }
        with self._interruption:
            with self._failures():
                self._in_workspace()
            self.result["seconds"] = round(time.monotonic() - started_s, 1)
            with self._failures():
                self._deliver()
        return self.result

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn whatever is raised within into the result's ``error``; the first failure counts."""
        try:
            yield
        except Exception as error:
            if isinstance(error, DragomanError):
                log.error("failed: %s", error)
                reason = str(error)
            else:
                log.exception("failed")
                reason = f"unexpected {type(error).__name__}: {error}"
            if self.error is None:
                self.error = error
                self.result["error"] = reason
                self.result["qps"] = -1

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self._progress.step(name)
        log.info("== %s", name)
        started_s = time.monotonic()
        yield
        log.info("== %s: done in %.2f s", name, time.monotonic() - started_s)

    def _in_workspace(self) -> None:
        workspace = Path(self.config.workspace)
        with WorkspaceLock(workspace) as lock:
            logs = archive.fresh_logs(workspace)
            with archive.logging_to(logs, self.config):
                log.info("command: %s", self.result["command"])
                if lock.recovered_pid:
                    log.warning("recovered the stale lock of process %d", lock.recovered_pid)
                with self._failures():
                    self._prepare()
                    self._race(logs)
            with self._failures():
                self._pack(workspace, logs)

    def _prepare(self) -> None:
        """Task, signatures, and what the result says about the machine."""
        with self._step("task"):
            task = tasks.obtain(self.config, self._interruption)
            self.result |= {"team_id": task.team_id, "task_id": task.task_id}
            self.config = build({**task.settings, **self._given})
            log.info("configuration: %s", msgspec.to_builtins(self.config))
        if self.config.signatures:
            with self._step("signatures"):
                path = Path(self.config.signatures)
                hashes = signatures.read(path)
                signatures.verify(hashes, path.parent)
                self.result["signatures_verified"] = len(hashes)
        config = self.config
        self._driver = load_drivers.choose(config.load, config.threads)
        raise_descriptor_limit()
        self.result |= {
            "policy": None if config.compare_policies else config.policy,
            "direct": config.direct,
            "delay_ms": config.delay_ms,
            "limit": config.limit,
            "weights": list(config.weights),
            "load": self._driver.name,
            "machine": machine.machine(),
            "versions": machine.versions(self._driver.name),
        }
        policies = len(POLICIES) if config.compare_policies else 1
        self._progress.plan(
            policies * (config.warmup_s + len(config.connections) * config.duration_s)
        )

    def _race(self, logs: Path) -> None:
        if not self.config.compare_policies:
            self.result["levels"] = []
            self._race_policy(self.config, logs, self.result["levels"])
            self.result["qps"] = max(level["qps"] for level in self.result["levels"])
            return
        entries = self.result["policies"] = []
        for policy in POLICIES:
            entry: dict[str, Any] = {"policy": policy, "qps": -1, "levels": []}
            entries.append(entry)
            directory = logs / policy
            directory.mkdir()
            config = msgspec.structs.replace(self.config, policy=policy)
            self._tell_step(f"policy {policy}")
            try:
                self._race_policy(config, directory, entry["levels"])
            except Interrupted:
                raise
            except DragomanError as error:
                entry["error"] = str(error)
                log.error("policy %s: %s", policy, error)
                continue
            entry["qps"] = max(level["qps"] for level in entry["levels"])
        failed = [entry for entry in entries if "error" in entry]
        if failed:
            raise DragomanError(f"policy {failed[0]['policy']}: {failed[0]['error']}")
        self.result["qps"] = max(entry["qps"] for entry in entries)

    def _race_policy(self, config: RaceConfig, logs: Path, levels: list[dict[str, Any]]) -> None:
        """One chain from its start to its end; each level's report is added to ``levels``."""
        with contextlib.ExitStack() as stack:
            state = Path(config.workspace) / "state"
            shutil.rmtree(state, ignore_errors=True)
            chain = Chain(config, logs, state, self._interruption)
            stack.callback(self._stop, chain)
            chain.start(self._tell_step)
            if config.warmup_s:
                with self._step("warm-up"):
                    connections = max(config.connections)
                    level = self._level(chain, f"warm-up, {connections} connections")
                    result, _ = level.press(connections, config.warmup_s, "warm-up")
                    if result.requests <= 0:
                        raise DragomanError(f"warm-up: no right answer, {result.errors}")
            for connections in config.connections:
                with self._step(f"{connections} connections"):
                    level = self._level(chain, f"{config.policy}, {connections} connections")
                    report = level.run(connections)
                    log.info("level: %s", report)
                    levels.append(report)
                    self._progress.level(report)

    def _level(self, chain: Chain, text: str) -> Level:
        return Level(
            chain,
            self._driver,
            self._interruption,
            lambda seconds: self._progress.advance(seconds, text),
        )

    def _tell_step(self, name: str) -> None:
        self._progress.step(name)
        log.info("== %s", name)

    def _stop(self, chain: Chain) -> None:
        with self._step("stop"):
            chain.__exit__()

    def _pack(self, workspace: Path, logs: Path) -> None:
        with self._step("pack logs"):
            run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
            path = workspace / f"{run_id}.tar.gz"
            self.result["logs"] = str(path)
            posting.write(logs / "result.json", self.result)
            try:
                archive.pack(logs, path)
            except OSError as error:
                self.result["logs"] = None
                raise UsageError(f"archive {path}: {error.strerror or error}") from error

    def _deliver(self) -> None:
        """Write and post the result. A result that cannot be posted is still written, as it was."""
        try:
            if self.config.post_url:
                with self._step("post"):
                    posting.post(
                        self.config.post_url,
                        self.result,
                        self.config.post_attempts,
                        self._interruption,
                    )
                    self.result["posted"] = True
        except DragomanError as error:
            self.result["posted"] = False
            self.result["post_error"] = str(error)
            self.error = self.error or error
        finally:
            if self.config.json_file:
                posting.write(Path(self.config.json_file), self.result)
