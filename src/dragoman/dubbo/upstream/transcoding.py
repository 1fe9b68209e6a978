"""What the process beside a loop does: it makes requests and reads replies that are large.

``dubbo.upstream.transcoder`` starts it with ``START`` and is at the other end of its socket. A job
is a head (msgpack) and a body, after the lengths of both; so is an answer, and a head without
length says that the job has arrived and is begun. The process takes one job after another, ends
with the socket, and after a job that made it large.

The invariants: every job is answered, whatever is wrong with it; the process yields to those who
answer small calls, and is the first to go where memory runs out.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import struct
from typing import Any, Final

import msgspec

from dragoman.dubbo.upstream.decode_reply import Replies
from dragoman.dubbo.upstream.encode_request import Requests
from dragoman.errors import Code, NotFoundError, UsageError

# The package ``dragoman.dubbo`` would load clients and registries, which have no part in this.
START: Final = """
import sys, types
fd, memory, parent = sys.argv[1:]
sys.path.append(parent)
package = types.ModuleType("dragoman.dubbo")
package.__path__ = [parent + "/dragoman/dubbo"]
sys.modules["dragoman.dubbo"] = package
from dragoman.dubbo.upstream.transcoding import work
work(int(fd), int(memory))
"""

LENGTHS: Final = struct.Struct("<IQ")
BEGUN: Final = LENGTHS.pack(0, 0)
# A tenth of what the loop has where both want all: large calls still end on a machine that is busy.
NICE: Final = 10
# The process is replaced when it has been larger than this, since much of it is never given back.
KEPT_BYTES: Final = 192 << 20
RECEIVE_BYTES: Final = 1 << 20

# Serialization, group, version, path, token, and the interfaces that may be called, None for any.
For = tuple[str, str, str, str, str, tuple[str, ...] | None]


class Head(msgspec.Struct, array_like=True):
    """What is to be done: ``make`` a request (for whom, mesh method, how long it may take), or
    ``read`` a reply (what was asked, serialization)."""

    make: tuple[For, int, int] | None = None
    read: tuple[bytes, int] | None = None


class Answer(msgspec.Struct, array_like=True):
    """What came of it; the body is the frame, or what the caller is given. ``code`` is 0, or an
    error's, with ``problem`` to say why; ``asked`` is what a request asked for. ``last``: the
    process ends with this."""

    code: int
    problem: str = ""
    asked: bytes = b""
    last: bool = False


_read_head = msgspec.msgpack.Decoder(Head).decode
_encode = msgspec.msgpack.Encoder().encode


class Works:
    """Does the jobs."""

    def __init__(self) -> None:
        self._requests: dict[For, Requests] = {}
        self._replies = Replies()

    def do(self, head: Head, body: bytes) -> tuple[Answer, bytes]:
        """The answer to a job."""
        try:
            if head.make is not None:
                return self._make(*head.make, body)
            assert head.read is not None
            asked, serialization = head.read
            code, given = self._replies.answer_to(asked, serialization, body)
            if isinstance(given, bytes):
                return Answer(code), given
            return Answer(code, given), b""
        except UsageError as error:
            return Answer(Code.MALFORMED, str(error)), b""
        except NotFoundError as error:
            return Answer(Code.NOT_FOUND, str(error)), b""
        except MemoryError:
            return Answer(Code.TOO_LARGE, "it takes more memory than a call may have"), b""
        except Exception as error:
            return Answer(Code.INTERNAL, f"{type(error).__name__}: {error}"), b""

    def _make(self, to: For, method: int, timeout_ms: int, body: bytes) -> tuple[Answer, bytes]:
        requests = self._requests.get(to)
        if requests is None:
            serialization, group, version, path, token, interfaces = to
            requests = self._requests[to] = Requests(
                serialization,
                group=group,
                version=version,
                path=path,
                token=token,
                interfaces=interfaces,
            )
        frame, asked = requests.make_asked(method, body, timeout_ms)
        return Answer(0, "", asked), frame


def _receive(sock: socket.socket, length: int) -> bytes | None:
    """So many bytes; None at the end."""
    parts: list[bytes] = []
    while length:
        part = sock.recv(min(length, RECEIVE_BYTES))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _yield_to_others(memory: int) -> None:
    # What ends the agent by a signal to all its processes is to find the jobs finished.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICE)
        # Who wakes up for a small call interrupts it, and it interrupts nobody. Not SCHED_IDLE: on
        # a machine whose processors are all busy large calls would never end.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # A job's values have no cycles, and to look for some among millions takes longer than the job.
    gc.disable()


def _most_bytes() -> int:
    """The most memory that this process has had. ``ru_maxrss`` would count who started it, too."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def work(fd: int, memory: int) -> None:
    """Take jobs from the socket until it ends. ``memory``: bytes that the process may have."""
    _yield_to_others(memory)
    works = Works()
    with socket.socket(fileno=fd) as sock, contextlib.suppress(OSError):
        while True:
            lengths = _receive(sock, LENGTHS.size)
            if lengths is None:
                return
            head_length, body_length = LENGTHS.unpack(lengths)
            head = _receive(sock, head_length)
            body = _receive(sock, body_length)
            if head is None or body is None:
                return
            sock.sendall(BEGUN)
            answer, made = works.do(_read_head(head), body)
            answer.last = _most_bytes() > KEPT_BYTES
            said: Any = _encode(answer)
            sock.sendall(LENGTHS.pack(len(said), len(made)) + said)
            sock.sendall(made)
            if answer.last:
                return
            del body, made
            gc.collect()


__all__ = ["LENGTHS", "START", "Answer", "For", "Head", "Works", "work"]
