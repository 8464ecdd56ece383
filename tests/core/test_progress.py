import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT
from tests.builders.terminals import run_in_terminal

SCRIPT = """
import os, time
from pipeline.core import program, progress, stage
from pipeline.core.progress import bar
from pipeline.core.terminal import print_line

def main(age: str) -> None:
    program.START += {{"new": 60, "old": -60}}[age]  # seconds
    progress.LOG_INTERVAL, progress.LOG_DELAY = 0.6, 0.3
    {body}

stage.run(main)
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TERM": "xterm"}


def draw(body: str, folder: Path, age: str = "old", **changed: str) -> list[str]:
    """What a program shows on a terminal, one after another, in the same line or below."""
    command = [sys.executable, "-c", SCRIPT.format(body=body), age]
    output, code = run_in_terminal(command, folder, ENVIRONMENT | changed)
    text = output.decode()
    assert code == 0, text
    return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]


COUNT = """
    with bar("count", 4, "epoch") as progress_bar:
        for number in range(1, 5):
            time.sleep(0.3)
            progress_bar.update()
            progress_bar.note = f"loss {1 / number:.2f}"
            if number == 2: print_line("in between")
    print_line("the end")
"""


def test_a_bar_has_rate_time_left_and_a_note_and_gives_way_to_lines(tmp_path: Path) -> None:
    lines = draw(COUNT, tmp_path)
    *_, last, end = lines
    assert re.fullmatch(
        r"count: 100%\|█+\| 4/4 \[00:0\d<00:00, .*(epoch/s|s/epoch), loss 0\.25\]", last
    ), lines
    assert end == "the end"
    assert "in between" in lines  # alone on its line
    assert any(re.search(r"[123]/4 \[00:0\d<00:0\d, ", line) for line in lines)
    assert max(map(len, lines)) <= 79  # the terminal reports no size


def test_the_time_goes_on_between_results(tmp_path: Path) -> None:
    body = "with bar('count', 9): time.sleep(1.4)"
    clocks = {line.partition("[")[2][:5] for line in draw(body, tmp_path)}
    assert clocks >= {"00:00", "00:01"}


def test_what_ends_within_two_seconds_draws_nothing(tmp_path: Path) -> None:
    assert draw(COUNT, tmp_path, age="new") == ["in between", "the end"]


def test_a_terminal_that_cannot_draw_over_a_line_gets_the_lines_of_a_log(tmp_path: Path) -> None:
    lines = draw(COUNT, tmp_path, TERM="dumb")
    assert [line for line in lines if "█" in line] == []


def test_a_log_has_a_line_at_most_every_so_many_seconds() -> None:
    command = [sys.executable, "-c", SCRIPT.format(body=COUNT), "new"]
    start = time.monotonic()
    process = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    seconds = time.monotonic() - start
    assert process.stdout == "in between\nthe end\n"
    lines = process.stderr.splitlines()
    assert 1 <= len(lines) <= seconds / 0.6, lines
    pattern = r"count: \d+% \d/4 \[00:0\d<00:0\d,  ?\d\.\d\d(epoch/s|s/epoch), loss \d\.\d\d\]"
    assert all(re.fullmatch(pattern, line) for line in lines), lines


def test_a_log_has_lines_of_many_works_that_are_short() -> None:
    body = """
    for title in "abc":
        with bar(title, 2):
            time.sleep(0.55)
"""
    command = [sys.executable, "-c", SCRIPT.format(body=body), "old"]
    process = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    lines = process.stderr.splitlines()
    assert 1 <= len(lines) <= 3, lines
    assert all(re.fullmatch(r"[abc]: 0% 0/2 \[00:00<\?, .*\]", line) for line in lines), lines


def test_a_stage_that_counts_nothing_says_how_long_it_works(tmp_path: Path) -> None:
    lines = draw("progress.show_activity('split'); time.sleep(0.4); print_line('end')", tmp_path)
    assert lines[-1] == "end"
    assert {line.partition("[")[0] for line in lines[:-1]} == {"split: working "}


def test_a_part_that_counts_nothing_has_its_name_while_it_lasts(tmp_path: Path) -> None:
    body = """
    progress.show_activity("promote")
    with progress.activity("promote: fetch the model"): time.sleep(0.4)
    time.sleep(0.4)
"""
    lines = [line.partition(" working")[0] for line in draw(body, tmp_path)]
    assert list(dict.fromkeys(lines)) == ["promote: fetch the model:", "promote:"]


@pytest.mark.parametrize(
    ("body", "bars"),
    [
        ("bar('outer', 3), bar('inner', 3)", {"inner: 0%", "outer: 0%"}),
        ("bar('outer', 3), bar('nothing to do', 0)", {"outer: 0%"}),
        ("bar('other rank', 3, is_shown=False)", set()),
    ],
    ids=["nested", "empty", "other process"],
)
def test_the_innermost_bar_with_work_is_drawn(body: str, bars: set[str], tmp_path: Path) -> None:
    lines = draw(f"with {body}: time.sleep(0.4)", tmp_path)
    assert {re.sub(r" +", " ", line.partition("|")[0]) for line in lines} == bars


def test_what_was_done_before_does_not_count_for_the_rate(tmp_path: Path) -> None:
    body = "with bar('download', 2000, 'B', done=1000) as progress_bar: time.sleep(0.5)"
    *_, last = draw(body, tmp_path)
    assert "1000/2000 [00:00<?" in last


def test_a_fork_of_a_process_with_an_open_bar_can_print(tmp_path: Path) -> None:
    body = """
    with bar("count", 3) as progress_bar:
        time.sleep(0.3)
        progress_bar.draw()
        if not (child := os.fork()):
            print_line("child")
            os._exit(0)
        os.waitpid(child, 0)
"""
    assert "child" in draw(body, tmp_path)


def test_a_title_and_a_note_are_printable(tmp_path: Path) -> None:
    body = r"""
    with bar("download \x1b[2J\u202e", 1) as progress_bar:
        progress_bar.note = "\x1b]0;title\x07"
"""
    (line,) = draw(body, tmp_path)
    assert line.startswith("download \\x1b[2J\\u202e:")
    assert "\\x1b]0;title\\x07" in line
    assert line.isprintable()
