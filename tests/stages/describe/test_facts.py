import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.core import csv_table, shards
from pipeline.core.errors import PipelineError
from pipeline.core.skipped_csv import MEANING, SkippedRow
from pipeline.core.split_csv import LeakRow, SplitRow, read_split, write_leaks, write_split
from pipeline.core.terminal import printable, printable_lines
from pipeline.core.verdicts_csv import VerdictRow
from pipeline.images import gallery
from pipeline.images.header import RejectReason
from pipeline.params import Params, load_params, with_overrides
from pipeline.stages.acquire.raw_image import RawImage, SkipReason
from pipeline.stages.describe import __main__ as describe
from pipeline.stages.describe import facts, page, page_images
from pipeline.stages.describe.facts import COLUMNS, LEFT_OUT, REJECTED, TOTAL, Bin, Data, SizeRange
from pipeline.stages.filter import __main__ as filtering
from pipeline.stages.filter.verdicts import judge_images
from tests import ROOT
from tests.builders.verdicts import read_verdicts
from tests.html_page import Figure, Page, size

SPLITS = ("train", "val", "test")
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "it's [bold]bold[/bold]",
    "[/]",
    "two\nlines",
    "żółw 日本語 🚲",
    ":car:",
    "tail\\",
    "{{ 7 * 7 }}",
    "red\x1b[31m",
    "back\x9b2J",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a params.yaml; the terminal is wide."""
    overrides = {
        "filter.min_side": 32,
        "filter.max_megapixels": 1,
        "filter.store_side": 64,
        "images.size": 32,
        "filter.near_duplicate_bits": 4,
        "filter.max_reject_fraction": 0.99,
    }
    params = with_overrides(load_params(ROOT / "params.yaml"), overrides)
    (tmp_path / "params.yaml").write_text(json.dumps(params.model_dump()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "flowers").mkdir()
    with joblib.parallel_config("threading"):  # processes would take a second to start
        yield tmp_path


def noise(seed: int, height: int = 40, width: int = 48) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encode(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def scene(seed: int, scale: float = 1.0) -> bytes:
    """Soft random shapes; at every scale a near-duplicate of itself."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (256, 192), interpolation=cv2.INTER_CUBIC)
    size = (round(64 * scale), round(48 * scale))
    return cv2.imencode(".png", cv2.resize(smooth, size, interpolation=cv2.INTER_AREA))[1].tobytes()


def image(name: str, data: bytes, licence: str | None = "CC0-1.0", **facts: Any) -> RawImage:
    return RawImage(name, name.rsplit("/", 1)[0], data, licence=licence, **facts)


def good(count: int = 6, seed: int = 0) -> list[RawImage]:
    """Good images, of two classes in turn."""
    names = (f"{'rose' if n % 2 else 'tulip'}/{seed + n}.png" for n in range(count))
    return [image(name, encode(noise(seed + n))) for n, name in enumerate(names)]


def key(picture: RawImage) -> str:
    return str(picture.row()["id"])


def run(
    project: Path,
    pictures: Sequence[RawImage],
    left_out: Sequence[RawImage] = (),
    leaks: Sequence[LeakRow] = (),
    skipped: Sequence[SkippedRow] = (),
) -> Page:
    """The page of these images; the accepted ones are put into the splits in turn."""
    shards.write(project / "raw", shards.RAW, [picture.row() for picture in pictures])
    paths = [Path(name) for name in ("flowers", "raw", "clean", "verdicts.csv")]
    filtering.main(*paths)
    clean = shards.columns(project / "clean", ["id", "label"]).to_pylist()
    without = {key(picture) for picture in left_out}
    used = [row for row in clean if row["id"] not in without]
    rows = [SplitRow(row["id"], row["label"], SPLITS[n % 3], "") for n, row in enumerate(used)]
    write_split(project / "split.csv", sorted(rows, key=attrgetter("id")))
    write_leaks(project / "leaks.csv", leaks)
    csv_table.write(project / "skipped.csv", SkippedRow, skipped)
    return describe_again(project)


