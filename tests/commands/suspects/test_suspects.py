import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import numpy.typing as npt
import pytest
import torch
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.commands.suspects import suspects
from pipeline.commands.suspects.suspects import Suspect
from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.split_csv import read_split, write_split
from pipeline.core.terminal import printable
from pipeline.images import hand_lists
from pipeline.inference.pooled_features import open_features
from pipeline.network import feature_store
from pipeline.network.examples import Examples
from pipeline.params import Params, with_overrides
from pipeline.stages.features import __main__ as features
from tests.builders.clean_rows import clean_row
from tests.builders.features import LoadedFeatures, feature_index
from tests.builders.images import noise_png
from tests.html_page import Page, size

Floats = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Run joblib in threads: processes take a second to start."""
    with joblib.parallel_config("threading"):
        yield


def separable(count: int, classes: int = 3, seed: int = 0, dims: int = 8) -> Floats:
    """Features that separate the classes; the class of a row is its number modulo `classes`."""
    random = np.random.default_rng(seed)
    centres = 4 * np.eye(classes, dims)
    values = centres[np.arange(count) % classes] + random.normal(0, 0.5, (count, dims))
    return values.astype(np.float32)


def judge(
    values: Floats, labels: Sequence[int], groups: Sequence[str] | None = None
) -> list[tuple[int, int]]:
    numbers = np.array(labels, np.int64)
    names = [f"class {number}" for number in range(int(numbers.max()) + 1)]
    row_groups = [str(row) for row in range(len(values))]
    probabilities = out_of_fold(values, numbers, groups or row_groups, names)
    return contradicted(numbers, probabilities)


def out_of_fold(
    values: Floats, labels: npt.NDArray[np.int64], groups: Sequence[str], classes: Sequence[str]
) -> npt.NDArray[np.float64]:
    codes = np.unique(np.array(groups), return_inverse=True)[1]
    rows = np.arange(len(labels))
    assert suspects.large_classes(labels, codes, classes).all()
    models = suspects.OutOfFold(LoadedFeatures(values), rows, labels, codes, len(classes))
    probabilities = np.zeros((len(labels), len(classes)))
    for images, block in models.probabilities():
        probabilities[images] = block
    return probabilities


def contradicted(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> list[tuple[int, int]]:
    """Images and what they look like, from probabilities in two blocks."""
    parts = np.array_split(np.arange(len(labels)), 2)
    result = suspects.contradicted_labels(
        labels, lambda: ((rows, probabilities[rows]) for rows in parts)
    )
    assert (result.own == probabilities[result.images, labels[result.images]]).all()
    assert (result.other == probabilities[result.images, result.looks_like]).all()
    return list(zip(result.images.tolist(), result.looks_like.tolist(), strict=True))


def test_planted_wrong_labels_are_the_first_suspects() -> None:
    labels = [row % 3 for row in range(150)]
    planted = {7: 0, 40: 2, 41: 0, 100: 2, 122: 0}
    assert all(labels[row] != label for row, label in planted.items())
    wrong = [planted.get(row, label) for row, label in enumerate(labels)]
    results = judge(separable(150), wrong)
    first = results[: len(planted)]
    assert {row for row, _ in first} == set(planted)
    assert all(looks == labels[row] for row, looks in first)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_clean_data_have_no_suspects(classes: int) -> None:
    count = 30 * classes
    labels = [row % classes for row in range(count)]
    assert judge(separable(count, classes), labels) == []


def test_the_clearest_case_is_first() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    first = np.array([0.9, 0.1, 0.4, 0.05, 0.1, 0.8])
    results = contradicted(labels, np.stack([first, 1 - first], axis=1))
    assert results == [(1, 1), (5, 0)]  # by 0.8 and by 0.6; row 2 is below the mean of class 1


def test_an_image_below_every_threshold_is_no_suspect() -> None:
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.1, 0.9]])
    assert contradicted(np.array([0, 0, 1, 1]), probabilities) == []


def test_near_duplicates_do_not_confirm_each_others_labels() -> None:
    # Twins in a separate direction, both mislabelled: each would confirm the other's label.
    values = separable(1000, 2, dims=14)
    values[:, 10:] = 0
    labels = [row % 2 for row in range(1000)]
    twins = {row: row + 2 for row in (310, 320, 400, 410)}  # in two folds each, unless grouped
    for number, (row, twin) in enumerate(twins.items()):
        for mislabelled in (row, twin):
            values[mislabelled, 10 + number] = 200
            labels[mislabelled] = 1 - labels[mislabelled]
    alone = [f"{row:03d}" for row in range(1000)]
    groups = [*alone]
    for row, twin in twins.items():
        groups[twin] = groups[row]
    planted = [row for pair in twins.items() for row in pair]

    def label_probabilities(groups: Sequence[str]) -> Floats:
        probabilities = out_of_fold(values, np.array(labels), groups, ["even", "odd"])
        return np.asarray([probabilities[row, labels[row]] for row in planted], np.float32)

    assert (label_probabilities(alone) > 0.4).all()
    assert (label_probabilities(groups) < 0.3).all()


@pytest.mark.parametrize("group_count", [1, 4])
def test_a_class_with_too_few_groups_is_an_error(group_count: int) -> None:
    labels = [0] * 20 + [1] * 12
    groups = [str(row) for row in range(20)] + [f"g{row % group_count}" for row in range(12)]
    with pytest.raises(PipelineError) as caught:
        judge(separable(32, 2), labels, groups)
    assert str(caught.value) == (
        f"class 'class 1' has {group_count} training images that do not look alike, and suspects "
        "needs 5, one per fold: add images"
    )


def test_classes_with_too_few_groups_are_left_out_with_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels = np.array([0] * 9 + [1] * 4 + [2] * 9 + [3] * 8)
    groups = np.arange(30)
    groups[22:] = 22
    is_large = suspects.large_classes(labels, groups, ["ant", "bee", "cat", "dog"])
    assert is_large.tolist() == [True, False, True, False]
    assert capsys.readouterr().err == (
        "warning: left out 2 of 4 classes: class 'bee' has 4 training images that do not look "
        "alike, and suspects needs 5, one per fold\n"
    )


def test_five_groups_are_enough() -> None:
    labels = [row % 2 for row in range(30)]
    groups = [f"{row % 2}/{row // 2 % 5}" for row in range(30)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge(separable(30, 2), labels, groups) == []


# ---- reading the features ----


LABELS = torch.zeros(6, dtype=torch.int64)
IMAGES = Examples.of(list("abcdef"), LABELS, ["train"] * 6, ["cat"], list("012345"))


def store(folder: Path, *arrays: npt.NDArray[np.floating], stored: bool = True) -> Path:
    folder.mkdir()
    shapes = [list(array.shape[1:]) for array in arrays]
    feature_store.write_index(
        folder,
        feature_index(
            stored=stored,
            why="nothing is frozen",
            shapes=shapes,
            dtype="float16" if arrays and arrays[0].dtype == np.float16 else "float32",
            images=IMAGES.digest(),
        ),
    )
    for number, array in enumerate(arrays):
        np.save(feature_store.array_path(folder, 0, number), array)
    return folder


def read_features(folder: Path, rows: list[int]) -> Floats:
    return open_features(folder, IMAGES).read(np.array(rows))


def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    folder = store(tmp_path / "f", np.zeros((6, 3), np.float32))
    path = feature_store.array_path(folder, 0, 0)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(PipelineError, match=r"view_0\.tensor_0\.npy is damaged"):
        open_features(folder, IMAGES)


def test_feature_maps_are_averaged_and_tensors_joined(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    maps = random.normal(size=(6, 3, 2, 4)).astype(np.float32)
    flat = random.normal(size=(6, 5)).astype(np.float32)
    values = read_features(store(tmp_path / "f", maps, flat), [4, 0, 1])
    assert values.shape == (3, 8)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[:, :3], maps[[4, 0, 1]].mean(axis=(2, 3)), rtol=1e-6)
    assert (values[:, 3:] == flat[[4, 0, 1]]).all()


def test_half_precision_is_averaged_in_single(tmp_path: Path) -> None:
    maps = np.full((2, 1, 50, 50), 60_000, np.float16)  # their sum overflows half precision
    values = read_features(store(tmp_path / "f", maps), [0, 1])
    np.testing.assert_allclose(values, maps[:, :, 0, 0].astype(np.float32), rtol=1e-4)


def test_sequences_are_laid_flat(tmp_path: Path) -> None:
    tokens = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    values = read_features(store(tmp_path / "f", tokens), [1])
    assert values.tolist() == [list(range(12, 24))]


def test_missing_features_are_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        open_features(store(tmp_path / "f", stored=False), IMAGES)
    assert str(caught.value) == (
        f"{tmp_path / 'f'} has no features (nothing is frozen), and wrong labels, outliers, drift "
        "and similar images are found by them: run with `-S model.trainable=head` first"
    )


def test_a_stage_that_has_not_run_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no features in .*: run `dvc repro features` first"):
        open_features(tmp_path, IMAGES)


def test_features_of_other_images_are_refused(tmp_path: Path) -> None:
    others = replace(IMAGES, splits=columns.texts(["train", *["val"] * 5]))
    maps = np.zeros((6, 3), np.float32)
    with pytest.raises(
        PipelineError, match=r"computed for another data/split\.csv, or .*: run `dvc repro`"
    ):
        open_features(store(tmp_path / "f", maps), others)


# ---- the page ----


STRANGE = [
    "a, b",
    'say "cat"',
    '"quoted',
    "it's",
    "two\nlines",
    "<script>x</script>",
    "żółw 日本",
    "=1+1",
    " spaced ",
    "semi;colon",
    "tab\there",
    "cat",
]


def draw(folder: Path, listed: Sequence[Suspect], datas: Sequence[bytes]) -> Page:
    rows = [
        clean_row(suspect.id, data, label=suspect.label, name=suspect.name)
        for suspect, data in zip(listed, datas, strict=True)
    ]
    shards.write(folder / "clean", shards.CLEAN, rows)
    suspects.write_page(folder / "suspects.html", listed, folder / "clean", "cats")
    return Page((folder / "suspects.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("strange", STRANGE)
def test_the_lines_of_the_page_are_a_valid_reject_csv(world: Path, strange: str) -> None:
    listed = [
        Suspect(f"{n:064x}", f"{n}.png", label, looks, 0.1, 0.9)
        for n, (label, looks) in enumerate([(strange, "cat"), ("cat", strange)])
    ]
    page = draw(world, listed, [noise_png(0), noise_png(1)])
    (world / "reject.csv").write_bytes(page.pre.encode())
    assert hand_lists.read_rejects(world) == {
        f"{0:064x}": "looks like cat",
        f"{1:064x}": f"looks like {strange}",
    }
    # Pasted below the existing lines.
    own = "id,why\n" + "f" * 64 + ",mine\n"
    (world / "reject.csv").write_bytes(own.encode() + page.pre.split("\n", 1)[1].encode())
    assert len(hand_lists.read_rejects(world)) == 3


def test_each_suspect_has_a_picture_and_its_likely_class(world: Path) -> None:
    listed = [Suspect(f"{n:064x}", f"x/{n}.png", "cat", "dog", 0.02, 0.93) for n in range(3)]
    page = draw(world, listed, [noise_png(n) for n in range(3)])
    assert [size(figure.picture) for figure in page.figures] == [(40, 48)] * 3
    for number, figure in enumerate(page.figures):
        assert figure.caption.startswith("cat · looks like dog (93 %)")
        assert f"{number}.png" in figure.caption


def test_a_page_without_suspects_prints_none(world: Path) -> None:
    shards.write(world / "clean", shards.CLEAN, [clean_row("a")])
    suspects.write_page(world / "suspects.html", [], world / "clean", "cats")
    page = Page((world / "suspects.html").read_text())
    assert (page.figures, page.pre) == ([], "")
    assert any("None." in text for text in page.text_of.values())


# ---- end to end ----


@pytest.fixture
def computed(dataset: Path, params: Params) -> Path:
    """Real features of the small data set; every eighth of its training images is mislabelled."""
    stripes_params = with_overrides(params, {"dataset.name": "stripes"})
    Path("params.yaml").write_text(json.dumps(stripes_params.model_dump()))
    other = {"plain": "striped", "striped": "plain"}
    rows = list(read_split(dataset / "split.csv"))
    mislabelled = [row for row in rows if row.split == "train"][::8]
    rows = [replace(row, label=other[row.label]) if row in mislabelled else row for row in rows]
    write_split(dataset / "split.csv", rows)
    features.main(dataset / "clean", dataset / "split.csv", dataset / "features")
    return dataset


def planted(dataset: Path) -> set[str]:
    named = dict(
        zip(*shards.columns(dataset / "clean", ["id", "name"]).to_pydict().values(), strict=True)
    )
    rows = read_split(dataset / "split.csv")
    return {row.id for row in rows if named[row.id].split("/")[0] != row.label}


def test_wrong_labels_are_found_by_real_features(computed: Path) -> None:
    result = CliRunner().invoke(app, ["suspects"])
    assert result.exit_code == 0, result.output
    page = Page(Path("reports/suspects.html").read_text())
    ids = [line.split(",")[0] for line in page.pre.splitlines()[1:]]
    wrong = planted(computed)
    assert len(wrong) >= 2
    assert wrong <= set(ids[:5])
    assert [figure.caption[-12:] for figure in page.figures] == [key[:12] for key in ids]
    for key in ids:
        assert key[:12] in result.output
    summary = (
        f"{len(ids)} suspects among the training images; reports/suspects.html shows {len(ids)}"
    )
    assert summary in result.output
    Path("reject.csv").write_text(page.pre)
    assert set(hand_lists.read_rejects(Path())) == set(ids)


def test_a_class_that_is_too_small_hides_no_suspects(computed: Path) -> None:
    paths = [computed / name for name in ("clean", "split.csv", "features")]
    listed = {suspect.id for suspect in suspects.find_suspects(*paths)}
    wrong = planted(computed)
    rows = list(read_split(computed / "split.csv"))
    rare = [row for row in rows if row.split == "train" and row.id not in listed][:2]
    rows = [replace(row, label="a rare one") if row in rare else row for row in rows]
    write_split(computed / "split.csv", rows)
    after = suspects.find_suspects(*paths)
    assert len(wrong) >= 2
    assert wrong <= {suspect.id for suspect in after}
    assert "a rare one" not in {name for row in after for name in (row.label, row.looks_like)}


def test_most_limits_the_listed_suspects(computed: Path) -> None:
    result = CliRunner().invoke(app, ["suspects", "--most", "2", "--page", "elsewhere/two.html"])
    assert result.exit_code == 0, result.output
    assert re.search(
        r"^\d+ suspects among the training images; elsewhere/two.html shows 2$",
        result.output,
        re.M,
    )
    assert len(Page(Path("elsewhere/two.html").read_text()).figures) == 2
    assert not Path("reports").exists()
    assert CliRunner().invoke(app, ["suspects", "--most", "0"]).exit_code == 2


def test_a_second_run_writes_the_same_page(computed: Path) -> None:
    for name in ("one.html", "two.html"):
        assert CliRunner().invoke(app, ["suspects", "--page", name]).exit_code == 0
    assert Path("one.html").read_bytes() == Path("two.html").read_bytes()
    assert b"http://" not in Path("one.html").read_bytes()


def test_the_command_fails_without_features(dataset: Path, params: Params) -> None:
    streamed = with_overrides(params, {"features.max_gigabytes": 0.0})
    Path("params.yaml").write_text(json.dumps(streamed.model_dump()))
    features.main(dataset / "clean", dataset / "split.csv", dataset / "features")
    result = CliRunner().invoke(app, ["suspects"])
    assert isinstance(result.exception, PipelineError)
    assert "data/features has no features" in str(result.exception)


HOSTILE = [
    "it's [bold]bold[/bold]",
    "[/]",
    ":car:",
    "red\x1b[31m",
    "back\x9b2J",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_print_no_control_characters(
    hostile: str, world: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    Path("params.yaml").write_text(json.dumps(params.model_dump()))
    row = clean_row("a", noise_png(0), label=hostile, name=hostile)
    shards.write(world / "data/clean", shards.CLEAN, [row])
    listed = [Suspect("a", hostile, hostile, hostile, 0.1, 0.9)]
    monkeypatch.setattr(suspects, "find_suspects", lambda *_: listed)
    result = CliRunner().invoke(app, ["suspects"])
    assert result.exit_code == 0
    assert result.output.replace("\n", "").isprintable()
    assert result.output.count(printable(hostile)) == 3
