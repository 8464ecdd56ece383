import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core.errors import PipelineError
from pipeline.params import load_params, parse_params, with_overrides
from tests import ROOT

VALID = load_params(ROOT / "params.yaml")
SHARE = "a share between 0 and 1, or a whole number of images per class"


def change(name: str, value: object) -> dict[str, Any]:
    """All values as in a params file, one of them changed."""
    values = deepcopy(VALID.model_dump())
    section, _, key = name.partition(".")
    if key:
        values[section][key] = value
    else:
        values[section] = value
    return values


def parse_error(values: object) -> str:
    with pytest.raises(PipelineError) as caught:
        parse_params(values, "params.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("train.epoch", "params.yaml: train.epoch = 7 is not a known key (did you mean epochs?)"),
        ("trian", "params.yaml: trian = 7 is not a known key (did you mean train?)"),
        ("split.vall", "params.yaml: split.vall = 7 is not a known key (did you mean val?)"),
    ],
)
def test_an_unknown_key_names_the_close_one(name: str, hint: str) -> None:
    assert parse_error(change(name, 7)).startswith(hint)


def test_the_error_for_another_unknown_key_lists_the_known_ones() -> None:
    message = parse_error(change("split.zzz", 7))
    assert message == "params.yaml: split.zzz = 7 is not a known key: " + ", ".join(
        [
            "seed",
            "val",
            "test",
            "train",
            "prescribed",
            "folds",
            "fold",
            "leaks",
            "incomplete_classes",
        ]
    )


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("train.epochs", "ten", "a valid integer"),
        ("train.epochs", 3.0, "a valid integer"),
        ("train.epochs", True, "a valid integer"),
        ("train.epochs", 0, "greater than 0"),
        ("train.lr", "1e-3", "a valid number"),
        ("train.lr", float("inf"), "a finite number"),
        ("train.lr", float("nan"), "a finite number"),
        ("train.target_accuracy", 1.5, "less than or equal to 1"),
        ("split.seed", -1, "greater than or equal to 0"),
        ("split.val", 0, SHARE),
        ("split.val", 0.0, SHARE),
        ("split.val", 1.0, SHARE),
        ("split.val", -0.5, SHARE),
        ("split.val", -3, SHARE),
        ("split.val", 300.0, SHARE),
        ("split.test", 0, SHARE),
        ("split.test", 1.0, SHARE),
        ("split.val", "0.15", "a valid number"),
        ("split.test", True, "a valid number"),
        ("split.test", None, "a valid number"),
        ("split.val", float("nan"), "a finite number"),
        ("split.train", 0, "greater than 0"),
        ("split.train", 2.5, "a valid integer"),
        ("split.train", "all", "a valid integer"),
        ("split.folds", 1, "greater than or equal to 2"),
        ("split.folds", 101, "less than or equal to 100"),
        ("split.folds", 2.0, "a valid integer"),
        ("split.folds", "five", "a valid integer"),
        ("split.fold", -1, "greater than or equal to 0"),
        ("split.fold", None, "a valid integer"),
        ("split.prescribed", "no", "a valid boolean"),
        ("split.prescribed", 1, "a valid boolean"),
        ("split.leaks", "kept", "'drop', 'fail' or 'keep'"),
        ("split.leaks", None, "'drop', 'fail' or 'keep'"),
        ("filter.near_duplicate_bits", 7, "less than or equal to 6"),
        ("filter.near_duplicate_bits", -1, "greater than or equal to 0"),
        ("filter.near_duplicate_bits", "4", "a valid integer"),
        ("filter.near_duplicate_bits", 4.0, "a valid integer"),
        ("filter.near_duplicates", "drop", "'keep' or 'keep_one'"),
        ("filter.near_duplicates", None, "'keep' or 'keep_one'"),
        ("images.normalise", "zscore", "'weights', 'half' or 'none'"),
        ("images.augment", 3, "a valid string"),
        ("images.shift", 0.6, "less than or equal to 0.5"),
        ("images.rotate", 0, "greater than 0"),
        ("features.precision", "64-true", "'auto', '32-true', 'bf16-mixed' or"),
        ("head.kind", "deep", "'linear', 'mlp', 'ridge' or 'logistic'"),
        ("head.dropout", 1.0, "less than 1"),
        ("train.optimizer", "lion", "'adam', 'adamw', 'rmsprop' or 'sgd'"),
        ("train.schedule", "step", "'constant', 'cosine', 'one-cycle' or 'plateau'"),
        ("train.label_smoothing", 1, "less than 1"),
        ("train.class_weights", True, "'none' or 'balanced'"),
        ("train.clip_norm", 0, "greater than 0"),
        ("train.accumulate", 0, "greater than 0"),
        ("train.validate_every", 0, "greater than 0"),
        ("train.patience", 0, "greater than 0"),
        ("train.plateau_patience", 0, "greater than 0"),
        ("train.log_checkpoints", "all", "'none', 'best' or 'every'"),
        ("device.devices", 0, "greater than 0"),
        ("acquire.allow_private", "yes", "a valid boolean"),
        ("acquire.respect_robots", None, "a valid boolean"),
        ("acquire.workers", 0, "greater than or equal to 1"),
        ("acquire.workers", 257, "less than or equal to 256"),
        ("acquire.workers", 8.0, "a valid integer"),
        ("acquire.per_host_per_second", -1, "greater than or equal to 0"),
        ("acquire.per_host_per_second", "fast", "a valid number"),
        ("acquire.max_missing_fraction", -0.1, "greater than or equal to 0"),
        ("acquire.max_missing_fraction", 1, "less than 1"),
        ("dataset.name", None, "a valid string"),
        ("train", 3, "a valid dictionary"),
    ],
)
def test_a_wrong_value_names_key_value_and_what_is_allowed(
    name: str, value: object, allowed: str
) -> None:
    start = f"params.yaml: {name} = {value!r}, but should be {allowed}"
    assert parse_error(change(name, value)).startswith(start)