def describe_again(project: Path) -> Page:
    tables = ("verdicts.csv", "split.csv", "leaks.csv", "skipped.csv")
    names = ("flowers", "raw", "clean", *tables, "data.html")
    describe.main(*(Path(name) for name in names))
    return Page((project / "data.html").read_text(encoding="utf-8"))


def expected_counts(project: Path) -> dict[str, Counter[str]]:
    """The counts that the page should print, from the tables under data/."""
    split_of = {row.id: row.split for row in read_split(project / "split.csv")}
    counts_by_class: dict[str, Counter[str]] = {}
    for row in read_verdicts(project / "verdicts.csv"):
        column = split_of.get(row.id, LEFT_OUT) if row.is_kept else REJECTED
        counts_by_class.setdefault(row.label, Counter()).update([column, TOTAL])
    return counts_by_class


def assert_counts(doc: Page, project: Path) -> None:
    """Check that the counts on the page match the tables and add up."""
    head, *rows = doc.tables["Classes"]
    assert head == ["class", *COLUMNS]
    expected = expected_counts(project)
    assert {label: list(map(int, numbers)) for label, *numbers in rows} == {
        printable_lines(label): [count[column] for column in COLUMNS]
        for label, count in expected.items()
    }
    assert [label for label, *_ in rows] == list(map(printable_lines, sorted(expected)))
    for _, *numbers in rows:
        *parts, total = map(int, numbers)
        assert sum(parts) == total
    verdicts = read_verdicts(project / "verdicts.csv")
    assert sum(int(row[-1]) for row in rows) == len(verdicts)
    reasons = Counter(row.reason for row in verdicts if row.reason)
    table = doc.tables.get("Rejected", [["reason", "images", "what it means"]])
    assert {reason: int(count) for reason, count, _ in table[1:]} == dict(reasons)
    assert all(meaning for _, _, meaning in table)


