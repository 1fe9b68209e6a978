"""Records real bytes: ``python -m interop.record`` writes ``tests/conformance/dubbo/*.json``.

A Java consumer calls a Java provider of the same release through a proxy that keeps every frame;
what the consumer says of each call is put beside the frames. Then single frames are played to a
provider, for what a consumer never sends or shows: rejections, unknown methods, readonly. Frames
are told apart here by their header alone, without the codec that is to be tested with them.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dragoman.harness.etcd import free_ports
from interop.java import LOOPBACK, JavaProgram, build, environment, json_lines, provider

TARGET = Path(__file__).parent.parent / "tests" / "conformance" / "dubbo"
RUNS = [
    ("2.6", "hessian2", "true"),
    ("2.6", "fastjson", ""),
    ("2.7", "hessian2", "true,gson"),
    ("2.7", "fastjson", ""),
    ("3.3", "hessian2", "true,gson"),
    ("3.3", "fastjson2", "true"),
]
# Calls of more than this many bytes are kept in one recording of each serialization only.
LARGE_BYTES = 8192
LARGE_KEPT = {("2.7", "hessian2"), ("2.7", "fastjson"), ("3.3", "fastjson2")}
KEPT_BYTES_MAX = 100_000
REQUEST, TWO_WAY, EVENT = 0x80, 0x40, 0x20
METHOD = {"hessian2": b"\x04text", "fastjson": b'"text', "fastjson2": b"Mtext"}
TYPES = b"org.dragoman.interop.Types"


class Frame:
    """One frame as it passed."""

    def __init__(self, direction: str, data: bytes) -> None:
        self.direction = direction
        self.data = data
        self.flags = data[2]
        self.status = data[3]
        self.id = struct.unpack_from(">Q", data, 4)[0]

    @property
    def is_call(self) -> bool:
        return bool(self.flags & REQUEST) and not self.flags & EVENT


def read_exactly(source: socket.socket, size: int) -> bytes:
    """``size`` bytes, or EOFError."""
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise EOFError(data)
        data += more
    return data


def read_frame(source: socket.socket, direction: str = "reply") -> Frame:
    """The next whole frame."""
    head = read_exactly(source, 16)
    assert head[:2] == b"\xda\xbb", head.hex()
    return Frame(direction, head + read_exactly(source, struct.unpack_from(">I", head, 12)[0]))


class Proxy:
    """A port before another one; keeps the frames of all its connections, in order."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.frames: list[Frame] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            for source, sink, name in ((near, far, "request"), (far, near, "reply")):
                pump = (source, sink, name)
                threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        try:
            while True:
                frame = read_frame(source, name)
                self.frames.append(frame)
                sink.sendall(frame.data)
        except (OSError, EOFError):
            for each in (source, sink):
                each.close()

    def close(self) -> None:
        self._server.close()


def record(release: str, serialization: str, generic: str) -> dict[str, Any]:
    """One recording: calls, events and what was played."""
    port = free_ports(1)[0]
    with provider(release, serialization, port=port, **{"protocol.heartbeat": 1000}) as at:
        at.wait_ready()
        proxy = Proxy(port)
        settings = {"serialization": serialization, "heartbeat": 1000, "linger": 3500}
        if generic:
            settings["generic"] = generic
        address = f"{LOOPBACK}:{proxy.port}"
        with JavaProgram(release, "Consumer", address=address, **settings) as consumer:
            said = json_lines(consumer.wait_end())
            assert consumer.lines[-1:] == ["done"], consumer.errors()
        proxy.close()
        calls = match(said, proxy.frames)
        events = event_pairs(proxy.frames)
    return {
        "dubbo": release,
        "serialization": serialization,
        "java": environment(),
        "calls": [each for each in calls if wanted(each, release, serialization)],
        "events": events,
        "played": played(release, serialization, calls),
    }


def match(said: list[dict[str, Any]], frames: list[Frame]) -> list[dict[str, Any]]:
    """The consumer's words beside the frames: the calls were made one after another."""
    requests = [frame for frame in frames if frame.is_call]
    replies = {frame.id: frame for frame in frames if not frame.flags & (REQUEST | EVENT)}
    sent = []
    for call in said:
        name = call.get("method", "").encode()
        if not requests or not call.pop("sent", True) or name not in requests[0].data:
            # Not a call of its own, or one that the consumer could not write.
            continue
        request = requests.pop(0)
        call["request"] = request.data.hex()
        if request.flags & TWO_WAY:
            call["reply"] = replies[request.id].data.hex()
        if "why" in call:
            call["why"] = call["why"][:120]
        sent.append(call)
    assert not requests, f"{len(requests)} requests are of no call"
    return sent


