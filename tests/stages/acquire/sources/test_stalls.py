"""A source that does not answer, for which a pipe without a writer stands."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.stages.acquire.sources import stalls

PROGRAM = """
import sys
from pathlib import Path
from pipeline.stages.acquire.sources import stalls
stalls.MAX_SECONDS, stalls.TICK = 0.2, 0.05
with stalls.watched(Path("photos/cat/1.jpg")):
    Path(sys.argv[1]).read_bytes()
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_source_that_stalls_ends_the_process_with_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "pipe"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: photos/cat/1.jpg has not answered for 0 s: is the net")
    assert len(result.stderr.splitlines()) == 1


def test_what_uses_the_items_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Path] = []
    monkeypatch.setattr(stalls, "_end", ended.append)

    def items() -> Iterator[int]:
        yield from range(3)

    for _ in stalls.watched_items(items(), Path("photos")):
        stalls._watch._ticks = 10**9
        assert stalls._watch._path is None
    assert list(stalls.watched_items(items(), Path("photos"))) == [0, 1, 2]
    assert ended == []
