"""Why something was refused is told in our words, whoever raised it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl

import pytest
import uvloop

from dragoman.reasons import reason


def refused(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code = code
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 1)"), "Connection refused"),
        (ConnectionResetError(), "ConnectionResetError"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "Connection reset by peer"),
        (TimeoutError(), "no answer in time"),
        (TimeoutError(errno.ETIMEDOUT, "x"), os.strerror(errno.ETIMEDOUT)),
        (socket.gaierror(-2, "another libc's words"), "the host's name is not known"),
        (
            OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), ..."),
            "none of the host's addresses can be connected to",
        ),
        (refused(18, "self-signed"), "TLS: the certificate is from nobody who is trusted"),
        (refused(10, "has expired"), "TLS: the certificate has expired"),
        (refused(62, "mismatch"), "TLS: the certificate is for another name"),
        (
            ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version (_ssl.c:1006)"),
            "TLS: ",
        ),
    ],
)
def test_a_reason_is_ours(error: Exception, message: str) -> None:
    assert reason(error).startswith(message)
    assert "_ssl.c" not in reason(error)
    assert "10.0.0.1" not in reason(error)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_both_loops_give_the_same_reason(run: object) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]

        async def main() -> str:
            try:
                await asyncio.get_running_loop().create_connection(
                    asyncio.Protocol, "127.0.0.1", port
                )
            except OSError as error:
                return reason(error)
            return "connected"

        assert run(main()) == "Connection refused"  # type: ignore[operator]