@pytest.mark.parametrize(
    ("name", "value"),
    [("dataset.name", "../outside"), ("dataset.name", ""), ("dataset.source", "")],
)
def test_the_error_for_a_text_is_grammatical(name: str, value: str) -> None:
    message = parse_error(change(name, value))
    assert message.startswith(f"params.yaml: {name} = {value!r}, but should ")
    assert "should be String should" not in message


@pytest.mark.parametrize("name", ["train.lr", "train.target_accuracy", "split.seed", "head"])
def test_a_missing_key_is_named(name: str) -> None:
    values = deepcopy(VALID.model_dump())
    section, _, key = name.partition(".")
    del (values[section] if key else values)[key or section]
    assert parse_error(values) == f"params.yaml: {name} is missing"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"filter.min_side": 100, "filter.store_side": 99},
            "filter.min_side (100) must not exceed store_side (99)",
        ),
        (
            {"filter.min_side": 320, "filter.max_megapixels": 0.1},
            "filter.min_side = 320, but filter.max_megapixels = 0.1: every image is too small or "
            "too large; lower the first",
        ),
        (
            {"images.size": 448},
            "images.size = 448, but filter.store_side = 400: images would be stored smaller and "
            "then enlarged; set filter.store_side=512, or lower images.size",
        ),
        (
            {"images.size": 448, "images.resize": 480},
            "images.size = 448, but filter.store_side = 400: images would be stored smaller and "
            "then enlarged; set filter.store_side=480, or lower images.size",
        ),
        (
            {"images.resize": 401},
            "images.resize = 401, but filter.store_side = 400: images would be stored smaller and "
            "then enlarged; set filter.store_side=401, or lower images.resize",
        ),
        (
            {"filter.store_side": 40},
            "images.size = 224, but filter.store_side = 40: images would be stored smaller and "
            "then enlarged; set filter.store_side=256, or lower images.size",
        ),
        (
            {"split.val": 0.5, "split.test": 0.5},
            "split.val + split.test is 1, but should be below 1, or nothing trains",
        ),
        (
            {"split.val": 0.6, "split.test": 0.5},
            "split.val + split.test is 1.1, but should be below 1, or nothing trains",
        ),
        (
            {"split.val": 300, "split.test": 0.15},
            "split.val = 300 and split.test = 0.15: both should be shares, or both whole numbers "
            "of images per class",
        ),
        (
            {"split.val": 0.15, "split.test": 1},
            "split.val = 0.15 and split.test = 1: both should be shares, or both whole numbers "
            "of images per class",
        ),
        (
            {"split.train": 1000},
            "split.train = 1000 goes with whole numbers for split.val and split.test: set these, "
            "or split.train=null",
        ),
        (
            {"split.folds": 5, "split.fold": 5},
            "split.fold = 5 should be below split.folds = 5",
        ),
        (
            {"split.folds": 5, "split.val": 10, "split.test": 10},
            "split.folds = 5 needs shares: set split.val and split.test to shares such as 0.15, or "
            "split.folds=null",
        ),
        (
            {"images.augment": "none", "features.views": 4},
            "features.views is 4 while images.augment is none: "
            "set features.views=0, or images.augment=crop-flip",
        ),
        (
            {"images.augment": "flip-crop"},
            "images.augment = 'flip-crop', but should be none, or some of "
            "crop-shift-rotate-flip-trivial in this order, such as crop-flip",
        ),
        (
            {"images.augment": "crop-blur"},
            "images.augment = 'crop-blur', but should be none, or some of "
            "crop-shift-rotate-flip-trivial in this order, such as crop-flip",
        ),
        (
            {"images.augment": "crop-shift"},
            "images.augment = 'crop-shift': crop and shift exclude each other",
        ),
        (
            {"images.crop_area": [0.8, 0.5]},
            "images.crop_area = [0.8, 0.5], but should be two shares that grow, such as [0.5, 1.0]",
        ),
        (
            {"images.crop_ratio": [0.0, 1.0]},
            "images.crop_ratio = [0.0, 1.0], but should be two ratios that grow, such as "
            "[0.75, 1.3333]",
        ),
        (
            {"images.size": 64, "images.resize": 63},
            "images.resize = 63, but should be at least images.size = 64, or null",
        ),
        (
            {"train.schedule": "one-cycle", "train.warmup_epochs": 1.5},
            "train.warmup_epochs = 1.5, but one-cycle warms up by itself: set "
            "train.warmup_epochs=0",
        ),
        (
            {"train.epochs": 2, "train.warmup_epochs": 2.0},
            "train.warmup_epochs = 2, but should be below train.epochs = 2",
        ),
    ],
)
def test_values_that_exclude_each_other_are_refused(
    overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        with_overrides(VALID, overrides)
    assert str(caught.value) == f"params: {message}"


@pytest.mark.parametrize(
    "overrides",
    [
        {"images.size": 400, "images.resize": 400},
        {"images.size": 448, "filter.store_side": 512},
        {"images.size": 448, "images.resize": 480, "filter.store_side": 480},
        {"images.resize": 401, "filter.store_side": 401},
    ],
)
def test_images_may_be_as_large_as_they_are_stored(overrides: dict[str, object]) -> None:
    assert with_overrides(VALID, overrides).flat() == VALID.flat() | overrides


@pytest.mark.parametrize(
    ("overrides", "exact"),
    [
        ({"split.val": 0.1, "split.test": 0.2}, False),
        ({"split.val": 1, "split.test": 1}, True),
        ({"split.val": 150, "split.test": 150, "split.train": 1000}, True),
        ({"split.folds": 5, "split.fold": 4}, False),
        ({"split.folds": 2}, False),
    ],
)
def test_every_split_mode_is_valid(overrides: dict[str, object], exact: bool) -> None:
    params = with_overrides(VALID, overrides)
    assert params.split.is_exact is exact
    assert params.flat() == VALID.flat() | overrides


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"split.fold": 2}, "split.fold = 2, but split.folds is null, so there are no folds: set"),
        (
            {"filter.near_duplicates": "keep_one", "filter.near_duplicate_bits": None},
            "filter.near_duplicates = keep_one, but filter.near_duplicate_bits is null, so none",
        ),
    ],
)
def test_a_value_that_another_makes_useless_is_refused(
    overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        with_overrides(VALID, overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("augment", "parts"),
    [
        ("none", []),
        ("flip", ["flip"]),
        ("crop-rotate-flip", ["crop", "rotate", "flip"]),
        ("shift-rotate-flip-trivial", ["shift", "rotate", "flip", "trivial"]),
    ],
)
def test_augmentation_is_named_by_its_parts(augment: str, parts: list[str]) -> None:
    overrides = {"images.augment": augment, "features.views": 0}
    assert with_overrides(VALID, overrides).images.parts == parts


def test_no_augmentation_goes_with_no_views() -> None:
    params = with_overrides(VALID, {"images.augment": "none", "features.views": 0})
    assert params.features.views == 0


@pytest.mark.parametrize("values", [None, [], "train", 3])
def test_a_file_without_sections_is_refused(values: object) -> None:
    assert parse_error(values).startswith(f"params.yaml: the file = {values!r}, but should be ")


@pytest.mark.parametrize(
    "content",
    [b"train: [1, 2", b"train:\n\tlr: 1\n", b"a: 1\na: 2\n", b"a: \xff\xfe\n", b"a: \x00\n"],
    ids=["unclosed", "tab", "key twice", "not UTF-8", "null byte"],
)
def test_the_error_for_bad_yaml_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path} is not YAML: ")
    assert "\n" not in str(caught.value)


