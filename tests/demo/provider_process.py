"""A demo provider as a process of its own, stopped by its pid."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

RUN = "from dragoman.cli.main import run; run()"


class ProviderProcess:
    """``dragoman demo provider`` on a free port."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-c", RUN, "demo", "provider", "--port", "0", *options]
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.child.stdout is not None
        self.said = self.child.stdout.readline()
        found = re.search(r"listens on [\d.]+:(\d+)$", self.said.strip())
        if found is None:
            self.child.kill()
            raise AssertionError(f"not ready: {self.said} {self.child.communicate()[1]}")
        self.port = int(found[1])

    def stop(self, *, timeout_s: float = 15.0) -> dict[str, Any]:
        """SIGTERM; returns the counts of its last line."""
        self.child.terminate()
        return self.finish(timeout_s=timeout_s)

    def finish(self, *, timeout_s: float = 15.0) -> dict[str, Any]:
        """Wait for the end of one that was told to stop; returns the counts of its last line."""
        errors = self.child.communicate(timeout=timeout_s)[1]
        assert self.child.returncode == 0, errors
        counts: dict[str, Any] = json.loads(errors.splitlines()[-1])
        return counts


@contextmanager
def provider_process(*options: str) -> Iterator[ProviderProcess]:
    """A provider for the length of a block."""
    provider = ProviderProcess(*options)
    try:
        yield provider
    finally:
        if provider.child.poll() is None:
            provider.child.kill()
        provider.child.communicate()
