"""What memos of earlier runs must never change: the bytes that a run writes.

Stages filter, split, describe and features run over a few images, once with the memos of a run with
other params or other code, and once without any.
"""

import ast
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import cv2
import joblib
import numpy as np
import pytest
import torch
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML
from safetensors.torch import save_file
from torch import nn

from pipeline.core import shards, source_code
from pipeline.core.errors import PipelineError
from pipeline.core.source_code import imported_files
from pipeline.images import decoder_versions, memo
from pipeline.images.pixels import Pixels
from pipeline.network import backbones, openvino_engine
from pipeline.network.views import Preprocess, Views
from pipeline.params import Params, with_overrides
from pipeline.stages.acquire.raw_image import SKIPPED_COLUMNS, RawImage
from pipeline.stages.describe import __main__ as describe
from pipeline.stages.describe import thumbnails
from pipeline.stages.features import __main__ as features
from pipeline.stages.features import compute
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.filter import judge_all, judgement
from pipeline.stages.split import __main__ as split
from pipeline.stages.train import setup
from tests import ROOT
from tests.builders.params import NARROW_RESNET, override, small_params

# Other values of params that are text; those of other types are derived from the type.
OTHER_TEXTS = {
    "dataset.name": "other",
    "dataset.source": "other.zip",
    "images.augment": "shift-rotate-trivial",
    "model.backbone": "cifar_cnn",
    "model.weights": "other.safetensors",
    "model.replace": "fc",
    "model.trainable": "layer3",
}
NEEDED = {  # values of others, for one to count
    "split.train": {"split.val": 1, "split.test": 1},
    "split.fold": {"split.folds": 3},
}
Outputs = dict[str, bytes]
BEFORE_FEATURES = ("filter", "split", "describe")
ALL = (*BEFORE_FEATURES, "features")


OPENVINO = openvino_engine.name() or "openvino"


