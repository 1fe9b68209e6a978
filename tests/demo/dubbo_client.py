"""A Dubbo client on a plain blocking socket, for tests of providers."""

from __future__ import annotations

import socket
from types import TracebackType

from dragoman.wire.dubbo import fastjson
from dragoman.wire.dubbo.frame import DubboDecoder, DubboFrame

INTERFACE = b"com.alibaba.dubbo.performance.demo.provider.IHelloService"
STRING = b"Ljava/lang/String;"


class DubboClient:
    """Sends what it is told and returns the frames that come; every wait is bounded."""

    def __init__(self, port: int, *, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = DubboDecoder()
        self._frames: list[DubboFrame] = []

    def __enter__(self) -> DubboClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def call(self, id: int, method: bytes, *arguments: bytes, descriptor: bytes = STRING) -> None:
        """Send a call whose arguments are JSON text."""
        self.send(fastjson.encode_request(id, INTERFACE, method, descriptor, arguments=arguments))

    def frame(self) -> DubboFrame:
        """The next frame; EOFError when the provider closes."""
        while not self._frames:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError("the provider closed the connection")
            self._decoder.receive_data(data)
            self._frames = self._decoder.frames()
        return self._frames.pop(0)

    def value(self) -> bytes:
        """The next frame's value; it must be a reply under status 20."""
        frame = self.frame()
        assert not frame.is_request
        assert frame.status == 20, frame
        return fastjson.decode_reply(frame.body).value