def cut(seed: int) -> bytes:
    data = encode(noise(seed, 60, 60), "JPEG")
    return data[: len(data) * 2 // 3]


def bad() -> list[RawImage]:
    """Images with most of the reject reasons; one copies an image of `good`."""
    return [
        image("rose/empty.jpg", b""),
        image("rose/page.jpg", b"<html>404</html>"),
        image("rose/cut.jpg", cut(50)),
        image("tulip/cut too.jpg", cut(51)),
        image("rose/header.jpg", b"\xff\xd8\xff"),
        image("rose/icon.ico", encode(noise(52), "ICO")),
        image("rose/vast.png", encode(noise(53, 1001, 1000))),
        image("tulip/small.png", encode(noise(54, 20, 20))),
        image("tulip/blank.png", encode(Image.new("RGB", (40, 40), (9, 9, 9)))),
        image("tulip/copy.png", good()[0].data),
        image("rose/both.png", encode(noise(55))),
        image("tulip/both.png", encode(noise(55))),
    ]


def captions(figures: Sequence[Figure]) -> str:
    return " | ".join(figure.caption for figure in figures)


def test_every_raw_image_is_counted_once(project: Path) -> None:
    pictures = [*good(), *bad(), *good(3, 20)]
    doc = run(project, pictures, left_out=[pictures[0]])
    assert_counts(doc, project)
    assert expected_counts(project)["tulip"][LEFT_OUT] == 1


def test_the_filter_refuses_a_class_without_accepted_images(project: Path) -> None:
    lost = r"^every image of class 'weed' is rejected \(1 empty, 1 not_an_image\): see .*verdicts"
    with pytest.raises(PipelineError, match=lost):
        run(project, [*good(), image("weed/1.png", b""), image("weed/2.png", b"text")])


def verdict(key: str, label: str, reason: str = "") -> VerdictRow:
    return VerdictRow(key, key, label, "", "reject" if reason else "keep", reason, "", "")


def count_all(verdicts: Sequence[VerdictRow], splits: Sequence[SplitRow] = ()) -> facts.ImageCounts:
    data = Data(lambda: verdicts, pa.table({}), lambda: splits, [], 0, {})
    return facts.count_images(data)


VERDICT = st.tuples(
    st.sampled_from("ab<"),
    st.sampled_from([*SPLITS, LEFT_OUT, *(reason.value for reason in RejectReason)]),
)


@settings(derandomize=True, max_examples=60)
@given(st.lists(VERDICT, min_size=1, max_size=40))
def test_counts_add_up_for_any_verdicts(drawn: list[tuple[str, str]]) -> None:
    verdicts, split_of = [], {}
    for number, (label, where) in enumerate(drawn):
        is_accepted = where in (*SPLITS, LEFT_OUT)
        if where in SPLITS:
            split_of[str(number)] = where
        verdicts.append(verdict(str(number), label, "" if is_accepted else where))
    labels = {row.id: row.label for row in verdicts}
    splits = [SplitRow(key, labels[key], split, "") for key, split in split_of.items()]
    by_label = count_all(verdicts, splits).classes
    assert sum(by_label.values(), Counter()).total() == 2 * len(drawn)
    for label, count in by_label.items():
        assert sum(count[column] for column in COLUMNS[:-1]) == count[TOTAL]
        for column in (*SPLITS, LEFT_OUT):
            assert count[column] == drawn.count((label, column))
    rejected = facts.rejected_by_reason(verdicts, 40)
    assert sum(map(len, rejected.values())) == sum(count[REJECTED] for count in by_label.values())
    assert list(rejected) == [reason for reason in RejectReason if reason in rejected]


def test_every_rejected_image_is_shown_or_named(project: Path) -> None:
    doc = run(project, [*good(), *bad()])
    invisible = {
        "empty": ["rose/empty.jpg"],
        "not_an_image": ["rose/page.jpg"],
        "unsupported": ["rose/icon.ico"],
        "too_many_pixels": ["rose/vast.png"],
        "damaged": ["rose/header.jpg"],
    }
    visible = {
        "damaged": ["cut.jpg", "cut too.jpg"],
        "too_small": ["small.png"],
        "blank": ["blank.png"],
        "duplicate": ["copy.png"],
        "conflicting_labels": ["both.png", "both.png"],
    }
    for reason in invisible.keys() | visible.keys():
        figures, names = doc.below(reason), visible.get(reason, [])
        assert len(figures) == len(names)
        assert all(size(figure.picture) for figure in figures)
        assert all(name in figure.caption for name, figure in zip(names, figures, strict=True))
        text = doc.text_of.get(reason, "")
        assert ("Without a picture" in text) is (reason in invisible)
        assert all(name in text for name in invisible.get(reason, []))
    (copy,) = doc.below("duplicate")
    assert f"same as {good()[0].name}" in copy.caption


def test_an_image_rejected_by_hand_is_shown_with_the_reason(project: Path) -> None:
    lines = f'id,why\n{key(good()[1])},"a <b>, not a rose"\n'
    (project / "flowers/reject.csv").write_text(lines)
    doc = run(project, good())
    (figure,) = doc.below("by_hand")
    assert size(figure.picture) == (40, 48)
    assert "rose · a <b>, not a rose" in figure.caption


def test_relabelled_images_are_counted_by_both_labels(project: Path) -> None:
    pictures = good()
    rose = next(picture for picture in pictures if picture.label == "rose")
    (project / "flowers/relabel.csv").write_text(f"id,label,why\n{key(rose)},tulip,a look\n")
    doc = run(project, pictures)
    assert doc.tables["Relabelled"][1:] == [["rose", "tulip", "1"]]
    assert_counts(doc, project)


def test_a_page_without_rejects_prints_none(project: Path) -> None:
    doc = run(project, good())
    assert_counts(doc, project)
    assert doc.text_of["Rejected"].strip() == "None."
    assert "Rejected" not in doc.tables
    assert "leaks" not in doc.ids


def test_warnings_are_counted_and_explained(project: Path) -> None:
    doc = run(project, [*good(), image("rose/wrong.jpg", encode(noise(90)))])
    warnings = doc.tables["Warnings about accepted images"][1:]
    assert [(name, count) for name, count, _ in warnings] == [("wrong_extension", "1")]


def test_each_class_has_samples(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_images, "MAX_SAMPLES", 2)
    doc = run(project, good(9))
    for label in ("rose", "tulip"):
        sample_keys = sorted(key(picture) for picture in good(9) if picture.label == label)[:2]
        assert [figure.caption[-12:] for figure in doc.below(label)] == [
            k[:12] for k in sample_keys
        ]
        assert all(size(figure.picture) == (40, 48) for figure in doc.below(label))


# ---- near-duplicates, leaks, licences ----


def alike(seed: int, *labels: str) -> list[RawImage]:
    names = (f"{label}/{seed}_{n}.png" for n, label in enumerate(labels))
    return [image(name, scene(seed, 1 + n / 8)) for n, name in enumerate(names)]


def test_groups_under_two_labels_are_flagged_and_first(project: Path) -> None:
    agreeing, conflicting = alike(1, "rose", "rose", "rose"), alike(2, "rose", "tulip")
    doc = run(project, [*agreeing, *good(), *conflicting])
    assert doc.groups == ["group two", "group"]
    first, second = ([f for f in doc.figures if f.group == n] for n in (1, 2))
    assert {figure.caption[-12:] for figure in first} == {
        key(picture)[:12] for picture in conflicting
    }
    assert {figure.caption[-12:] for figure in second} == {
        key(picture)[:12] for picture in agreeing
    }
    assert {word for figure in first for word in figure.caption.split()[:1]} == {"rose", "tulip"}


def test_larger_groups_come_first(project: Path) -> None:
    doc = run(
        project,
        [*alike(1, *["rose"] * 2), *alike(2, *["rose"] * 4), *good(), *alike(3, *["rose"] * 3)],
    )
    groups = Counter(figure.group for figure in doc.figures if figure.group)
    assert groups == {1: 4, 2: 3, 3: 2}


def test_a_page_without_near_duplicates_prints_none(project: Path) -> None:
    doc = run(project, good())
    assert doc.groups == []
    assert "None among the accepted images" in doc.text_of["Near-duplicates"]


def test_leaks_are_listed(project: Path) -> None:
    gone, stays = good()[:2]
    leak = LeakRow(
        key(gone),
        gone.name,
        gone.label,
        "train",
        "near_duplicate",
        key(stays),
        stays.name,
        "test",
    )
    doc = run(project, good(), left_out=[gone], leaks=[leak])
    assert doc.tables["Leaks"][1:] == [[gone.name, "train", "near_duplicate", stays.name, "test"]]


def test_licences_are_counted_the_most_frequent_first(project: Path) -> None:
    extra = [image(f"rose/x{n}.png", encode(noise(60 + n)), None) for n in range(2)]
    doc = run(project, [*good(), *extra, image("rose/y.png", encode(noise(70)), "<i>Mine</i>")])
    assert doc.tables["Licences"][1:] == [
        ["CC0-1.0", "6"],
        ["none stated", "2"],
        ["<i>Mine</i>", "1"],
    ]


# ---- limits of the page ----


def test_the_page_counts_the_images_that_it_leaves_out(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_images, "MAX_REJECTED", 2)
    monkeypatch.setattr(page_images, "MAX_GROUPS", 1)
    monkeypatch.setattr(page_images, "MAX_PER_GROUP", 2)
    monkeypatch.setattr(page, "MAX_LEAKS", 3)
    small = [image(f"rose/s{n}.png", encode(noise(80 + n, 20, 20))) for n in range(5)]
    groups = [*alike(1, *["rose"] * 4), *alike(2, *["rose"] * 2), *alike(3, *["rose"] * 2)]
    leaks = [
        LeakRow(str(n), f"l{n}", "rose", "train", "duplicate", "s", "stays", "test")
        for n in range(4)
    ]
    doc = run(project, [*good(), *small, *groups], leaks=leaks)
    assert_counts(doc, project)
    assert len(doc.below("too_small")) == 2
    assert "And 3 more" in doc.text_of["too_small"]
    assert len(doc.groups) == 1
    assert len([figure for figure in doc.figures if figure.group]) == 2
    assert "and 2 more" in doc.text_of["Near-duplicates"]
    assert "And 2 more groups" in doc.text_of["Near-duplicates"]
    assert len(doc.tables["Leaks"]) == 1 + 3
    assert "And 1 more" in doc.text_of["Leaks"]


def test_a_page_that_leaves_nothing_out_counts_no_more(project: Path) -> None:
    doc = run(project, [*good(), *bad(), *alike(1, "rose", "rose")])
    assert "more" not in " ".join(doc.text_of.values())


def test_of_many_classes_the_largest_and_the_smallest_are_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "MAX_CLASSES", 4)
    monkeypatch.setattr(page_images, "MAX_SAMPLE_CLASSES", 3)
    monkeypatch.setattr(page_images, "MAX_ALL_SAMPLES", 7)
    monkeypatch.setattr(describe, "MAX_CLASSES", 2)
    sizes = {"a": 2, "b": 5, "c": 3, "d": 6, "e": 1, "f": 4}
    pictures = [
        image(f"{label}/{n}.png", encode(noise(100 * number + n)))
        for number, (label, size) in enumerate(sizes.items())
        for n in range(size)
    ]
    doc = run(project, pictures)
    rows = [(row[0], int(row[-1])) for row in doc.tables["Classes"][1:]]
    assert rows == [("a", 2), ("b", 5), ("d", 6), ("e", 1)]
    assert "And 2 more classes: these are the largest and the smallest." in doc.text_of["Classes"]
    assert {label: len(doc.below(label)) for label in sizes if doc.below(label)} == {
        "b": 2,
        "d": 2,
        "e": 1,
    }
    assert "3 more classes have no samples here." in doc.text_of["e"]
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = lines[[line[0] for line in lines].index("class") + 1 :]
    assert [(row[0], row[-1]) for row in table[:4]] == [
        ("d", "6"),
        ("e", "1"),
        ("4", "14"),  # "4 more classes"
        ("all", "21"),
    ]


