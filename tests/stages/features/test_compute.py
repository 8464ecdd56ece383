import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline.core import shards
from pipeline.core.errors import PipelineError
from pipeline.images import memo
from pipeline.images.chunk_runs import Chunk
from pipeline.network import feature_store, views
from pipeline.network.examples import read_examples
from pipeline.network.feature_arrays import Rows
from pipeline.network.loading.parallel_forward import Tensors
from pipeline.params import Params
from pipeline.stages.features import compute as features
from pipeline.stages.features.compute import FeatureSettings
from tests.builders.models import compute_features
from tests.builders.params import NARROW_RESNET, override


def open_source(dataset: Path, params: Params, folder: Path) -> feature_store.Source:
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    prefix = features.frozen_prefix(params)
    return feature_store.open_source(folder, dataset / "clean", params.images, examples, prefix)


@pytest.fixture(scope="module")
def narrow(params: Params) -> Params:
    """Params of a network that takes a fraction of the shipped one's time."""
    return override(params, **NARROW_RESNET)


def read_rows(source: feature_store.Source, rows: Rows, view: int) -> Tensors:
    parts = list(source.batches(feature_store.chunks(rows, 8), view))
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_computed_in_the_loop_equal_the_cached_ones(
    dataset: Path, params: Params, dtype: str
) -> None:
    cached = override(params, **NARROW_RESNET, features__dtype=dtype)
    inside = override(cached, features__max_gigabytes=0.0)
    stored, streamed = (
        compute_features(dataset, cached, "stored"),
        compute_features(dataset, inside, "streamed"),
    )
    assert [path.name for path in streamed.iterdir()] == ["features.json"]
    rows = read_examples(dataset / "split.csv", dataset / "clean").rows("train")[::-1]
    for view in (0, 1):
        from_store = read_rows(open_source(dataset, cached, stored), rows, view)
        computed = read_rows(open_source(dataset, inside, streamed), rows, view)
        assert all(map(torch.equal, from_store, computed))


