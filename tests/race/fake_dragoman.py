"""A stand-in for the ``dragoman`` program, for etcd and for wrk: light processes for the race.

Understands the command lines of the chain. The environment variable ``FAKE`` makes one misbehave:
``<name>:<fault>``, the name as ``fake_name`` gives it and the fault one of ``exit``, ``silent``
(never ready), ``wrong`` (answers 500), ``stubborn`` (ignores SIGTERM), ``late-exit`` (ends after a
moment), ``hang`` (wrk: never done), ``garbage`` (wrk: prints no result).
"""

import os
import signal
import socket
import sys
import threading
import time


class State:
    requests_served = 0
    wrong = False


def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection,), daemon=True).start()


def converse(connection):
    received = b""
    with connection:
        while True:
            while b"\r\n\r\n" not in received:
                piece = connection.recv(65536)
                if not piece:
                    return
                received += piece
            head, _, received = received.partition(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            while len(received) < length:
                received += connection.recv(65536)
            received = received[length:]
            method, path, _ = head.decode().split(" ", 2)
            status, text = answer(method, path)
            connection.sendall(
                f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
            )


def answer(method, path):
    if method == "POST":
        return 200, "-840856129"
    if path == "/metrics":
        return 200, (
            f'dragoman_endpoint_requests_total{{endpoint="127.0.0.1:1"}} {State.requests_served}\n'
            'dragoman_endpoint_inflight{endpoint="127.0.0.1:1"} 3\n'
            "dragoman_provider_rejections_total 0\n"
        )
    if path == "/health":
        return 200, '{"health":"true"}'
    if State.wrong and path == "/invoke":
        return 500, "ERROR"
    State.requests_served += 1
    return 200, "OK"


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
        print("RESULT " + str(result).replace("'", '"'))


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
    State.wrong = fault == "wrong"
    if fault != "silent":
        for port in addresses():
            listener = socket.create_server(("127.0.0.1", port))
            threading.Thread(target=serve, args=(listener,), daemon=True).start()
    while True:
        time.sleep(60)


main()
