"""A task server to try the race against: ``python -m dragoman.race.task_server --port 8000``.

Hands out one task to ``POST /task`` (after ``--after`` refusals with 204, as a busy server would)
and takes results at ``POST /result``, printing each as one line of JSON. Started by users and
tests; it listens on 127.0.0.1 only and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BODY_BYTES_MAX = 16 << 20


class TaskServer(ThreadingHTTPServer):
    """The server; ``task`` is what it hands out, ``results`` what it was given."""

    daemon_threads = True

    def __init__(
        self, port: int, task: dict[str, object], *, after: int = 0, fail_results: int = 0
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.task = task
        self.after = after
        self.fail_results = fail_results
        self.asked = 0
        self.results: list[object] = []

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: TaskServer

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_BYTES_MAX:
            self._reply(413, None)
            return
        body = json.loads(self.rfile.read(length) or b"null")
        if self.path == "/task":
            self.server.asked += 1
            ready = self.server.asked > self.server.after
            self._reply(200 if ready else 204, self.server.task if ready else None)
        elif self.path == "/result":
            if self.server.fail_results > 0:
                self.server.fail_results -= 1
                self._reply(503, None)
                return
            self.server.results.append(body)
            print(json.dumps(body), flush=True)
            self._reply(200, {"accepted": True})
        else:
            self._reply(404, None)

    def _reply(self, status: int, value: object) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        if body:
            self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the results are the output."""


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="hands out a race's task, takes its result")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--task", type=Path, help="JSON file; a built-in task otherwise")
    parser.add_argument("--after", type=int, default=0, help="answer 204 this often first")
    options = parser.parse_args()
    task: dict[str, object] = {"team_id": "local", "task_id": "1", "settings": {"duration_s": 5}}
    if options.task:
        task = json.loads(options.task.read_text())
    with TaskServer(options.port, task, after=options.after) as server:
        print(f"tasks at {server.url}/task, results to {server.url}/result", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
