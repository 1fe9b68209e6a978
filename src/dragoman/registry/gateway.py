"""A client of etcd's JSON gateway: one exchange at a time, and the watch stream.

Used by ``etcd_watch`` and ``etcd_lease``, which hold the policy; this module only asks, with a
deadline on every exchange, and translates every failure of aiohttp or etcd to RegistryError. The
gateway (etcd's "gRPC gateway", ``/v3``, in every etcd since 3.4) carries the messages of
``rpc.proto`` as JSON: int64 as text, bytes as base64, a stream as one JSON object a line. The
invariant: user, password and token never appear in a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Final, TypeVar

import aiohttp
import msgspec

from dragoman.errors import RegistryError
from dragoman.reasons import reason
from dragoman.registry.bodies import TooLongError, read_body
from dragoman.wire.misfit import UNREADABLE, json_misfit

# etcd itself sends at most 2 MiB in one piece of a watch (fragments).
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
# Connecting on any network that a registry is used over; the rest of a deadline is etcd's.
CONNECT_TIMEOUT_S: Final = 1.0


class LeaseNotFound(RegistryError):
    """The lease has expired or was revoked."""


class Header(msgspec.Struct, frozen=True):
    """``ResponseHeader``: which cluster answered, and the store's revision."""

    cluster_id: int = 0
    revision: int = 0


class KeyValue(msgspec.Struct, frozen=True):
    """``mvccpb.KeyValue``."""

    key: bytes
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class RangeReply(msgspec.Struct, frozen=True):
    """``RangeResponse``."""

    header: Header
    kvs: list[KeyValue] = []
    count: int = 0
    more: bool = False


class _ResponseOp(msgspec.Struct, frozen=True):
    response_range: RangeReply | None = None


class TxnReply(msgspec.Struct, frozen=True):
    """``TxnResponse``: whether the comparisons held, and what the operations that then ran gave."""

    header: Header
    succeeded: bool = False
    responses: list[_ResponseOp] = []


class LeaseReply(msgspec.Struct, frozen=True):
    """``LeaseGrantResponse``, ``LeaseKeepAliveResponse`` and ``LeaseTimeToLiveResponse`` in one."""

    header: Header
    TTL: int = 0
    keys: list[bytes] = []


class _KeepAliveLine(msgspec.Struct, frozen=True):
    result: LeaseReply


class Event(msgspec.Struct, frozen=True):
    """``mvccpb.Event``; ``type`` is PUT (the default, which JSON leaves out) or DELETE."""

    kv: KeyValue
    type: str = "PUT"


class WatchReply(msgspec.Struct, frozen=True):
    """``WatchResponse``; its events are yet to be decoded (``EtcdGateway.events``): one deletion
    may bring a hundred thousand of them.
    """

    header: Header
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    fragment: bool = False
    events: list[msgspec.Raw] = []


class _StreamError(msgspec.Struct, frozen=True):
    message: str = "unknown"


class _WatchLine(msgspec.Struct, frozen=True):
    result: WatchReply | None = None
    error: _StreamError | str | None = None


class _AuthReply(msgspec.Struct, frozen=True):
    token: str


class _ErrorReply(msgspec.Struct, frozen=True):
    message: str = ""
    error: str = ""
    code: int = 0


class _Ignored(msgspec.Struct, frozen=True):
    pass


T = TypeVar("T", bound=msgspec.Struct)

# gRPC status codes: https://grpc.io/docs/guides/status-codes/
_UNAUTHENTICATED: Final = 16
_INVALID_ARGUMENT: Final = 3


