"""Which open runs are stale. tests/system/test_server.py has processes that die."""

import pytest
from mlflow.entities import Run, RunData, RunInfo, RunStatus, RunTag

from pipeline.tracking import heartbeat
from pipeline.tracking.heartbeat import STALE_SECONDS, TAG

NOON = 1_796_126_400.0  # seconds since 1970


def run(beat: str, status: str = "RUNNING") -> Run:
    info = RunInfo("a" * 32, "1", "me", status, 0, None, "active")
    return Run(info, RunData(tags=[RunTag(TAG, beat)]))


def test_a_run_is_stale_some_minutes_after_its_last_beat() -> None:
    beat = heartbeat._format(NOON)
    assert beat == "2026-12-01T12:00:00+00:00"
    assert not heartbeat.is_stale(run(beat), NOON + STALE_SECONDS)
    assert heartbeat.is_stale(run(beat), NOON + STALE_SECONDS + 1)
    assert STALE_SECONDS >= 4 * heartbeat.BEAT_SECONDS  # a few beats may fail


def test_a_run_that_has_ended_is_not_stale() -> None:
    for status in map(RunStatus.to_string, RunStatus.all_status()):
        is_open = status == "RUNNING"
        assert heartbeat.is_stale(run(heartbeat._format(0), status), NOON) == is_open


@pytest.mark.parametrize("beat", ["", "soon", "9" * 400, "0001-01-01T00:00:00", "\ud800"])
def test_a_beat_that_is_no_time_says_nothing(beat: str) -> None:
    assert not heartbeat.is_stale(run(beat), 0)