@pytest.mark.parametrize(("count", "most"), [(4, 4), (5, 4), (9, 4), (9, 5), (3, 1), (0, 2)])
def test_selected_classes_are_of_both_ends_and_in_order(count: int, most: int) -> None:
    counts = {f"{n}": Counter({TOTAL: (7 * n) % 10 + 1}) for n in range(count)}
    classes = facts.select_classes(counts, most)
    assert len(classes) == min(count, most)
    assert classes == sorted(classes)
    by_size = sorted(counts, key=lambda label: counts[label][TOTAL])
    half = most // 2
    expected = {*by_size} if count <= most else {*by_size[:half], *by_size[count - (most - half) :]}
    assert {*classes} == expected


@pytest.mark.parametrize("part", ["SAMPLE_BYTES", "REJECTED_BYTES", "GROUP_BYTES"])
def test_pictures_of_a_part_have_limited_bytes(
    project: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heading = {"SAMPLE_BYTES": "rose", "REJECTED_BYTES": "too_small"}
    small = [image(f"rose/s{n}.png", encode(noise(80 + n, 20, 20))) for n in range(5)]
    pictures = [*good(), *small, *alike(1, "rose", "rose"), *alike(2, "rose", "rose")]
    whole = run(project, pictures)
    monkeypatch.setattr(page_images, part, 2000)
    doc = describe_again(project)
    if part == "GROUP_BYTES":
        assert (len(whole.groups), len(doc.groups)) == (2, 1)
        assert "And 1 more group" in doc.text_of["Near-duplicates"]
    else:
        assert len(doc.below(heading[part])) >= 1
        assert len(doc.figures) < len(whole.figures)
    if part == "REJECTED_BYTES":
        left = 5 - len(doc.below("too_small"))
        assert f"And {left} more" in doc.text_of["too_small"]
    assert_counts(doc, project)


def test_the_rarest_licences_of_many_are_counted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MAX_LICENCES", 2)
    licences = ["a", "b", "b", "", None, "c", "d"]
    doc = run(
        project,
        [image(f"rose/{n}.png", encode(noise(n)), licence) for n, licence in enumerate(licences)],
    )
    assert doc.tables["Licences"][1:] == [["b", "2"], ["none stated", "2"]]
    assert "And 3 more licences." in doc.text_of["Licences"]


def test_near_duplicates_say_in_what_they_differ(project: Path) -> None:
    first, second = scene(3), scene(3, 1.5)
    larger = [image("rose/a.png", first), image("tulip/b.png", second)]
    other = cv2.imdecode(np.frombuffer(scene(4), np.uint8), cv2.IMREAD_COLOR)
    assert other is not None
    brighter = cv2.imencode(".png", cv2.add(other, np.full_like(other, 2)))[1].tobytes()
    same = [image("rose/c.png", scene(4)), image("rose/d.png", brighter)]
    run(project, [*larger, *same, *good()])
    rows = read_split(project / "split.csv")
    ids = {key(picture) for picture in same}
    write_split(
        project / "split.csv", [replace(row, split="val") if row.id in ids else row for row in rows]
    )
    doc = describe_again(project)
    text = doc.text_of["Near-duplicates"]
    assert re.search(r"Different: label,( split,)? size", text)
    assert "Same label, split and size" in text
    words = " ".join(figure.caption for figure in doc.figures if figure.group)
    assert set(re.findall(r"\d+ x \d+", words)) == {"64 x 48", "85 x 64"}  # as stored


def test_no_folder_of_the_machine_is_on_the_page(project: Path) -> None:
    params = json.loads((project / "params.yaml").read_text())
    params["dataset"]["source"] = "/odd/folder of ann/photos.zip"
    run(project, good())
    (project / "params.yaml").write_text(json.dumps(params))
    describe_again(project)
    html = (project / "data.html").read_text(encoding="utf-8")
    assert "From <code>photos.zip</code>" in html
    assert "/odd" not in html
    assert str(project) not in html


# ---- sizes ----


def clean_of(*sides: tuple[int, int]) -> pa.Table:
    width, height = zip(*sides, strict=True)
    return pa.table({"width": pa.array(width, pa.int32()), "height": pa.array(height, pa.int32())})


@settings(derandomize=True, max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1, max_size=30))
def test_every_image_is_in_one_bin(sides: list[tuple[int, int]]) -> None:
    bins = facts.shorter_side_histogram(clean_of(*sides))
    assert 1 <= len(bins) <= facts.MAX_BINS
    assert sum(bin.count for bin in bins) == len(sides)
    for bin in bins:
        low, _, high = bin.range.partition(" to ")
        pixels = range(int(low), int(high or low) + 1)
        assert bin.count == sum(min(side) in pixels for side in sides)
    assert max(bin.percent for bin in bins) == 100


