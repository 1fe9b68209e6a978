"""The few things of JetStream that a store of queues needs, with their errors and retries.

``nats`` (the store) and its writer and reader call this; nothing else speaks to a server. Requests
are made on the core protocol, as JSON where the server wants it. Invariants: what is asked is tried
again until its deadline when no server answers; a publication that was tried again is in the stream
once; whatever the client library raises ends here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dragoman.broker.nats_records import Found, decode
from dragoman.errors import (
    ConnectError,
    CorruptionError,
    DeadlineError,
    DragomanError,
    LinkLostError,
    StorageError,
    UsageError,
)

if TYPE_CHECKING:
    from nats.aio.client import Client as Nats
    from nats.aio.msg import Msg

# How long one try may take: a server that lost its leader answers nothing.
TRY_S = 2.0
PAUSE_S = 0.02, 0.5

# JetStream's error codes (``err_code``), as its server defines them.
WRONG_LAST_SEQUENCE = 10071
STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037
STREAM_EXISTS = (10058, 10065)
NOT_ENABLED = (10039, 10076)
# The server cannot for now: no leader, no quorum, starting, or overloaded.
FOR_NOW = (10008, 10009, 10015, 10041, 10074, 10118, 10158)
NO_SPACE = (10023, 10047, 10077)
TOO_LARGE = 10054


class Conflict(Exception):
    """The subject's last sequence was another one: this try has published nothing. ``uncertain``:
    one before it may have."""

    def __init__(self, uncertain: bool = False) -> None:
        super().__init__("another sequence")
        self.uncertain = uncertain


class ApiError(Exception):
    """What the server answers that it will not do."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.number = error.get("err_code", 0)
        self.status = error.get("code", 0)
        super().__init__(f"{error.get('description', 'refused')} ({self.number})")


@dataclass(frozen=True)
class Published:
    """Where a publication is in the stream. ``duplicate``: it was there before, by an earlier try
    or as somebody else's with the same id."""

    seq: int
    duplicate: bool


