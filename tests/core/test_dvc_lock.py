import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pipeline.core import dvc_lock, source_code
from pipeline.core.errors import PipelineError

LOCK = """\
schema: '2.0'
stages:
  acquire:
    cmd: python -m pipeline.stages.acquire datasets/sample datasets data/raw data/skipped.csv
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
    cmd: python -m pipeline.stages.split
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


def test_params_are_per_stage(tmp_path: Path) -> None:
    assert params_of(tmp_path, LOCK, "acquire") == {
        "acquire": {"per_host_per_second": None, "workers": 64},
        "dataset": {"name": "sample", "source": "datasets"},
    }


def test_values_have_the_types_that_dvc_reads(tmp_path: Path) -> None:
    assert params_of(tmp_path, LOCK) == {
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
def test_a_lock_without_the_stage_has_no_params(tmp_path: Path, text: str) -> None:
    assert params_of(tmp_path, text) == {}


def test_bytecode_does_not_count_in_the_digest_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    before = dvc_lock.digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"1")
    assert dvc_lock.digest(tmp_path) == before
    (tmp_path / "a.py").write_text("x")
    assert dvc_lock.digest(tmp_path) != before


@pytest.mark.parametrize("name", [".a.py.swp", "a.py~", ".DS_Store", "deep/.cache/a", "b.pyc"])
def test_what_dvcignore_lists_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shutil.copyfile(source_code.PACKAGE.parent / ".dvcignore", tmp_path / ".dvcignore")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("x = 1")
    before = dvc_lock.digest(Path("code"))
    ignored = tmp_path / "code" / name
    ignored.parent.mkdir(parents=True, exist_ok=True)
    ignored.write_text("")
    assert dvc_lock.digest(Path("code")) == before
    (tmp_path / ".dvcignore").write_text("# nothing\n!*\n/code/deep\n")
    assert dvc_lock.digest(Path("code")) != before


def test_a_missing_lock_has_no_params(tmp_path: Path) -> None:
    assert dvc_lock.params(dvc_lock.read(tmp_path / "dvc.lock"), "split") == {}


def test_the_default_lock_is_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
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
def test_the_error_for_bad_yaml_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dvc.lock"
    path.write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        dvc_lock.read(path)
    assert str(caught.value).startswith(f"{path} is not YAML: ")
    assert str(caught.value).endswith(": `pipeline doctor` puts back the last good one")
    assert "\n" not in str(caught.value)


def test_ran_with_compares_a_file_with_the_digest_in_the_lock(tmp_path: Path) -> None:
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
def test_a_stage_without_deps_ran_with_no_file(tmp_path: Path, deps: object) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text(json.dumps({"stages": {"split": {"deps": deps}}}))
    assert not dvc_lock.ran_with(dvc_lock.read(lock), "split", "pipeline/code.py", lock)