@pytest.mark.parametrize("count", [1, 5])
def test_images_of_one_size_are_one_bin(count: int) -> None:
    clean = clean_of(*[(48, 40)] * count)
    assert facts.shorter_side_histogram(clean) == [Bin("40", count, 100.0)]
    assert facts.size_ranges(clean) == [
        SizeRange("width", 48, 48, 48),
        SizeRange("height", 40, 40, 40),
    ]


def test_a_page_of_one_image_is_a_page(project: Path) -> None:
    doc = run(project, good(1))
    assert_counts(doc, project)
    assert doc.tables["Shorter side"] == [["40", "", "1"]]
    assert doc.tables["Sizes"][1:] == [
        ["width", "48", "48", "48"],
        ["height", "40", "40", "40"],
    ]


# ---- what was not acquired ----


def test_what_was_not_acquired_is_counted_by_reason_with_examples(project: Path) -> None:
    gone = [SkippedRow(f"{n}.jpg", "rose" if n % 2 else "", "", "gone") for n in range(30)]
    doc = run(project, good(), skipped=[*gone, SkippedRow("<a>/b.jpg", "", "", "robots")])
    assert doc.tables["Not acquired"] == [
        ["reason", "items", "classes", "what it means"],
        ["gone", "30", "1", "deleted: status 404 or 410, or Flickr's placeholder"],
        ["robots", "1", "–", "its server forbids machine learning"],
    ]
    text = " ".join(doc.text_of["Not acquired"].split())
    assert "19.jpg and 10 more." in text
    assert "robots: <a>/b.jpg." in text
    assert_counts(doc, project)


