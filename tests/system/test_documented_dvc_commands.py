"""Every `dvc` command in README and docs works in a fresh clone, with real DVC.

The stages are replaced by copies of their outs, so that a command takes a second or two.
"""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from tests import ROOT
from tests.project import Project

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted(ROOT.glob("docs/*.md"))
IN_CONSOLE = re.compile(r"^\$ (?:.*&& )?(dvc [^#\n]*)", re.MULTILINE)
IN_TEXT = re.compile(r"`(?:[^`]*&& )?(dvc [^`#]+)")
# What the docs leave to the reader, and what a test puts there.
BLANKS = {
    r"-S$": "-S train.lr=0.002",
    r"-S \.\.\.": "-S train.lr=0.002",
    r"=\.\.\.": "=0.002",
    r"\$\(\.\.\.\)": "$(pipeline recipe better-flowers)",
    r"\bSTAGE\b": "split",
    r"(?<=apply )NAME\b|(?<=apply)$": " bold-aunt",
    r"(?<=exp pull)$": " origin bold-aunt",
    r"\bNAME\b": "store",
    r"\bREVISION\b": "HEAD",
    r"<name>": "pets",
    r"/absolute/path/to/\S+": "{photos}",
    r"/srv/dvc-store|/mnt/dvc-store": "{store}",
    r"^dvc plots$": "dvc plots show",
}
WITH_RESULTS = ("dvc checkout", "dvc repro -s", "dvc metrics diff", "dvc get")
"""Commands about results that are here: they follow a run."""
VALUE = re.compile(r" -S ('[^']*'|[\w.]+=\S+)|(?<=pipeline recipe )[\w-]+")


def documented_commands() -> list[str]:
    """The commands in consoles and in running text, with the blanks filled.

    Of those that differ only in values after -S, the longest: tests/test_docs.py checks the values'
    keys.
    """
    commands: dict[str, str] = {}
    for text in (page.read_text() for page in PAGES):
        for command in (*IN_CONSOLE.findall(text), *IN_TEXT.findall(text)):
            plain = " ".join(command.split())
            for blank, value in BLANKS.items():
                plain = re.sub(blank, value, plain)
            plain = " ".join(plain.split())
            same = VALUE.sub("", plain)
            commands[same] = max(commands.get(same, ""), plain, key=len)
    return sorted(commands.values())


COMMANDS = documented_commands()
DVC_YAML = (ROOT / "dvc.yaml").read_text()
PLOTTED = [
    *("class", "x", "y", "epoch", "train_loss", "val_loss", "train_accuracy", "val_accuracy"),
    *("label", "predicted", "images", "class_images", "probabilities", "probability", "accuracy"),
]
ROW = f"{','.join(PLOTTED)}\n{','.join('1' * len(PLOTTED))}\n"
"""A table that every plot can be drawn from."""


def test_the_commands_of_readme_are_among_them() -> None:
    assert {"dvc repro", "dvc exp run split", "dvc plots show"} < set(COMMANDS)
    assert len(COMMANDS) > 30


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with results, an experiment and a remote that has both, and photographs."""
    folder = tmp_path_factory.mktemp("documented")
    project = Project(folder / "origin", small=False)
    _replace_stages(project.folder / "dvc.yaml", folder / "outs")
    for place in (project.folder / "datasets/pets", folder / "photos"):
        place.mkdir()
        (place / "dataset.toml").write_text('kind = "folder"\ndescription = "d"\n')
    for words in (
        ("remote", "add", "--local", "-d", "store", str(folder / "store")),
        ("repro",),
        ("push", "-q"),
    ):
        result = project.dvc(*words)
        assert result.returncode == 0, result.stdout
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "results")
    project.experiment("bold-aunt", "train.lr=0.1")
    project.restore()
    assert project.dvc("push", "-q", "-a").returncode == 0
    return project


def _replace_stages(dvc_yaml: Path, outs: Path) -> None:
    """Let each stage copy made-up outs, which depend on its params."""
    yaml = YAML()
    pipeline = yaml.load(dvc_yaml)
    for stage in pipeline["stages"].values():
        listed = [*stage["outs"], *stage.get("metrics", ())]
        paths = [entry if isinstance(entry, str) else next(iter(entry)) for entry in listed]
        for path in paths:
            _write_out(outs / path)
        stage["deps"] = [path for path in stage.get("deps", ()) if not path.startswith("pipeline")]
        stage["cmd"] = " && ".join(
            f"rm -rf {path} && mkdir -p {Path(path).parent} && cp -r {outs / path} {path}"
            for path in paths
        )
    yaml.dump(pipeline, dvc_yaml)


def _write_out(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_text({".json": "{}", ".csv": ROW}.get(path.suffix, path.name))
        return
    path.mkdir()
    np.save(path / "rows.npy", np.zeros(1))
    for source in re.findall(rf"{path.name}/(\w+\.\w+):", DVC_YAML):  # of a plot
        _write_out(path / source)


@pytest.mark.parametrize("command", COMMANDS)
def test_it_works_in_a_fresh_clone(command: str, origin: Project, tmp_path: Path) -> None:
    clone = Project.cloned(origin, tmp_path / "clone")
    store = origin.folder.parent / "store"
    if "remote modify" in command:
        clone.dvc("remote", "add", "-d", "store", "s3://my-bucket")
    elif re.search("pull|push|bold-aunt", command):
        clone.dvc("remote", "add", "-d", "store", str(store))
    if "bold-aunt" in command:
        for words in (("exp", "pull", "-q", "origin", "bold-aunt"), ("pull", "-q")):
            assert clone.dvc(*words).returncode == 0
    if command.startswith(WITH_RESULTS):
        shutil.copytree(origin.folder / ".dvc/cache", clone.folder / ".dvc/cache", symlinks=True)
        assert clone.dvc("checkout").returncode == 0
    if command.startswith("dvc add"):
        (clone.folder / command.split()[-1]).mkdir(parents=True)
        (clone.folder / command.split()[-1] / "a.jpg").write_bytes(b"a")
    filled = command.format(photos=origin.folder.parent / "photos", store=store)
    if filled.startswith("dvc queue") or "$(" in filled:
        result = clone.run("bash", "-c", filled)
    else:
        result = clone.dvc(*shlex.split(filled)[1:])
    clone.kill_queue_workers()
    assert result.returncode == 0, result.stdout
    assert "ERROR" not in result.stdout


@pytest.mark.parametrize("stage", ["acquire", "features", "train"])
def test_a_single_target_works_in_a_fresh_clone(
    stage: str, origin: Project, tmp_path: Path
) -> None:
    clone = Project.cloned(origin, tmp_path / "clone")
    result = clone.dvc("exp", "run", "-S", "train.lr=0.002", stage)
    assert result.returncode == 0, result.stdout
