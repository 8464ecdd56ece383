from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.images.pixels import Grey
from pipeline.stages.filter.near_duplicates import candidates, copies
from pipeline.stages.filter.near_duplicates.appearance import describe
from pipeline.stages.filter.near_duplicates.components import Components, Ints
from pipeline.stages.filter.near_duplicates.copies import Lookup, link_copies
from tests.builders.photographs import ALTERATIONS, caption, crop, draw_photograph, mirror

HERE = Path()  # small tests write no file


def remember(images: list[Grey]) -> tuple[pa.Array, Lookup]:
    """Ids of images, which are their positions, and what is remembered of them."""
    rows = [
        vars(describe(np.ascontiguousarray(image)))
        | {"width": image.shape[1], "height": image.shape[0]}
        for image in images
    ]
    names = ["patch_hashes", "patch_places", "thumbnail"]
    fields = [(name, pa.binary()) for name in names] + [
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
    batch = pa.RecordBatch.from_pylist(rows, schema=pa.schema(fields))

    def lookup(ids: pa.Array, columns: list[str]) -> pa.RecordBatch:
        return batch.select(columns).take(pa.array([int(key) for key in ids.to_pylist()]))

    return pa.array([str(number) for number in range(len(images))]), lookup


def group(images: list[Grey], ranks: Ints | None = None) -> list[int]:
    """The first member of each image's group."""
    ids, lookup = remember(images)
    components = Components(np.arange(len(images)))
    order = np.arange(len(images)) if ranks is None else ranks
    link_copies(ids, np.arange(len(images)), order, lookup, HERE, components)
    names = components.groups().tolist()
    return [names.index(name) for name in names]


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_copy_has_the_group_of_its_original(alteration: str) -> None:
    originals = [draw_photograph(seed) for seed in range(8)]
    altered = [ALTERATIONS[alteration](image) for image in originals]
    assert group([*originals, *altered]) == [*range(8), *range(8)]


def test_portraits_and_squares_are_found_too() -> None:
    originals = [draw_photograph(0, 200, 150), draw_photograph(1, 160, 160)]
    assert group([*originals, *map(crop(5), originals)]) == [0, 1, 0, 1]


def test_distinct_images_have_no_group() -> None:
    images = [draw_photograph(seed) for seed in range(60)]
    assert group(images) == [*range(60)]


def test_copies_of_copies_are_one_group() -> None:
    image = draw_photograph(5)
    assert group([image, crop(8)(image), mirror(crop(8)(image)), caption(image)]) == [0] * 4


def test_groups_do_not_depend_on_the_order_of_images_or_on_the_size_of_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    originals = [draw_photograph(seed) for seed in range(10)]
    images = originals + [
        alter(image) for image, alter in zip(originals, ALTERATIONS.values(), strict=False)
    ]
    ranks = np.random.default_rng(0).permutation(len(images))
    expected = group(images, ranks)
    order = np.random.default_rng(1).permutation(len(images))
    for module, name in ((copies, "READ"), (copies, "COMPARED"), (candidates, "PART")):
        monkeypatch.setattr(module, name, 3)
    shuffled = group([images[row] for row in order], ranks[order])
    first = {int(row): position for position, row in enumerate(order)}
    assert [expected[row] == expected[other] for row in order for other in order] == [
        shuffled[first[int(row)]] == shuffled[first[int(other)]] for row in order for other in order
    ]
    assert expected == [*range(10), *range(9)]


def test_images_that_are_linked_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_photograph(0)
    ids, lookup = remember([image, crop(5)(image)])
    components = Components(np.zeros(2, np.int64))
    monkeypatch.setattr(copies, "coincide", None)
    link_copies(ids, np.arange(2), np.arange(2), lookup, HERE, components)
    assert len(set(components.groups().tolist())) == 1


def test_images_without_an_appearance_are_passed_over() -> None:
    plain = np.full((100, 100), 128, np.uint8)
    image = draw_photograph(0)
    assert group([plain, image, plain, crop(5)(image), image[:40]]) == [0, 1, 2, 1, 4]


def test_no_images_have_no_groups() -> None:
    assert group([]) == []
