"""Results of ``connect`` and ``serve``: to be awaited, or to be used in ``async with`` at once.

    client = await rpc.connect(address)
    async with rpc.connect(address) as client: ...
    async with await rpc.connect(address) as client: ...

are the same to whoever is opened. It is a coroutine to whatever wants one (``create_task``,
``gather``, ``run_coroutine_threadsafe``), and opens nothing before it is awaited or entered.

Invariant: what ``async with`` opened it closes, and nothing else does.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Protocol, Self, TypeVar


class Opened(Protocol):
    """Anything that is closed at the end of ``async with``."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> Any:
        """Close it."""


class Drained(ABC):
    """``async with`` for what lets calls end when it is closed: for ``_drain_ms`` at the end of the
    block, not at all after an error of the block's own, when nobody waits for them."""

    _drain_ms: ClassVar[int] = 10_000

    @abstractmethod
    async def close(self, *, drain_ms: int) -> None:
        """Close it once what is under way has ended, or after ``drain_ms`` milliseconds."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(drain_ms=self._drain_ms if kind is None else 0)


T = TypeVar("T", bound=Opened)
P = ParamSpec("P")


class Opening(Coroutine[Any, Any, T], Generic[T]):
    """Something that is being opened; see the module."""

    __slots__ = ("__weakref__", "_coroutine", "_opened")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """As of the coroutine."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """As of the coroutine."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """As of the coroutine: it is not opened after all."""
        self._coroutine.close()

    async def __aenter__(self) -> T:
        self._opened = opened = await self._coroutine
        return opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.__aexit__(kind, error, trace)

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            # What asyncio shows of a task: its coroutine's name, and where it stands.
            if name.startswith("cr_") or name in ("__name__", "__qualname__"):
                return getattr(self._coroutine, name)
            raise AttributeError(
                f"{self!r} is not open yet, and has no {name!r}: await it, or use it in async with"
            )

    def __repr__(self) -> str:
        name = getattr(self._coroutine, "__qualname__", "something")
        return f"<{name}() that is to be awaited>"


def opening(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Opening[T]]:
    """Have ``async with`` take what the coroutine function gives, awaited or not."""

    @functools.wraps(function)
    def open_it(*args: P.args, **kwargs: P.kwargs) -> Opening[T]:
        return Opening(function(*args, **kwargs))

    # From Python 3.12 on it can say that it is as good as a coroutine function.
    mark: Any = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(open_it)
    return open_it