@pytest.fixture(scope="module", autouse=True)
def _torch() -> Iterator[None]:
    """Compute features by torch: OpenVINO takes half a second to compile a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_engine, "name", lambda: None)
        yield


# ---- a small pipeline ----


@pytest.fixture(scope="module")
def base(params: Params) -> Params:
    """Params with which every stage has something to do, quickly."""
    small = {"filter.store_side": 48, "split.val": 0.2, "split.test": 0.2}
    narrow = {key.replace("__", "."): value for key, value in NARROW_RESNET.items()}
    return small_params(params, **small, **narrow)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw/, the weights that `OTHER_TEXTS` names, and the data sets' folders."""
    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    rows = []
    for number in range(12):
        # PNG and JPEG, stored anew (larger than 48 pixels) and as they are.
        side = (100, 72, 44)[number % 3]
        picture = cv2.resize(random.integers(0, 256, (6, 6, 3), np.uint8), (side + 8, side))
        _, data = cv2.imencode((".png", ".jpg")[number // 6], picture)
        label = ("cat", "dog")[number % 2]
        name = shards.SPLITS[number // 2 % 3]
        rows.append(RawImage(f"{label}/{number}", label, data.tobytes(), split=name).row())
    rows.append(RawImage("cat/damaged.jpg", "cat", data.tobytes()[:300]).row())
    shards.write(folder / "raw", shards.RAW, rows)
    (folder / "skipped.csv").write_text(",".join(SKIPPED_COLUMNS))
    network = backbones.blank("resnet9_narrow", {}, 32, seed=9).network
    save_file(network.state_dict(), folder / OTHER_TEXTS["model.weights"])
    for name in ("sample", OTHER_TEXTS["dataset.name"]):
        (folder / "datasets" / name).mkdir(parents=True)
    return folder


class Workspace:
    """Runs the stages in new folders, with the memos of `root`."""

    def __init__(self, inputs: Path, root: Path) -> None:
        self.inputs = inputs
        self.root = root

    def run(
        self, params: Params, stages: Sequence[str] = ALL, before: Outputs | None = None
    ) -> Outputs | str:
        """The files that the stages write, or the sentence with which a stage refuses.

        Args:
            before: What the stages before these have written.
        """
        number = len(list(self.root.parent.iterdir()))
        folder = self.root.parent / f"{self.root.name} {number}"
        shutil.copytree(self.inputs, folder)
        for name, content in (before or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        with pytest.MonkeyPatch.context() as patch, joblib.parallel_config("threading"):
            patch.setenv("DVC_ROOT", str(self.root))
            patch.chdir(folder)
            YAML(typ="safe", pure=True).dump(params.model_dump(), Path("params.yaml"))
            try:
                for stage in stages:
                    _run_stage(stage, Path("datasets", params.dataset.name))
            except PipelineError as error:
                return str(error)
        names = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in names}


def _run_stage(stage: str, dataset: Path) -> None:
    raw, clean = Path("raw"), Path("clean")
    verdicts, splits, leaks, skipped = map(
        Path, ("verdicts.csv", "split.csv", "leaks.csv", "skipped.csv")
    )
    if stage == "filter":
        filtering.main(dataset, raw, clean, verdicts)
    elif stage == "split":
        split.main(clean, verdicts, splits, leaks)
    elif stage == "describe":
        describe.main(dataset, raw, clean, verdicts, splits, leaks, skipped, Path("data.html"))
    else:
        features.main(clean, splits, Path("features"))


@pytest.fixture(scope="module")
def remembered(
    tmp_path_factory: pytest.TempPathFactory, inputs: Path, base: Params
) -> tuple[Path, Outputs]:
    """A folder with the memos of a run with `base`, and what that run wrote."""
    root = tmp_path_factory.mktemp("remembered") / "root"
    root.mkdir()
    outputs = Workspace(inputs, root).run(base)
    assert isinstance(outputs, dict)
    return root, outputs


@pytest.fixture
def with_memo(tmp_path: Path, inputs: Path, remembered: tuple[Path, Outputs]) -> Workspace:
    """A workspace with the memos of a run with `base`."""
    shutil.copytree(remembered[0], tmp_path / "with" / "root")
    return Workspace(inputs, tmp_path / "with" / "root")


@pytest.fixture
def without_memo(tmp_path: Path, inputs: Path) -> Workspace:
    (tmp_path / "without" / "root").mkdir(parents=True)
    return Workspace(inputs, tmp_path / "without" / "root")


def test_the_stages_remember_and_a_run_that_remembers_computes_nothing(
    with_memo: Workspace,
    remembered: tuple[Path, Outputs],
    base: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the tests below prove nothing."""
    # Without the imports of source files, which a process writes once, and unfinished outputs.
    others = {"imports", "staging"}
    memos = {path.name for path in (remembered[0] / ".cache").iterdir()} - others
    assert memos == {"filter", "thumbnails", "features", "split"}
    monkeypatch.setattr(judgement, "judge", None)
    monkeypatch.setattr(thumbnails, "draw", None)
    monkeypatch.setattr(Views, "__getitem__", None)
    assert with_memo.run(base) == remembered[1]


# ---- other params ----


def other_value(params: Params, name: str) -> object:
    """Another value of a param, such that the params are valid."""
    section, key = name.split(".")
    model = Params.model_fields[section].annotation
    assert model is not None
    value = getattr(getattr(params, section), key)
    for candidate in _candidates(name, model.model_fields[key].annotation, value):
        try:
            if candidate != value and with_overrides(params, {name: candidate}):
                return candidate
        except PipelineError:
            continue
    raise AssertionError(f"add another value of {name} to OTHER_TEXTS")


def _candidates(name: str, annotation: Any, value: Any) -> Iterator[object]:
    if name in OTHER_TEXTS:
        yield OTHER_TEXTS[name]
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from parts
    elif origin is list:
        yield from ([item * 0.8 for item in value], [item * 1.25 for item in value])
    elif origin in (Annotated, Union, UnionType):
        for part in parts[:1] if origin is Annotated else parts:
            yield from _candidates("", part, value)
    else:
        yield from _OTHERS.get(annotation, lambda _: ())(value)


_OTHERS: dict[Any, Callable[[Any], Iterable[object]]] = {
    NoneType: lambda _: (None,),
    bool: lambda value: (not value,),
    int: lambda value: (value + 1, value - 1) if value else (2, 40),
    float: lambda value: (value * 0.8, value * 1.25, value + 0.5) if value else (0.5,),
}


def params_of(sections: Collection[str]) -> list[str]:
    return [
        f"{section}.{key}"
        for section in sections
        for key in getattr(Params.model_fields[section].annotation, "model_fields", ())
    ]


STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
READ_BEFORE = {section for name in BEFORE_FEATURES for section in STAGES[name]["params"]}
READ = READ_BEFORE | set(STAGES["features"]["params"])


class Shifted(nn.Module):
    """In place of torch.compile, which takes minutes; its last digits differ, these more."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pixels: torch.Tensor) -> Any:
        return tuple(value + 1 for value in self.module(pixels))


@pytest.mark.parametrize("name", params_of(sorted(READ)))
def test_a_change_of_any_param_gives_the_bytes_of_a_run_without_memo(
    with_memo: Workspace,
    without_memo: Workspace,
    remembered: tuple[Path, Outputs],
    base: Params,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """The stages before the features run only if they read the param."""
    monkeypatch.setattr(torch, "compile", Shifted)
    start = with_overrides(base, NEEDED.get(name, {}))
    changed = with_overrides(start, {name: other_value(start, name)})
    if name.partition(".")[0] in READ_BEFORE:
        assert with_memo.run(changed) == without_memo.run(changed)
    else:
        before = {
            path: content
            for path, content in remembered[1].items()
            if path.startswith(("clean/", "split.csv"))
        }
        outputs = with_memo.run(changed, ["features"], before)
        assert outputs == without_memo.run(changed, ["features"], before)


@pytest.mark.parametrize(
    ("stages", "read"), [(ALL, READ), (BEFORE_FEATURES, READ_BEFORE)], ids=["all", "before"]
)
def test_a_change_of_all_other_params_changes_no_byte(
    with_memo: Workspace,
    remembered: tuple[Path, Outputs],
    base: Params,
    stages: Sequence[str],
    read: set[str],
) -> None:
    """Params that the stages do not read, according to dvc.yaml."""
    names = params_of(sorted(Params.model_fields.keys() - read))
    assert len(names) > 20
    changed = base
    for name in names:
        changed = with_overrides(changed, {name: other_value(changed, name)})
    outputs = with_memo.run(changed, stages)
    assert isinstance(outputs, dict)
    del outputs["params.yaml"]
    assert outputs.items() <= remembered[1].items()
    assert outputs.keys() >= {"verdicts.csv", "split.csv", "data.html"}


def test_another_engine_gives_the_bytes_of_a_run_without_memo(
    with_memo: Workspace,
    without_memo: Workspace,
    base: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of OpenVINO, instead of torch; also when it remembers."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(openvino_engine, "name", lambda: OPENVINO)
    outputs = with_memo.run(base)
    assert outputs == without_memo.run(base)
    assert isinstance(outputs, dict)
    assert OPENVINO.encode() in outputs["features/features.json"]
    monkeypatch.setattr(Views, "__getitem__", None)
    assert outputs == with_memo.run(base)


def test_another_stored_size_gives_other_features_also_after_a_change_back(
    with_memo: Workspace, remembered: tuple[Path, Outputs], base: Params
) -> None:
    changed = with_memo.run(override(base, filter__store_side=40))
    assert isinstance(changed, dict)
    arrays = [name for name in changed if name.endswith(".npy")]
    assert arrays
    assert all(changed[name] != remembered[1][name] for name in arrays)
    assert with_memo.run(base) == remembered[1]


# ---- other code ----


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, which the digests of code are of."""
    copy = tmp_path / "pipeline"
    shutil.copytree(source_code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source_code, "PACKAGE", copy)
    return copy


def change(package: Path, path: str) -> None:
    with (package.parent / path).open("a", encoding="utf-8") as file:
        file.write("\n# Another version, with other results.\n")


def encode_otherwise(pixels: Pixels, *_: object) -> bytes:
    return bytes(cv2.imencode(".png", 255 - pixels)[1])


MODULES = {
    "filter": "pipeline.stages.filter.judge_all",
    "thumbnails": "pipeline.stages.describe.thumbnails",
    "features": "pipeline.stages.features.compute",
}


@pytest.mark.parametrize("stage", MODULES)
def test_a_change_of_any_module_starts_with_an_empty_memo(package: Path, stage: str) -> None:
    modules, libraries = [MODULES[stage]], decoder_versions.LIBRARIES
    keys = {memo.fingerprint({}, modules, libraries)}
    paths = imported_files(*modules)
    for path in paths:
        change(package, path)
        keys.add(memo.fingerprint({}, modules, libraries))
    assert len(keys) == 1 + len(paths)


@pytest.mark.parametrize("path", ["pipeline/images/decoding.py", "pipeline/params/data.py"])
def test_a_change_of_code_of_the_filter_gives_the_bytes_of_a_run_without_memo(
    with_memo: Workspace,
    without_memo: Workspace,
    base: Params,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    monkeypatch.setattr(judgement, "encode", encode_otherwise)
    change(package, path)
    assert with_memo.run(base) == without_memo.run(base)


def test_other_pixels_by_whatever_cause_give_the_bytes_of_a_run_without_memo(
    with_memo: Workspace, without_memo: Workspace, base: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a decoder that changed under the same version: the filter's memo was deleted."""
    monkeypatch.setattr(judgement, "encode", encode_otherwise)
    shutil.rmtree(with_memo.root / ".cache/filter")
    assert with_memo.run(base) == without_memo.run(base)


def test_another_codec_in_a_library_of_the_same_version_gives_the_bytes_of_a_run_without_memo(
    with_memo: Workspace, without_memo: Workspace, base: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "built with another libjpeg")
    monkeypatch.setattr(judgement, "encode", encode_otherwise)
    assert with_memo.run(base) == without_memo.run(base)


def test_a_change_of_code_of_the_features_gives_the_bytes_of_a_run_without_memo(
    with_memo: Workspace,
    without_memo: Workspace,
    base: Params,
    package: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Preprocess, "normalise", lambda _, pixels: pixels / 300)
    change(package, "pipeline/network/views.py")
    assert with_memo.run(base) == without_memo.run(base)


def test_another_processor_gives_the_bytes_of_a_run_without_memo(
    with_memo: Workspace, without_memo: Workspace, base: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memo, "_processor", lambda: {"model name": "another"})
    monkeypatch.setattr(Preprocess, "normalise", lambda _, pixels: pixels / 300)
    assert with_memo.run(base) == without_memo.run(base)


# ---- damage ----


@pytest.mark.parametrize("damage", ["nothing left", "cut off", "a page of zeros", "garbage"])
def test_a_damaged_memo_gives_the_bytes_of_a_run_without_and_says_so(
    with_memo: Workspace,
    remembered: tuple[Path, Outputs],
    base: Params,
    capsys: pytest.CaptureFixture[str],
    damage: str,
) -> None:
    files = sorted((with_memo.root / ".cache").rglob("*.arrow"))
    for path in files:
        data = path.read_bytes()
        middle = len(data) // 2
        content = {
            "nothing left": b"",
            "cut off": data[:middle],
            "a page of zeros": data[: middle - 256] + bytes(512) + data[middle + 256 :],
            "garbage": os.urandom(len(data)),
        }
        path.write_bytes(content[damage])
    assert with_memo.run(base) == remembered[1]
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == len({path.parent for path in files}) == 4
    assert all("the memo " in line and "computed again" in line for line in warnings)
    capsys.readouterr()
    assert with_memo.run(base) == remembered[1]
    assert "warning" not in capsys.readouterr().err


# ---- libraries ----


# Imported by code in a key, but no number of a result comes from them.
WITHOUT_NUMBERS = {
    "filelock",
    "joblib",
    "loky",
    "openvino",  # its version is in the name of the engine, which is in the key
    "pyarrow",
    "pydantic",
    "pydantic-core",
    "rich",
    "ruamel-yaml",
    "ruamel-yaml-clib",
    "safetensors",
    "threadpoolctl",  # one thread, whatever the version
    "tqdm",
    "typer",
}
POSTPONES = "pipeline/core/deferred_imports.py"  # imports of torch, and computes nothing


@pytest.mark.parametrize(
    ("modules", "libraries"),
    [
        ((judge_all.__name__,), decoder_versions.LIBRARIES),
        ((thumbnails.__name__,), decoder_versions.LIBRARIES),
        ((compute.__name__,), compute.LIBRARIES),
        (tuple(setup.MODULES), setup.LIBRARIES),
    ],
    ids=["filter", "thumbnails", "features", "train"],
)
def test_a_key_has_every_library_that_its_code_imports(
    modules: tuple[str, ...], libraries: Sequence[str], distributions: dict[str, list[str]]
) -> None:
    names = {
        name.partition(".")[0]
        for path in set(imported_files(*modules)) - {POSTPONES}
        for name in source_code._imports(ast.parse((ROOT / path).read_bytes()))
    }
    imported = {
        canonicalize_name(distribution)
        for name in names - sys.stdlib_module_names - {source_code.PACKAGE.name}
        for distribution in distributions[name]
    }
    assert imported - WITHOUT_NUMBERS == set(libraries) & imported