def test_the_error_for_a_missing_file_names_the_folder_to_run_in(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"params\.yaml is missing: run this in the project's"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("train.lr", "1e-3", 0.001),
        ("train.lr", "1", 1.0),
        ("train.target_accuracy", "", None),
        ("train.target_accuracy", "null", None),
        ("model.weights", "no", "no"),
        ("acquire.allow_private", "true", True),
        ("acquire.per_host_per_second", "null", None),
        ("acquire.per_host_per_second", "0", 0.0),
        ("split.val", "0.1", 0.1),
        ("split.folds", "5", 5),
        ("filter.near_duplicate_bits", "null", None),
    ],
)
def test_a_file_is_parsed_as_yaml_1_2(tmp_path: Path, name: str, text: str, value: object) -> None:
    marker = 0.123456 if name == "train.lr" else "MARKER"
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(change(name, marker)).replace(json.dumps(marker), text))
    read = load_params(path).flat()[name]
    assert read == value
    assert type(read) is type(value)


def test_a_whole_number_in_a_file_stays_an_int(tmp_path: Path) -> None:
    values = change("split.val", 300)
    values["split"]["test"] = 200
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(values))
    params = load_params(path).split
    assert (params.val, params.test) == (300, 200)
    assert type(params.val) is type(params.test) is int


