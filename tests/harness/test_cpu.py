"""What the kernel tells of processes while they change."""

from __future__ import annotations

import os
import threading

from dragoman.harness import cpu


def test_a_process_whose_threads_come_and_go_is_always_there() -> None:
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            some = [threading.Thread(target=int) for _ in range(8)]
            for thread in some:
                thread.start()
            for thread in some:
                thread.join()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        own = os.getpid()
        missed = 0
        for _ in range(100):
            missed += own not in cpu.process_tree(own)
            assert cpu.run_s(own) > 0 and cpu.wake_ups(own) >= 0
    finally:
        ended.set()
        other.join()
    assert missed == 0
