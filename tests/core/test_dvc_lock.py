import hashlib
import json
from pathlib import Path

import pytest

from pipeline.core import dvc_lock
from pipeline.core.errors import PipelineError

AS_DVC_WRITES_IT = """\
schema: '2.0'
stages:
  acquire:
    cmd: python -m pipeline.acquire datasets/sample datasets data/raw data/skipped.csv
    deps:
    - path: datasets/sample
      hash: md5
      md5: 0cc175b9c0f1b6a831c399e269772661.dir
      size: 1
      nfiles: 1
    params:
      params.yaml:
        acquire:
          per_host_per_second:
          workers: 64
        dataset:
          name: sample
          source: datasets
  split:
    cmd: python -m pipeline.split
    params:
      params.yaml:
        split:
          seed: 1
          val: 0.15
          test: 1e-03
          train:
          prescribed: true
          leaks: drop
"""


def params_of(folder: Path, text: str, stage: str = "split") -> dict[str, object]:
    path = folder / "dvc.lock"
    path.write_text(text)
    return dvc_lock.params(dvc_lock.read(path), stage)


def test_each_stage_has_its_sections(tmp_path: Path) -> None:
    assert params_of(tmp_path, AS_DVC_WRITES_IT, "acquire") == {
        "acquire": {"per_host_per_second": None, "workers": 64},
        "dataset": {"name": "sample", "source": "datasets"},
    }


def test_values_are_read_as_dvc_means_them(tmp_path: Path) -> None:
    found = params_of(tmp_path, AS_DVC_WRITES_IT)
    assert found == {
        "split": {
            "seed": 1,
            "val": 0.15,
            "test": 0.001,
            "train": None,
            "prescribed": True,
            "leaks": "drop",
        }
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: '2.0'\n",
        "- 1\n",
        "3\n",
        "text\n",
        "stages:\n",
        "stages: {}\n",
        "stages: [split]\n",
        "stages: {split: }\n",
        "stages: {split: {cmd: x}}\n",
        "stages: {split: {params: }}\n",
        "stages: {split: {params: {other.yaml: {split: {}}}}}\n",
        "stages: {split: {params: {params.yaml: }}}\n",
        "stages: {split: {params: {params.yaml: 3}}}\n",
        "stages: {split: {params: {params.yaml: [split]}}}\n",
        "stages: {train: {params: {params.yaml: {split: {}}}}}\n",
    ],
)
def test_a_lock_that_does_not_know_the_stage_has_none(tmp_path: Path, text: str) -> None:
    assert params_of(tmp_path, text) == {}


def test_no_lock_has_none(tmp_path: Path) -> None:
    assert dvc_lock.params(dvc_lock.read(tmp_path / "dvc.lock"), "split") == {}


def test_the_lock_is_the_working_directory_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.lock").write_text(AS_DVC_WRITES_IT)
    monkeypatch.chdir(tmp_path)
    assert list(dvc_lock.params(dvc_lock.read(), "split")) == ["split"]


@pytest.mark.parametrize(
    "content",
    [
        b"<<<<<<< HEAD\nstages: [\n",
        b"stages:\n\tsplit: 1\n",
        b"a: 1\na: 2\n",
        b"a: \xff\xfe\n",
        b"a: \x00\n",
    ],
    ids=["unclosed", "tab", "key twice", "not UTF-8", "null byte"],
)
def test_what_is_not_yaml_is_said_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dvc.lock"
    path.write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        dvc_lock.read(path)
    assert str(caught.value).startswith(f"{path} is not YAML: ")
    assert "\n" not in str(caught.value)


def test_a_stage_ran_with_what_the_lock_has_the_digest_of(tmp_path: Path) -> None:
    file, lock = tmp_path / "code.py", tmp_path / "dvc.lock"
    file.write_text("x = 1\n")
    assert not dvc_lock.ran_with(dvc_lock.read(lock), "split", "pipeline/code.py", file)
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    dep = {"path": "pipeline/code.py", "hash": "md5", "md5": digest}
    lock.write_text(json.dumps({"stages": {"split": {"deps": [dep]}}}))
    assert dvc_lock.ran_with(dvc_lock.read(lock), "split", "pipeline/code.py", file)
    assert not dvc_lock.ran_with(dvc_lock.read(lock), "split", "pipeline/other.py", file)
    assert not dvc_lock.ran_with(dvc_lock.read(lock), "train", "pipeline/code.py", file)
    file.write_text("x = 2\n")
    assert not dvc_lock.ran_with(dvc_lock.read(lock), "split", "pipeline/code.py", file)


@pytest.mark.parametrize("deps", [None, [], [3], [{}]], ids=str)
def test_a_lock_without_deps_is_of_no_code(tmp_path: Path, deps: object) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(json.dumps({"stages": {"split": {"deps": deps}}}))
    assert not dvc_lock.ran_with(dvc_lock.read(lock), "split", "pipeline/code.py", lock)
