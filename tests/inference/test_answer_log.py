import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.errors import PipelineError
from pipeline.inference import answer_log
from pipeline.inference.answer_log import START, AnswerLog, is_log, read_log
from pipeline.inference.classifier import NOT_A_NUMBER, Classification, Classifier
from pipeline.inference.computed_features import ComputedFeatures
from tests.builders.forks import Fork

ANT = Classification((("ant", 0.75), ("bee", 0.25)))


@pytest.fixture(scope="module")
def classifier(striped_model: Path) -> Classifier:
    return Classifier(striped_model / "models")


def log_views(log: AnswerLog, classifier: Classifier, *answers: Classification) -> torch.Tensor:
    """Compute a view for each answer that has no problem of reading, and log them."""
    size = classifier.card.preprocess.size
    count = sum(answer.problem in {None, NOT_A_NUMBER} for answer in answers)
    views = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    computed = ComputedFeatures()
    with computed.collecting(classifier):
        if count:
            classifier.compute_independently(views)
        log.add(classifier, "pets version 3", answers, computed.by_image(answers))
    return views


def test_a_line_has_features_and_the_answer_and_no_image(
    tmp_path: Path, classifier: Classifier
) -> None:
    path = tmp_path / "log.jsonl"
    problems = Classification(problem="damaged"), Classification(problem=NOT_A_NUMBER)
    views = log_views(AnswerLog(path), classifier, problems[0], ANT, problems[1], ANT)
    assert is_log(path)
    assert path.stat().st_mode & 0o777 == 0o600
    first, second = read_log(path)
    assert (first.label, first.probability) == ("ant", 0.75)
    assert first.fingerprint == classifier.card.fingerprint
    for answer, view in ((first, views[0]), (second, views[2])):
        (expected,) = classifier._prefix(view[None])
        expected = expected.mean(dim=(2, 3)) if expected.dim() == 4 else expected
        np.testing.assert_allclose(answer.features, expected.flatten(), rtol=1e-3, atol=1e-6)
    assert set(json.loads(path.read_text().splitlines()[0])) == {
        "fingerprint",
        "model",
        "label",
        "probability",
        "features",
    }


def test_the_log_is_bounded_and_begins_anew(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    log = AnswerLog(path)
    log_views(log, classifier, ANT)
    line = path.stat().st_size
    monkeypatch.setattr(answer_log, "MAX_BYTES", 3 * line + 20)
    for _ in range(9):
        log_views(log, classifier, ANT)
    assert {file.name for file in tmp_path.iterdir()} == {
        "log.jsonl",
        "log.jsonl.1",
        "log.jsonl.lock",
    }
    assert all(file.stat().st_size <= 3 * line + 20 for file in tmp_path.iterdir())
    assert len(list(read_log(path))) == 4  # of ten: three of the file before, and the last


def test_a_line_that_a_kill_cut_off_is_removed(tmp_path: Path, classifier: Classifier) -> None:
    path = tmp_path / "log.jsonl"
    log_views(AnswerLog(path), classifier, ANT, ANT)
    path.write_bytes(path.read_bytes()[:-9])
    assert len(list(read_log(path))) == 1
    log_views(AnswerLog(path), classifier, ANT)
    assert len(list(read_log(path))) == 2


DAMAGED = [
    '{"fingerprint": "f"}',
    "[]",
    "\x00",
    '{"fingerprint": 1, "label": "a", "probability": 1, "features": ""}',
    '{"fingerprint": "f", "label": "a", "probability": NaN, "features": ""}',
    '{"fingerprint": "f", "label": "a", "probability": 1, "features": "AHw="}',  # infinite
    '{"fingerprint": "f", "label": "a", "probability": 1, "features": "AAA"}',
    '{"fingerprint": "f", "label": "a", "probability": 1, "features": ""}',
    '{"fingerprint": "f", "label": "a", "label": "b", "probability": 1, "features": "AAA="}',
    f'{{"fingerprint": "f", "label": "a", "probability": 1{"0" * 400}, "features": "AAA="}}',
    f'{{"fingerprint": {"[" * 200_000}',
]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_one_sentence(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(PipelineError, match=r"line 1 of .*log\.jsonl is damaged"):
        list(read_log(path))


COMPLETE = '{"fingerprint": "f", "label": "a", "probability": 1, "features": "AAA="}'
OTHERS = [
    "a line\nand no line end",
    '{"fingerprint": "of a key, in one line"}',
    '{"fingerprint": 1, "name": "x"}\n',
    f"{COMPLETE}\nnotes without a line end",
]


@pytest.mark.parametrize("content", OTHERS)
@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.1"])
def test_a_file_that_is_no_log_is_refused_and_stays_as_it_is(
    tmp_path: Path, content: str, name: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(PipelineError, match=rf"--log .*{name} is no log of a service"):
        AnswerLog(tmp_path / "log.jsonl")
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("", 0),
        ('{"fin', 0),
        (COMPLETE, 0),
        (f"{COMPLETE}\n", 1),
        (f"{COMPLETE}\n" * 9 + START.decode() + "a" * 99_999, 9),
    ],
)
def test_a_log_goes_on_after_its_last_whole_line(tmp_path: Path, content: str, lines: int) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(content)
    AnswerLog(path)
    assert path.read_text() == f"{COMPLETE}\n" * lines


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PipelineError, match="pipe is no log of a service: name another file"):
        AnswerLog(tmp_path / "pipe")


def test_processes_that_share_a_log_lose_no_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    line = COMPLETE.replace("AAA=", "AAAA" * 100) + "\n"
    monkeypatch.setattr(answer_log, "MAX_BYTES", 200 * len(line))  # one change of files

    def append() -> None:
        log = AnswerLog(path)
        for _ in range(100):
            log._append(line)

    forks = [Fork(append, [], tmp_path / f"output{number}") for number in range(3)]
    for fork in forks:
        fork.finish()
    assert len(list(read_log(path))) == 300


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"--log .* cannot be written \(Is a directory\)"):
        AnswerLog(tmp_path)


def test_a_full_disk_ends_the_log_alone(
    tmp_path: Path,
    classifier: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = AnswerLog(tmp_path / "log.jsonl")

    def fail(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", fail)
    for _ in range(2):
        log_views(log, classifier, ANT)
    assert capsys.readouterr().err.count("nothing more is logged") == 1


def test_other_files_are_no_logs(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"label": 1}')
    assert not is_log(tmp_path / "a.json")
    assert not is_log(tmp_path)
    assert not is_log(tmp_path / "absent")
