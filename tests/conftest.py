"""What all tests share."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.calibration import alone

# A busy machine is no failure: what an example may take is the test's own timeout.
settings.register_profile("dragoman", deadline=None)
settings.load_profile("dragoman")

# A process that was started in the background, or by nohup, ignores these, and so would all that
# tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def signals_are_handled_as_before() -> Iterator[None]:
    """What handles SIGINT, SIGTERM or SIGHUP in a test's own process is gone after it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.fixture(autouse=True)
def a_fuzzer_is_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """What other tests have left to the garbage collector is not the time that an input takes."""
    if request.path.stem.endswith("_fuzz"):
        with alone():
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def logging_is_set_up_as_before() -> Iterator[None]:
    """A command that ran in a test's own process has sent the log to a stderr that ends with it."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(handler)
    root.setLevel(level)
