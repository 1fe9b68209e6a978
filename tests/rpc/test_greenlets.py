"""A blocking client where threads are greenlets says so at once, instead of standing still."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.rpc.peers import server_process

PATCHED = """
import threading
def start(*_, **__): raise AssertionError("never")
threading._start_new_thread = start
"""
GEVENT = "from gevent import monkey; monkey.patch_all()\n"
USE = """
from dragoman import dubbo, rpc
for connect in (lambda: rpc.connect_sync("127.0.0.1:1"), lambda: dubbo.SyncClient("dubbo://127.0.0.1:1")):
    try:
        connect()
    except rpc.UsageError as error:
        assert "patch_all" in str(error), error
    else:
        raise AssertionError
print("told")
"""
AT_EXIT = """
import os
class Late:
    def __del__(self, client=client, rpc=rpc, AT=AT, os=os):
        for use in (lambda: client.call("echo"), client.close, lambda: rpc.connect_sync(AT)):
            try:
                use()
            except Exception as error:
                os.write(1, type(error).__name__.encode() + b" ")
"""


def told(source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("patch", [PATCHED, GEVENT], ids=["patched", "gevent"])
def test_patched_threads_are_told_at_once(patch: str) -> None:
    if patch is GEVENT and importlib.util.find_spec("gevent") is None:
        pytest.skip("gevent is not installed")
    assert told(patch + USE) == "told\n"


def test_a_client_that_is_used_as_the_interpreter_ends_does_not_keep_it() -> None:
    with server_process() as (_, address):
        source = f"""
from dragoman import rpc
AT = {address!r}
client = rpc.connect_sync(AT)
assert client.call("echo", b"x") == b"x"
{AT_EXIT}
late = Late()
"""
        assert told(source).split() == ["LinkLostError", "UsageError"]