def test_a_source_without_a_loss_has_no_part_about_it(project: Path) -> None:
    assert "skipped" not in run(project, good()).ids


def test_every_reason_of_acquire_has_a_meaning() -> None:
    assert MEANING.keys() == {reason.value for reason in SkipReason}


# ---- hostile text ----


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_and_labels_are_escaped(project: Path, hostile: str) -> None:
    label = hostile.replace("/", "-")
    datas = [encode(noise(1)), encode(noise(2)), b"text", scene(1), scene(1, 1.2)]
    strange = [
        RawImage(f"{label}/{n}{hostile}.png", label, data, licence=hostile)
        for n, data in enumerate(datas)
    ]
    leak = LeakRow(key(strange[0]), hostile, label, "train", "duplicate", "s", hostile, "test")
    skipped = SkippedRow(hostile, hostile, hostile, "missing")
    doc = run(project, [*good(), *strange], leaks=[leak], skipped=[skipped])
    assert_counts(doc, project)
    html = (project / "data.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img src=x" not in html
    visible = printable_lines(hostile)
    assert visible in [name for name, _ in doc.tables["Licences"]]
    assert doc.tables["Leaks"][1][0] == visible
    assert f"2{visible}.png" in doc.text_of["not_an_image"]
    assert html.replace("\n", "").isprintable()
    assert len(doc.groups) == 1


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_labels_leave_the_printed_table_intact(
    hostile: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    verdicts = [verdict(str(n), label) for n, label in enumerate(sorted(["plain", hostile]))]
    splits = [
        SplitRow(row.id, row.label, split, "")
        for row, split in zip(verdicts, ["train", "val"], strict=True)
    ]
    describe.print_summary(count_all(verdicts, splits))
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert printable(hostile) in out
    rows = [line.split() for line in out.splitlines()]
    assert [row[-6:] for row in rows if row[-1:] == ["1"]] == [
        ["1", "0", "0", "0", "0", "1"],
        ["0", "1", "0", "0", "0", "1"],
    ]
    assert rows[-1] == ["all", "1", "1", "0", "0", "0", "2"]


def test_a_summary_is_printed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(project, [*good(), *bad()])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for label, count in expected_counts(project).items():
        assert [label, *(str(count[column]) for column in COLUMNS)] in lines
    assert ["all", "2", "2", "2", "0", "12", "18"] in lines
    assert ["damaged", "3"] in lines
    assert ["describe:", "data.html"] in lines


def test_without_rejects_there_is_no_table_of_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = [verdict("1", "a")]
    describe.print_summary(count_all(verdicts))
    assert "rejected for" not in capsys.readouterr().out
    verdicts.append(verdict("2", "a", "empty"))
    describe.print_summary(count_all(verdicts))
    assert "rejected for" in capsys.readouterr().out


# ---- the page as a file ----


def test_a_page_requests_nothing_and_is_the_same_in_a_second_run(project: Path) -> None:
    run(project, [*good(), *bad(), *alike(1, "rose", "tulip")])
    path = project / "data.html"
    first = path.read_bytes()
    describe_again(project)
    assert path.read_bytes() == first
    assert b"http://" not in first
    assert b"https://" not in first
    for path in (project / ".cache").rglob("*.arrow"):
        path.unlink()
    describe_again(project)
    assert (project / "data.html").read_bytes() == first


def test_the_page_of_the_striped_data_set_is_complete(
    dataset: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with joblib.parallel_config("threading"):
        verdicts = list(judge_images(dataset / "raw", {}, params.filter).rows())
        data = Data(
            lambda: verdicts,
            shards.columns(dataset / "clean", facts.CLEAN_COLUMNS),
            lambda: read_split(dataset / "split.csv"),
            [],
            0,
            {},
        )
        built = page.build_page(
            data,
            facts.count_images(data),
            page.Origin("sample", "", ""),
            [],
            dataset / "raw",
            dataset / "clean",
        )
    doc = Page(gallery.render("stages/describe/data.html", built))
    assert [row[0] for row in doc.tables["Classes"]] == ["class", "plain", "striped"]
    assert sum(int(row[-1]) for row in doc.tables["Classes"][1:]) == 48
    assert all(figure.picture for figure in doc.figures)