def test_values_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        VALID.train.epochs = 3


def test_flat_has_every_value_by_dotted_name() -> None:
    flat = VALID.flat()
    assert flat["train.lr"] == VALID.train.lr
    assert flat["dataset.name"] == VALID.dataset.name
    assert len(flat) == sum(len(section) for section in VALID.model_dump().values())


OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "train.lr": st.floats(1e-8, 10),
        "train.epochs": st.integers(1, 10_000),
        "train.target_accuracy": st.none() | st.floats(0.01, 1),
        "train.optimizer": st.sampled_from(["adam", "adamw", "rmsprop", "sgd"]),
        "split.seed": st.integers(0, 2**31 - 1),
        "split.val": st.floats(0.01, 0.45),
        "split.test": st.floats(0.01, 0.45),
        "split.prescribed": st.booleans(),
        "split.folds": st.none() | st.integers(2, 100),
        "split.fold": st.just(0),
        "split.leaks": st.sampled_from(["drop", "fail"]),
        "filter.near_duplicate_bits": st.integers(0, 6),
        "filter.near_duplicates": st.sampled_from(["keep", "keep_one"]),
        "features.views": st.integers(0, 100),
        "dataset.source": st.text(
            st.characters(codec="utf-8", exclude_characters="'\n"), min_size=1
        ),
        "images.augment": st.just("crop-flip"),
    },
)


@settings(derandomize=True, max_examples=50)
@given(OVERRIDES)
def test_overrides_change_only_the_named_values(overrides: dict[str, object]) -> None:
    base = with_overrides(VALID, {"images.augment": "crop-flip"})
    assert with_overrides(base, overrides).flat() == base.flat() | overrides


@settings(derandomize=True, max_examples=50)
@given(OVERRIDES)
def test_flat_values_are_overrides_that_give_the_same_params(
    overrides: dict[str, object],
) -> None:
    params = with_overrides(VALID, {"images.augment": "crop-flip"} | overrides)
    assert with_overrides(VALID, params.flat()) == params


def test_an_override_of_an_unknown_key_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"train\.rate = 1 is not a known key"):
        with_overrides(VALID, {"train.rate": 1})


def test_dvc_changes_only_the_value_in_the_shipped_file(tmp_path: Path) -> None:
    shipped = (ROOT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(shipped)
    apply_overrides(path, ["train.lr=0.003"])
    assert path.read_text() == shipped.replace("  lr: 0.001\n", "  lr: 0.003\n") != shipped