def wanted(call: dict[str, Any], release: str, serialization: str) -> bool:
    """Whether to keep a call: few of the large ones, and what Java loses."""
    size = (len(call["request"]) + len(call.get("reply", ""))) // 2
    if size > KEPT_BYTES_MAX:
        return False
    lost = call["outcome"] != "pass"
    return lost or size < LARGE_BYTES or (release, serialization) in LARGE_KEPT


def event_pairs(frames: list[Frame]) -> list[dict[str, Any]]:
    """The first event of each kind and direction with its answer."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for frame in frames:
        if frame.flags & EVENT and frame.flags & REQUEST:
            body = frame.data[16:].hex()
            by = "consumer" if frame.direction == "request" else "provider"
            event = {"by": by, "request": frame.data.hex()}
            for answer in frames:
                if answer.flags & EVENT and not answer.flags & REQUEST and answer.id == frame.id:
                    event["reply"] = answer.data.hex()
            found.setdefault((by, body), event)
    return list(found.values())


def played(release: str, serialization: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a provider of one thread says to single frames."""
    by_name = {call["name"]: bytes.fromhex(call["request"]) for call in calls}
    text, sleep = by_name["String"], by_name["timeout"]
    unknown_method = text.replace(METHOD[serialization], METHOD[serialization][:-2] + b"zt")
    assert unknown_method != text
    unknown_service = text.replace(TYPES, TYPES[:-1] + b"z")
    unknown_type = by_name["bean"].replace(b"interop/Order", b"interop/Orde_")
    said: list[dict[str, Any]] = []
    port = free_ports(1)[0]
    with provider(release, serialization, port=port, threads=1) as at:
        at.wait_ready()

        def play(name: str, *requests: bytes, wait_s: float = 3.0) -> None:
            frames: list[str] = []
            closed = False
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.settimeout(wait_s)
                # The connect event takes the one thread for a moment.
                time.sleep(0.3)
                for request in requests:
                    connection.sendall(request)
                    time.sleep(0.1)
                try:
                    while len(frames) < len(requests):
                        frames.append(read_frame(connection).data.hex())
                except TimeoutError:
                    pass
                except (EOFError, ConnectionError):
                    closed = True
            sent = [request.hex() for request in requests]
            said.append({"name": name, "sent": sent, "got": frames, "closed": closed})
            time.sleep(0.3)

        play("pool exhausted", numbered(sleep, 1), numbered(text, 2))
        play("unknown method", numbered(unknown_method, 3))
        play("unknown service", numbered(unknown_service, 4))
        play("unknown parameter type", numbered(unknown_type, 5))
        play("argument cut off", numbered(cut(text), 6))
        play("unknown serialization", numbered(with_serialization(text, 31), 7))
        play("another serialization", numbered(with_serialization(text, 3), 8))
        play("heartbeat in hessian2", bytes.fromhex("dabbe2000000000000000009000000014e"))
        play("event of unknown text", bytes.fromhex("dabbe200000000000000000a000000020158"))
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(15)
            time.sleep(0.3)
            at.terminate()
            frame = read_frame(connection)
            said.append(
                {"name": "readonly", "sent": [], "got": [frame.data.hex()], "closed": False}
            )
    return said


def numbered(frame: bytes, id: int) -> bytes:
    """The frame with another id and the length that its body has."""
    return frame[:4] + struct.pack(">QI", id, len(frame) - 16) + frame[16:]


def with_serialization(frame: bytes, id: int) -> bytes:
    """The frame under another serialization id, its body unchanged."""
    return frame[:2] + bytes([frame[2] & 0xE0 | id]) + frame[3:]


def cut(frame: bytes) -> bytes:
    """The frame without the last two thirds of its body."""
    return frame[: 16 + (len(frame) - 16) // 3]


def write(recording: dict[str, Any]) -> Path:
    """One call a line, so that differences can be read."""
    path = TARGET / f"{recording['dubbo']}-{recording['serialization']}.json"
    head = {key: value for key, value in recording.items() if not isinstance(value, list)}
    out = json.dumps(head)[:-1]
    for key in ("calls", "events", "played"):
        lines = ",\n".join(json.dumps(each) for each in recording[key])
        out += f',\n"{key}": [\n{lines}\n]'
    TARGET.mkdir(parents=True, exist_ok=True)
    path.write_text(out + "}\n")
    return path


def main() -> None:
    build()
    chosen = sys.argv[1:]
    for release, serialization, generic in RUNS:
        if not chosen or f"{release}-{serialization}" in chosen:
            recording = record(release, serialization, generic)
            failed = [each["name"] for each in recording["calls"] if each["outcome"] != "pass"]
            path = write(recording)
            print(f"{path.name}: {len(recording['calls'])} calls, not what was sent: {failed}")


if __name__ == "__main__":
    main()