class Streams:
    """The JetStream of a connection. ``stream`` names are those of its streams."""

    def __init__(self, client: Nats, where: str, timeout_ms: float) -> None:
        self._client = client
        self._where = where
        self._timeout_s = timeout_ms / 1000
        self._loop = asyncio.get_running_loop()
        # Retries are spread, so that clients do not come back together.
        self._random = random.Random()

    def deadline_s(self) -> float:
        """Until when what begins now may take."""
        return self._loop.time() + self._timeout_s

    # Requests.

    async def _request(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None,
        until_s: float,
        *,
        foreign: bool = False,
    ) -> Msg | None:
        """One try; None when no server answers. ``foreign``: the answer has another subject than
        it was sent to, so that it cannot be told from others by that."""
        import nats.errors

        left_s = until_s - self._loop.time()
        try:
            return await self._client.request(
                subject,
                body,
                timeout=max(0.01, min(TRY_S, left_s)),
                headers=headers,
                old_style=foreign,
            )
        except (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError):
            raise UsageError("the store is closed") from None
        except nats.errors.MaxPayloadError:
            raise StorageError(
                f"{self._where}: {len(body)} bytes are more than the servers' max_payload"
            ) from None
        except (nats.errors.Error, OSError, TimeoutError):
            return None

    async def pause(self, tries: int) -> None:
        """Between two tries."""
        most = min(PAUSE_S[1], PAUSE_S[0] * 2**tries)
        await asyncio.sleep(most * (0.5 + self._random.random() / 2))

    async def api(
        self, name: str, body: dict[str, Any] | None = None, until_s: float | None = None
    ) -> dict[str, Any]:
        """A call of the API that may be repeated; raises ApiError, DeadlineError."""
        until_s = until_s or self.deadline_s()
        data = json.dumps(body).encode() if body is not None else b""
        tries = 0
        why = "no server answers"
        while True:
            message = await self._request(f"$JS.API.{name}", data, None, until_s)
            if message is not None:
                answer: dict[str, Any] = json.loads(message.data)
                error = answer.get("error")
                if error is None:
                    return answer
                refused = ApiError(error)
                if refused.number in NOT_ENABLED:
                    raise UsageError(
                        f"{self._where}: JetStream is not enabled there (nats-server --jetstream)"
                    )
                if refused.number not in FOR_NOW and refused.status != 503:
                    raise refused
                why = str(refused)
            if self._loop.time() >= until_s:
                raise self._too_late(why)
            await self.pause(tries)
            tries += 1

    def _too_late(self, why: str) -> DragomanError:
        if not self._client.is_connected:
            return ConnectError(f"{self._where}: not connected within {self._timeout_s:g} s")
        return DeadlineError(f"{self._where}: {why} within {self._timeout_s:g} s", retry_safe=True)

    # Reading.

    async def last(self, stream: str, subject: str) -> tuple[int, bytes] | None:
        """Sequence and body of the last message on ``subject``, as the stream's leader has it."""
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        except ApiError as error:
            if error.number != STREAM_NOT_FOUND and (
                error.number == NO_MESSAGE or error.status == 404
            ):
                return None
            raise self.translated(error) from None
        message = answer["message"]
        return message["seq"], base64.b64decode(message.get("data", ""))

    async def last_record(self, stream: str, subject: str) -> Found | None:
        """The last record on ``subject``."""
        got = await self.last(stream, subject)
        if got is None:
            return None
        return Found(got[0], decode(got[1], subject, got[0]))

    async def next_record(self, stream: str, subject: str, seq: int) -> Found | None:
        """The first record on ``subject`` at or after ``seq``; None when there is none.

        Any replica answers; one that lags behind may not have it yet, so the leader has the last
        word.
        """
        found = await self.next_at_replica(stream, subject, seq)
        return found or await self.next_at_leader(stream, subject, seq)

    async def next_at_replica(self, stream: str, subject: str, seq: int) -> Found | None:
        """``next_record`` as any replica has it; None also when none answers at once."""
        asked = json.dumps({"seq": seq, "next_by_subj": subject}).encode()
        message = await self._request(
            f"$JS.API.DIRECT.GET.{stream}", asked, None, self.deadline_s()
        )
        if message is not None and message.headers and "Nats-Sequence" in message.headers:
            number = int(message.headers["Nats-Sequence"])
            return Found(number, decode(message.data, subject, number))
        return None

    async def next_at_leader(self, stream: str, subject: str, seq: int) -> Found | None:
        """``next_record`` as the stream's leader has it; one that was just elected may not have
        all of it yet."""
        asked = {"seq": seq, "next_by_subj": subject}
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", asked)
        except ApiError as error:
            if error.number != STREAM_NOT_FOUND and (
                error.number == NO_MESSAGE or error.status == 404
            ):
                return None
            raise self.translated(error) from None
        got = answer["message"]
        data = base64.b64decode(got.get("data", ""))
        return Found(got["seq"], decode(data, subject, got["seq"]))

    # Writing.

    async def publish(
        self,
        stream: str,
        subject: str,
        body: bytes,
        *,
        id: str,
        after: int | None,
        until_s: float,
    ) -> Published:
        """Have ``body`` in the stream, unless one with ``id`` is there from the last two minutes.
        With ``after``, only if the subject's last message is at that sequence (0: there is none),
        else Conflict: then an earlier try may have got through (``uncertain``), or not.

        Raises LinkLostError or DeadlineError (``retry_safe`` if nothing can have been published)
        when no server says so until ``until_s``, StorageError when the stream is full.
        """
        headers = {"Nats-Expected-Stream": stream, "Nats-Msg-Id": id}
        if after is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(after)
        tries = 0
        uncertain = False
        why = "no server answers"
        while True:
            message = await self._request(subject, body, headers, until_s)
            if message is None:
                uncertain = True
            else:
                answer = json.loads(message.data)
                error = answer.get("error")
                if error is None:
                    return Published(answer["seq"], bool(answer.get("duplicate")))
                refused = ApiError(error)
                if refused.number == WRONG_LAST_SEQUENCE:
                    raise Conflict(uncertain)
                if refused.number not in FOR_NOW and refused.status != 503:
                    raise self.translated(refused)
                why = str(refused)
            if self._loop.time() >= until_s:
                text = f"{self._where}: {why} within {self._timeout_s:g} s"
                if uncertain:
                    raise LinkLostError(f"{text}: it was stored, or not")
                raise DeadlineError(text, retry_safe=True)
            await self.pause(tries)
            tries += 1

    async def purge(self, stream: str, subject: str, before: int | None = None) -> int:
        """Remove the messages on ``subject`` before a sequence, or all; how many went."""
        body: dict[str, Any] = {"filter": subject}
        if before is not None:
            if before <= 1:
                # Servers take this for "all".
                return 0
            body["seq"] = before
        try:
            answer = await self.api(f"STREAM.PURGE.{stream}", body)
        except ApiError as error:
            raise self.translated(error) from None
        return int(answer.get("purged", 0))

    # Streams.

    async def info(self, stream: str) -> dict[str, Any] | None:
        """What the stream says of itself; None when there is none."""
        try:
            return await self.api(f"STREAM.INFO.{stream}")
        except ApiError as error:
            if error.number == STREAM_NOT_FOUND or error.status == 404:
                return None
            raise self.translated(error) from None

    async def make(self, config: dict[str, Any]) -> dict[str, Any]:
        """Make a stream, unless it is there; what it says of itself."""
        name = config["name"]
        info = await self.info(name)
        if info is None:
            try:
                info = await self.api(f"STREAM.CREATE.{name}", config)
            except ApiError as error:
                if error.number not in STREAM_EXISTS:
                    raise self.translated(error) from None
                info = await self.info(name)
        if info is None:
            raise StorageError(f"{self._where}: stream {name} went while it was opened")
        return info

    async def subjects(self, stream: str, pattern: str) -> list[str]:
        """All subjects of the stream that ``pattern`` matches."""
        found: list[str] = []
        while True:
            try:
                answer = await self.api(
                    f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": len(found)}
                )
            except ApiError as error:
                raise self.translated(error) from None
            page = answer["state"].get("subjects") or {}
            found += page
            if not page or len(found) >= answer.get("total", 0):
                return found

    def translated(self, error: ApiError) -> DragomanError:
        """What a caller gets."""
        text = f"{self._where}: {error}"
        if error.number in NO_SPACE or error.number == TOO_LARGE:
            return StorageError(text)
        if error.number == STREAM_NOT_FOUND:
            return CorruptionError(f"{self._where}: the stream is gone")
        return StorageError(text)
