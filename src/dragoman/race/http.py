"""The few HTTP exchanges of the race: JSON with a task server, text from admin pages.

Called by ``task``, ``posting``, ``metrics`` and the workflow's readiness checks; blocking, each
exchange bounded in time and bytes. The invariant: whatever goes wrong becomes HttpError with one
line.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from dragoman.errors import DragomanError, UsageError
from dragoman.reasons import reason

BODY_BYTES_MAX = 16 << 20
# Admin pages are on this machine: no proxy of the environment may stand between.
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpError(DragomanError):
    """An exchange failed; ``status`` is the reply's, or None when there was none."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether another attempt may succeed: no reply, 408, 425, 429 or a 5xx."""
        return self.status is None or self.status in (408, 425, 429) or self.status >= 500


def check_url(url: str, what: str) -> None:
    """Raise UsageError naming ``what`` unless ``url`` is an http or https address."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{what} {url!r}: expected http://... or https://...")


def get(url: str, timeout_s: float = 2.0) -> tuple[int, str]:
    """GET from this machine: status and text. An error status is returned, not raised."""
    return _exchange(urllib.request.Request(url), timeout_s, local=True)


def post_form(url: str, body: bytes, timeout_s: float = 5.0) -> tuple[int, str]:
    """POST a form to this machine: status and text."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    request = urllib.request.Request(url, data=body, headers=headers)
    return _exchange(request, timeout_s, local=True)


def post_json(url: str, value: Any, timeout_s: float = 10.0) -> Any:
    """POST ``value`` as JSON; the reply's JSON, or None when it is empty.

    Raises HttpError for a status that is not 2xx, a reply that is not JSON, and a link that fails.
    """
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(value).encode(), headers=headers)
    status, text = _exchange(request, timeout_s, local=False)
    if not 200 <= status < 300:
        raise HttpError(f"POST {url}: status {status}: {text.strip()[:200]}", status)
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise HttpError(f"POST {url}: the reply is not JSON: {text[:100]!r}", status) from error


def _exchange(request: urllib.request.Request, timeout_s: float, *, local: bool) -> tuple[int, str]:
    opener = _LOCAL.open if local else urllib.request.urlopen
    try:
        with opener(request, timeout=timeout_s) as reply:
            return reply.status, reply.read(BODY_BYTES_MAX).decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(BODY_BYTES_MAX).decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None)
        why = reason(cause if isinstance(cause, BaseException) else error)
        raise HttpError(f"{request.get_method()} {request.full_url}: {why}") from error
