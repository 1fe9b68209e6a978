"""A stand-in for the ``dragoman`` program, for etcd and for wrk: light processes for the race.

Understands the command lines of the chain. The environment variable ``FAKE`` makes one misbehave:
``<name>:<fault>``, the name as ``fake_name`` gives it and the fault one of ``exit``, ``silent``
(never ready), ``wrong`` (answers 500), ``stubborn`` (ignores SIGTERM), ``late-exit`` (ends after a
moment), ``hang`` (wrk: never done), ``garbage`` (wrk: prints no result).
"""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

requests_served = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wrong = False

    def do_GET(self):
        global requests_served  # noqa: PLW0603
        if self.path == "/metrics":
            self.reply(
                200,
                f'dragoman_endpoint_requests_total{{endpoint="127.0.0.1:1"}} {requests_served}\n'
                'dragoman_endpoint_inflight{endpoint="127.0.0.1:1"} 3\n'
                "dragoman_provider_rejections_total 0\n",
            )
        elif self.path == "/health":
            self.reply(200, '{"health":"true"}')
        elif self.wrong and self.path == "/invoke":
            self.reply(500, "ERROR")
        else:
            requests_served += 1
            self.reply(200, "OK")

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(200, "-840856129")

    def reply(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


def option(name, default=""):
    for at, word in enumerate(sys.argv):
        if word == name:
            return sys.argv[at + 1]
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return default


def addresses():
    for name in ("--listen", "--admin", "--listen-client-urls"):
        value = option(name)
        if value:
            yield int(value.rpartition(":")[2])
    if option("--port"):
        yield int(option("--port"))


def fake_name():
    if sys.argv[1] == "wrk":
        return "wrk"
    if "--listen-client-urls" in " ".join(sys.argv):
        return "etcd"
    name = "-".join(sys.argv[1:3])
    return f"{name}-{option('--size')}" if option("--size") else name


def press(fault):
    time.sleep(3600 if fault == "hang" else float(os.environ.get("FAKE_WRK_S", "0.05")))
    if fault != "garbage":
        result = {
            "responses": 1000,
            "duration_us": 1_000_000,
            "errors": dict.fromkeys(("connect", "read", "write", "status", "timeout"), 0),
            "latency_us": {"mean": 50500.0, "min": 50100, "max": 61000, "p50": 50400}
            | {"p90": 50900, "p99": 52000, "p99_9": 60000},
        }
        result["errors"]["status"] = 1000 if fault == "wrong" else 0
        print("RESULT " + json.dumps(result))


def main():
    name, _, fault = os.environ.get("FAKE", "").partition(":")
    if name != fake_name():
        fault = ""
    if "--version" in sys.argv:
        print(f"fake {fake_name()} 1.0")
        return
    if fault == "exit":
        print(f"{fake_name()}: cannot do this", flush=True)
        sys.exit(3)
    if fault == "late-exit":
        threading.Timer(0.4, lambda: os._exit(4)).start()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if fault == "stubborn" else lambda *_: os._exit(0))
    if fake_name() == "wrk":
        press(fault)
        return
    Handler.wrong = fault == "wrong"
    if fault != "silent":
        for port in addresses():
            server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        time.sleep(60)


main()
