"""The recordings are whole: every frame is one, and every reply is its request's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dragoman.wire.dubbo.event import event_name
from dragoman.wire.dubbo.frame import DubboDecoder, DubboFrame

# Beside them are single values (``test_values``).
RECORDINGS = sorted(Path(__file__).parent.glob("[0-9]*.json"))
SERIALIZATION = {"hessian2": 2, "fastjson": 6, "fastjson2": 23}


def one(text: str) -> DubboFrame:
    """The one frame that these hexadecimal digits are."""
    decoder = DubboDecoder()
    decoder.receive_data(bytes.fromhex(text))
    (frame,) = decoder.frames()
    assert decoder.buffered_bytes == 0
    return frame


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.stem)
def recording(request: pytest.FixtureRequest) -> Any:
    return json.loads(request.param.read_text())


def test_there_are_recordings_of_every_release() -> None:
    names = {path.stem for path in RECORDINGS}
    assert names == {
        "2.6-fastjson",
        "2.6-hessian2",
        "2.7-fastjson",
        "2.7-hessian2",
        "3.3-fastjson2",
        "3.3-hessian2",
    }


def test_every_call_has_its_own_reply(recording: Any) -> None:
    ids = set()
    for call in recording["calls"]:
        request = one(call["request"])
        ids.add(request.id)
        assert request.is_request and not request.is_event
        assert request.serialization == SERIALIZATION[recording["serialization"]]
        assert request.two_way == ("reply" in call)
        if request.two_way:
            reply = one(call["reply"])
            assert not reply.is_request
            assert (reply.id, reply.serialization) == (request.id, request.serialization)
    assert len(ids) == len(recording["calls"]) > 130


def test_heartbeats_are_read_as_such(recording: Any) -> None:
    assert recording["events"]
    for event in recording["events"]:
        for frame in (one(event["request"]), one(event["reply"])):
            assert frame.is_event
            assert event_name(frame.body) == "heartbeat"


def test_the_end_of_a_provider_is_announced(recording: Any) -> None:
    (said,) = (each for each in recording["played"] if each["name"] == "readonly")
    frame = one(said["got"][0])
    assert frame.is_event and frame.is_request and not frame.two_way
    assert event_name(frame.body) == "readonly"