def range_end(prefix: bytes) -> bytes:
    """The key right after every key that starts with ``prefix`` (which must not end in 0xff)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


class EtcdGateway:
    """Asks the members of one etcd cluster, staying with one while it answers.

    ``members`` are base URLs. After a failure the next call asks the next member; a caller that
    retries therefore goes round. To be closed on the loop it was made on.
    """

    def __init__(
        self, members: list[str], *, user: str = "", password: str = "", timeout_s: float = 2.0
    ) -> None:
        self._members = members
        self._member = 0
        self._user = user
        self._password = password
        self._token = ""
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self.errors_total = 0
        self.healthy = False
        self.last_error = f"etcd at {','.join(members)} has not answered"

    @property
    def member(self) -> str:
        """The member that is asked next."""
        return self._members[self._member]

    def distrust(self) -> None:
        """Ask the next member from now on."""
        self._member = (self._member + 1) % len(self._members)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def range(
        self,
        key: bytes,
        end: bytes = b"",
        *,
        keys_only: bool = False,
        newest_only: bool = False,
        limit: int = 0,
        revision: int = 0,
    ) -> RangeReply:
        """Read ``[key, end)``, linearizable; ``newest_only``: the youngest key, and the count;
        ``limit``: at most so many keys, as they were at ``revision`` (0: now).
        """
        body: dict[str, object] = {"key": key, "range_end": end, "keys_only": keys_only}
        if newest_only:
            body |= {"limit": 1, "sort_order": "DESCEND", "sort_target": "MOD"}
        elif limit:
            body |= {"limit": limit, "revision": str(revision)}
        return await self._call("/v3/kv/range", body, RangeReply)

    async def txn(
        self,
        compare: list[dict[str, object]],
        success: list[dict[str, object]],
        failure: list[dict[str, object]] | None = None,
    ) -> TxnReply:
        """One transaction. Raises LeaseNotFound when a put names a lease that is gone."""
        body: dict[str, object] = {"compare": compare, "success": success, "failure": failure or []}
        return await self._call("/v3/kv/txn", body, TxnReply)

    async def lease_grant(self, lease: int, ttl_s: int) -> int:
        """Grant ``lease`` for about ``ttl_s``; the seconds etcd really granted."""
        body: dict[str, object] = {"ID": str(lease), "TTL": str(ttl_s)}
        return (await self._call("/v3/lease/grant", body, LeaseReply)).TTL

    async def lease_keepalive(self, lease: int) -> int:
        """Renew ``lease``; the seconds it now has. Raises LeaseNotFound."""
        reply = await self._call("/v3/lease/keepalive", {"ID": str(lease)}, _KeepAliveLine)
        if reply.result.TTL <= 0:
            raise LeaseNotFound(f"lease {lease:x} has expired")
        return reply.result.TTL

    async def lease_keys(self, lease: int) -> list[bytes]:
        """The keys attached to ``lease``. Raises LeaseNotFound."""
        body = {"ID": str(lease), "keys": True}
        reply = await self._call("/v3/lease/timetolive", body, LeaseReply)
        if reply.TTL < 0:
            raise LeaseNotFound(f"lease {lease:x} has expired")
        return reply.keys

    async def lease_revoke(self, lease: int) -> None:
        """End ``lease`` and delete its keys; one that is gone is no error."""
        with suppress(LeaseNotFound):
            await self._call("/v3/lease/revoke", {"ID": str(lease)}, _Ignored)

    async def compact(self, revision: int) -> None:
        """Discard the history before ``revision`` (for tests)."""
        await self._call("/v3/kv/compaction", {"revision": str(revision)}, _Ignored)

    async def watch(
        self, key: bytes, end: bytes, revision: int
    ) -> AsyncGenerator[WatchReply, None]:
        """Changes of ``[key, end)`` from ``revision`` on, as etcd sends them (fragments as they
        are).

        The first reply says ``created`` and comes within the timeout. Ends when etcd closes the
        stream; raises RegistryError when it breaks. Asks etcd to end it when the member has no
        leader (``hasleader``), for such a member would stay silent.
        """
        create = {
            "key": key,
            "range_end": end,
            "start_revision": str(revision),
            "progress_notify": True,
            "fragment": True,
        }
        member = self.member
        headers = {"Grpc-Metadata-hasleader": "true"}
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._user and not self._token:
                    await self._authenticate(member)
                reply = await self._post(member, "/v3/watch", {"create_request": create}, headers)
                if reply.status != 200:
                    raise await self._refused(reply, "/v3/watch")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(member, "/v3/watch", error) from None
        lines = _lines(reply)
        try:
            async with asyncio.timeout(self._timeout_s):
                first = await anext(lines, None)
            if first is None:
                return
            yield self._watch_reply(first, member)
            async for line in lines:
                yield self._watch_reply(line, member)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(member, "/v3/watch", error) from None
        finally:
            reply.close()

    def events(self, raw: list[msgspec.Raw]) -> list[Event]:
        """Some events of a watch, decoded. Raises RegistryError."""
        return [self._decode(each, Event, "/v3/watch") for each in raw]

    def _watch_reply(self, line: bytes, member: str) -> WatchReply:
        decoded = self._decode(line, _WatchLine, "/v3/watch")
        if decoded.result is None:
            error = decoded.error
            message = error.message if isinstance(error, _StreamError) else error
            raise self._failed(member, "/v3/watch", message or "neither result nor error")
        return decoded.result

    async def _call(self, path: str, body: dict[str, object], kind: type[T]) -> T:
        member = self.member
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._user and not self._token:
                    await self._authenticate(member)
                reply = await self._post(member, path, body)
                if reply.status != 200:
                    raise await self._refused(reply, path)
                data = await read_body(reply)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(member, path, error) from None
        decoded = self._decode(data, kind, path)
        self.healthy = True
        return decoded

    async def _authenticate(self, member: str) -> None:
        path = "/v3/auth/authenticate"
        reply = await self._post(member, path, {"name": self._user, "password": self._password})
        if reply.status != 200:
            raise await self._refused(reply, path)
        self._token = self._decode(await read_body(reply), _AuthReply, path).token

    async def _post(
        self,
        member: str,
        path: str,
        body: dict[str, object],
        headers: dict[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                # Deadlines stand around each exchange; a watch has none.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            )
        sent = {"Content-Type": "application/json", **(headers or {})}
        if self._token:
            sent["Authorization"] = self._token
        data = msgspec.json.encode(body)
        # Where else a server points to is nobody to give the password or the token to.
        return await self._session.post(
            member + path, data=data, headers=sent, allow_redirects=False
        )

    async def _refused(self, reply: aiohttp.ClientResponse, path: str) -> RegistryError:
        """The error that a reply other than 200 means."""
        data = await read_body(reply)
        try:
            decoded = msgspec.json.decode(data, type=_ErrorReply)
        except msgspec.MsgspecError:
            decoded = _ErrorReply(message=data[:200].decode("utf-8", "replace").strip())
        message = decoded.message or decoded.error or f"HTTP status {reply.status}"
        if "requested lease not found" in message:
            self.healthy = True
            return LeaseNotFound(message)
        if decoded.code == _UNAUTHENTICATED or "invalid auth token" in message:
            self._token = ""  # simple tokens expire: the next call authenticates again
        member = str(reply.url.origin())
        if reply.status in (404, 405) and not decoded.code:
            message = "no /v3 gateway here (expected etcd 3.4 or newer)"
        return self._failed(member, path, message)

    def _failed(self, member: str, path: str, error: Exception | str) -> RegistryError:
        """Count and describe a failure, and turn to the next member."""
        self.errors_total += 1
        self.healthy = False
        if member == self.member:
            self.distrust()
        if isinstance(error, TimeoutError):
            why = f"no answer within {self._timeout_s:g} s"
        elif isinstance(error, aiohttp.ClientConnectorError):
            why = f"cannot connect: {reason(error.os_error)}"
        elif isinstance(error, TooLongError):
            why = str(error)
        elif isinstance(error, aiohttp.ServerTimeoutError):
            why = "no connection in time"
        elif isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError):
            why = "the connection broke"
        elif isinstance(error, aiohttp.ClientError):
            why = "what answers there speaks no HTTP"
        elif isinstance(error, Exception):
            why = reason(error)
        else:
            why = error
        self.last_error = f"etcd at {member}{path}: {why}"
        return RegistryError(self.last_error)

    def _decode(self, data: bytes | msgspec.Raw, kind: type[T], path: str) -> T:
        try:
            # Not strict: the gateway writes int64 as text.
            return msgspec.json.decode(data, type=kind, strict=False)
        except UNREADABLE:
            why = f"unexpected reply: {json_misfit(bytes(data), kind, strict=False)}"
            raise self._failed(self.member, path, why) from None


async def _lines(reply: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The body's lines as they arrive, each at most LINE_BYTES_MAX."""
    rest = bytearray()
    async for piece in reply.content.iter_any():
        rest += piece
        if b"\n" in piece:
            *whole, rest = rest.split(b"\n")
            for line in whole:
                if line:
                    yield bytes(line)
        if len(rest) > LINE_BYTES_MAX:
            raise TooLongError(f"line over {LINE_BYTES_MAX} bytes")