def test_a_second_run_computes_nothing_and_gives_the_same_bytes(
    dataset: Path, narrow: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bytes_of(compute_features(dataset, narrow, "first"))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a remembered image was computed again")

    monkeypatch.setattr(views.Views, "__getitem__", fail)
    assert bytes_of(compute_features(dataset, narrow, "second")) == first


def test_an_empty_memo_gives_the_same_bytes(
    dataset: Path, narrow: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bytes_of(compute_features(dataset, narrow, "first"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "elsewhere"))  # an empty memo
    assert bytes_of(compute_features(dataset, narrow, "second")) == first


@pytest.mark.parametrize("precision", ["32-true", "auto"])
def test_one_thread_and_two_give_the_same_bytes(
    dataset: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    changed = override(params, **NARROW_RESNET, features__precision=precision)
    folders = []
    before = torch.get_num_threads()
    for count in (1, 2):
        monkeypatch.setenv("DVC_ROOT", str(tmp_path / f"empty memo {count}"))
        torch.set_num_threads(count)
        try:
            folders.append(bytes_of(compute_features(dataset, changed, f"on {count}")))
        finally:
            torch.set_num_threads(before)
    assert folders[0] == folders[1]


def test_other_augmentation_leaves_the_memo_of_the_evaluation_view(
    dataset: Path, narrow: Params
) -> None:
    prefix = features.frozen_prefix(narrow)
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    index = features.describe(narrow, prefix, examples)
    cropped = override(narrow, images__crop_area=[0.3, 1.0]).images
    turned = override(narrow, images__rotate=20.0).images  # which crop-flip does not do
    folders = [
        [
            features.open_memo(FeatureSettings(prefix, images, index), view).directory
            for view in (0, 1)
        ]
        for images in (narrow.images, cropped, turned)
    ]
    assert folders[0][0] == folders[1][0]
    assert folders[0][1] != folders[1][1]
    assert folders[0] == folders[2]


def test_views_of_training_images_alone_are_stored_beside_the_evaluation_view(
    dataset: Path, narrow: Params
) -> None:
    folder = compute_features(dataset, narrow)
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    shapes = [np.load(feature_store.array_path(folder, view, 0)).shape for view in (0, 1)]
    assert [shape[0] for shape in shapes] == [len(examples), len(examples.rows("train"))]


def test_nothing_is_stored_when_nothing_is_frozen(dataset: Path, narrow: Params) -> None:
    folder = compute_features(dataset, override(narrow, model__trainable="all"))
    index = json.loads((folder / "features.json").read_text())
    assert index["stored"] is False
    assert index["why"] == "nothing is frozen"


def test_augmentation_without_augmented_views_is_refused(dataset: Path, params: Params) -> None:
    frozen = override(params, **NARROW_RESNET, features__views=0)
    with pytest.raises(PipelineError, match=r"augment is crop-flip, but features.views is 0"):
        compute_features(dataset, frozen)
    compute_features(dataset, override(frozen, images__augment="none"))
    compute_features(dataset, override(frozen, model__trainable="all"))


def test_features_of_other_weights_are_refused(dataset: Path, params: Params) -> None:
    folder = compute_features(dataset, params)
    other = override(params, model__weights="none")
    with pytest.raises(PipelineError, match="made with other weights"):
        open_source(dataset, other, folder)


@pytest.mark.parametrize(
    "change",
    [{"images__resize": 40}, {"images__normalise": "half"}, {"images__crop_area": [0.3, 1.0]}],
)
def test_features_of_other_views_are_refused(
    dataset: Path, narrow: Params, change: dict[str, object]
) -> None:
    folder = compute_features(dataset, narrow)
    with pytest.raises(PipelineError, match="computed with other values of `images`"):
        open_source(dataset, override(narrow, **change), folder)


def test_features_of_other_pixels_are_refused(dataset: Path, narrow: Params) -> None:
    folder = compute_features(dataset, narrow)
    rows = shards.columns(dataset / "clean", shards.CLEAN.names).to_pylist()
    rows[0] |= {"bytes": rows[1]["bytes"], shards.STORED: rows[1][shards.STORED]}
    shards.write(dataset / "clean", shards.CLEAN, rows)
    with pytest.raises(PipelineError, match="or for another data/clean: run `dvc repro` first"):
        open_source(dataset, narrow, folder)


def test_a_memo_serves_a_data_set_that_grew(dataset: Path, narrow: Params) -> None:
    compute_features(dataset, narrow)
    examples = read_examples(dataset / "split.csv", dataset / "clean")
    prefix = features.frozen_prefix(narrow)
    index = features.describe(narrow, prefix, examples)
    remembered = features.open_memo(FeatureSettings(prefix, narrow.images, index), 0)
    assert not remembered.missing(examples.keys_of(np.arange(len(examples)))).any()
    assert "new" not in remembered


def test_more_views_than_kept_keys_are_all_remembered(
    dataset: Path, narrow: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = override(narrow, features__views=memo.MAX_KEYS + 1)
    compute_features(dataset, many, "first")
    monkeypatch.setattr(views.Views, "__getitem__", None)  # computing anything would fail
    compute_features(dataset, many, "second")


def test_more_views_compute_only_the_new_ones(
    dataset: Path, narrow: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = bytes_of(compute_features(dataset, narrow, "first"))
    computed: list[tuple[int, ...]] = []
    compute = features.compute

    def recording(
        places: Sequence[Chunk],
        sizes: Iterator[int],
        settings: FeatureSettings,
        numbers: Sequence[int],
    ) -> Iterator[pa.RecordBatch]:
        computed.append(tuple(numbers))
        return compute(places, sizes, settings, numbers)

    recording.__module__ = compute.__module__  # the memo's key has its source
    monkeypatch.setattr(features, "compute", recording)
    more = bytes_of(compute_features(dataset, override(narrow, features__views=3), "second"))
    assert set(computed) == {(2, 3)}
    assert more.keys() > fewer.keys()
    assert all(more[name] == fewer[name] for name in fewer if name != "features.json")
