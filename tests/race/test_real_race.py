"""One short race of the real chain: every program of dragoman, a real etcd, a real load."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dragoman.race.chain import SIZES
from dragoman.race.workflow import Race


@pytest.mark.parametrize("direct", [False, True])
def test_the_real_chain_answers_rightly(tmp_path: Path, direct: bool) -> None:
    race = Race(
        {
            "workspace": str(tmp_path),
            "connections": [12],
            "duration_s": 1 if direct else 2,
            "warmup_s": 0.3,
            "load": "builtin",
            "direct": direct,
            "agent_port": 0,
            "consumer_port": 0,
        }
    )
    result = race.run()
    assert "error" not in result, result["error"]
    level = result["levels"][0]
    assert level["errors"] == {}
    assert level["requests"] > 100
    assert set(level["agent_answers"]) == {"ok"}
    assert set(level["split"]) == set(SIZES)
    assert sum(level["split"].values()) >= level["requests"]
    assert level["rejections"] == dict.fromkeys(SIZES, 0)
    if not direct:  # a second is too short for a sample
        assert 6 <= sum(level["concurrency_split"].values()) <= 12
    assert level["cpu_us_per_request"]["consumer_agent"] > 0
    assert sys.version.split()[0] == result["versions"]["python"]
