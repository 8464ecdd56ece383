import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.images.pixels import Grey
from pipeline.stages.filter.near_duplicates.alignment import Pairs, Thumbnails, coincide
from tests.builders.photographs import caption, crop, draw_photograph, mirror

SAME = (1.0, 0.0, 1.0, 0.0)
Map = tuple[float, float, float, float]


def shrink(grey: Grey) -> Grey:
    scale = 48 / min(grey.shape)
    size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def pack(images: list[Grey]) -> Thumbnails:
    sizes = np.array([image.size for image in images])
    return Thumbnails(
        np.concatenate([image.ravel() for image in images]).astype(np.float32),
        np.cumsum(sizes) - sizes,
        np.array([len(image) for image in images]),
        np.array([image.shape[1] for image in images]),
    )


def tell(*pairs: tuple[Grey, Grey, Map]) -> npt.NDArray[np.bool_]:
    left, right, maps = zip(*pairs, strict=True)
    return coincide(
        Pairs(pack([shrink(i) for i in left]), pack([shrink(i) for i in right]), np.array(maps))
    )


def crop_map(percent: float) -> Map:
    """From an image of 48x64 to its crop, thumbnails both."""
    scale = 1 / (1 - percent / 50)
    return (scale, -64 * percent / 100 * scale, scale, -48 * percent / 100 * scale)


@pytest.mark.parametrize("seed", range(3))
def test_copies_coincide_although_the_map_is_only_roughly_right(seed: int) -> None:
    grey = draw_photograph(seed)
    wrong = np.array([0.03, 0.8, -0.03, -0.8])
    pairs = [
        (grey, grey, SAME),
        (grey, crop(10)(grey), crop_map(10)),
        (grey, mirror(grey), (-1.0, 64.0, 1.0, 0.0)),
        (grey, caption(grey), SAME),
        (grey, (grey * 0.7).astype(np.uint8), SAME),
    ]
    assert tell(*pairs).all()
    assert tell(*((left, right, tuple(map + wrong)) for left, right, map in pairs)).all()


def test_other_images_do_not_coincide() -> None:
    images = [draw_photograph(seed) for seed in range(8)]
    pairs = [(left, right, SAME) for left in images for right in images if left is not right]
    assert not tell(*pairs).any()


@pytest.mark.parametrize(
    "guess",
    [
        (1.0, 40.0, 1.0, 0.0),
        (1.0, 100.0, 1.0, 0.0),
        (3.0, -64.0, 3.0, -48.0),
        (1.0, 0.0, 1.5, -12.0),
        (-1.0, 64.0, 1.0, 0.0),
    ],
    ids=["little overlap", "no overlap", "too large", "stretched", "mirrored"],
)
def test_an_image_does_not_coincide_with_itself_by_an_impossible_map(guess: Map) -> None:
    grey = draw_photograph(0)
    assert not tell((grey, grey, guess)).any()


def test_images_without_texture_do_not_coincide() -> None:
    plain = np.full((150, 200), 90, np.uint8)
    plain[60:90, 80:120] = 200
    assert not tell((plain, plain, SAME)).any()


def test_each_pair_is_judged_by_itself() -> None:
    images = [draw_photograph(seed) for seed in range(5)]
    pairs = [(image, crop(5)(image), crop_map(5)) for image in images]
    pairs += [(images[0], image, SAME) for image in images[1:]]
    together = tell(*pairs)
    assert together.tolist() == [bool(tell(pair)[0]) for pair in pairs]
    assert together.tolist() == [True] * 5 + [False] * 4


def test_no_pairs_are_none() -> None:
    image = pack([draw_photograph(0)]).take(np.zeros(0, np.int64))
    assert coincide(Pairs(image, image, np.zeros((0, 4)))).shape == (0,)
