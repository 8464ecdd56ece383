"""Lay one image over another, and tell whether their details coincide.

A map takes a point of the left image to one of the right: (scale across, shift across, scale down,
shift down), in pixels of their thumbnails. A negative scale across mirrors.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.stages.filter.near_duplicates.components import Ints

BLOCKS = 8  # along a side of what both images show
COARSE, FINE = 24, 48  # points along a side: to align, and to compare
STEPS = 5  # of the alignment
HALFWAY = 2  # steps, after which hopeless pairs are given up
HOPELESS = 0.4  # correlation
MARGIN = 0.03  # of the sides of what both show, left out: a frame begins there
MIN_OVERLAP = 0.4  # of the area of either image
MAX_STRETCH = 1.3  # of one axis against the other
MAX_SCALE = 2.0
TRUSTED = 0.7  # share of the blocks that are the most alike; a caption spoils the others
MIN_CORRELATION = 0.95  # of the slopes in the trusted blocks together
MIN_LEVEL_CORRELATION = 0.95  # of the grey levels of the trusted blocks
MIN_TEXTURE = 2.0  # grey levels from point to point, of a block that counts below
MIN_BLOCK_CORRELATION = 0.6
MIN_SHARE = 0.65  # of the blocks with texture, that have this correlation
MIN_BLOCKS = 16  # with texture and this correlation

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Thumbnails:
    """Grey images, one after the other in memory."""

    pixels: npt.NDArray[np.float32]
    """(P,): the rows of all images."""
    starts: Ints
    """(N,): the position of each image's first pixel."""
    heights: Ints
    widths: Ints

    def take(self, rows: Ints | Bools) -> "Thumbnails":
        return Thumbnails(self.pixels, self.starts[rows], self.heights[rows], self.widths[rows])

    def sample(self, across: Floats, down: Floats) -> Floats:
        """Interpolate between pixels.

        Args:
            across: (N, S), in pixels from the left edge.
            down: (N, S), in pixels from the upper edge.

        Returns:
            (N, S, S): grey levels of a grid.
        """
        columns, right_part = _divide(across, self.widths)
        rows, lower_part = _divide(down, self.heights)
        upper_left = (self.starts[:, None] + rows * self.widths[:, None])[:, :, None]
        upper_left = upper_left + columns[:, None]
        width = self.widths[:, None, None]
        part = right_part[:, None]
        upper = self.pixels[upper_left] * (1 - part) + self.pixels[upper_left + 1] * part
        upper_left += width
        lower = self.pixels[upper_left] * (1 - part) + self.pixels[upper_left + 1] * part
        return np.asarray(upper + (lower - upper) * lower_part[:, :, None])


def _divide(places: Floats, lengths: Ints) -> tuple[Ints, Floats]:
    """The last pixel whose centre is before each place, but for the last pixel; the rest."""
    inside = np.clip(places - 0.5, 0, lengths[:, None] - 1)
    whole = np.minimum(inside.astype(np.int64), lengths[:, None] - 2)
    return whole, (inside - whole).astype(np.float32)


@dataclass(frozen=True)
class Pairs:
    """N pairs of images, and how one lies over the other."""

    left: Thumbnails
    right: Thumbnails
    maps: Floats
    """(N, 4)."""

    def take(self, rows: Ints | Bools) -> "Pairs":
        return Pairs(self.left.take(rows), self.right.take(rows), self.maps[rows])


def coincide(pairs: Pairs) -> Bools:
    """Tell for each pair whether one image is a copy of the other, or of a part of it.

    Args:
        pairs: With maps that are roughly right.
    """
    result, rows = np.zeros(len(pairs.maps), bool), np.arange(len(pairs.maps))
    for step in range(STEPS + 1):
        is_possible = _is_possible(pairs)
        rows, pairs = rows[is_possible], pairs.take(is_possible)
        if not len(rows) or step == STEPS:
            break
        overlap = _lay_over(pairs, COARSE)
        blocks = overlap.blocks()
        is_trusted = blocks.trusted()
        pairs = replace(pairs, maps=_improve(overlap, is_trusted, blocks.gain(is_trusted), pairs))
        if step == HALFWAY:
            is_hopeful = blocks.correlation(is_trusted) > HOPELESS
            rows, pairs = rows[is_hopeful], pairs.take(is_hopeful)
    if len(rows):
        result[rows] = _agree(_lay_over(pairs, FINE).blocks())
    return result


def _agree(blocks: "_Blocks") -> Bools:
    is_trusted = blocks.trusted()
    gain = blocks.gain(is_trusted)
    points = (FINE // BLOCKS) ** 2
    texture = np.maximum(blocks.left * gain[:, None] ** 2, blocks.right) / points
    has_texture = texture > MIN_TEXTURE**2
    is_alike = blocks.both > MIN_BLOCK_CORRELATION * np.sqrt(blocks.left * blocks.right)
    alike = (has_texture & is_alike).sum(axis=1)
    return np.asarray(
        (blocks.correlation(is_trusted) >= MIN_CORRELATION)
        & (blocks.level_correlation(is_trusted) >= MIN_LEVEL_CORRELATION)
        & (alike >= MIN_BLOCKS)
        & (alike >= MIN_SHARE * has_texture.sum(axis=1))
    )


@dataclass(frozen=True)
class _Blocks:
    """Sums of products of slopes over each block, (N, BLOCKS^2)."""

    both: Floats
    left: Floats
    right: Floats
    levels: tuple[Floats, Floats]
    """Sums of grey levels, left and right."""

    def trusted(self) -> Bools:
        """The blocks that differ least, (N, BLOCKS^2), after a change of contrast."""
        is_trusted = np.ones(self.both.shape, bool)
        for _ in range(2):
            gain = self.gain(is_trusted)[:, None]
            difference = self.right - 2 * gain * self.both + gain**2 * self.left
            order = np.argsort(difference, axis=1, kind="stable")
            is_trusted = np.zeros(self.both.shape, bool)
            least = order[:, : round(TRUSTED * order.shape[1])]
            np.put_along_axis(is_trusted, least, True, axis=1)
        return is_trusted

    def gain(self, is_trusted: Bools) -> Floats:
        """The contrast of the right images against the left ones, (N,)."""
        left = (self.left * is_trusted).sum(axis=1)
        right = (self.right * is_trusted).sum(axis=1)
        return np.asarray(np.sqrt(right / np.maximum(left, 1e-3)))

    def correlation(self, is_trusted: Bools) -> Floats:
        """Of the slopes in all trusted blocks, (N,)."""
        both, left, right = (
            (sums * is_trusted).sum(axis=1) for sums in (self.both, self.left, self.right)
        )
        return np.asarray(both / np.sqrt(np.maximum(left * right, 1e-6)))

    def level_correlation(self, is_trusted: Bools) -> Floats:
        """Of the grey levels of trusted blocks, (N,)."""
        count = is_trusted.sum(axis=1, keepdims=True)
        left, right = (
            (sums - (sums * is_trusted).sum(axis=1, keepdims=True) / count) * is_trusted
            for sums in self.levels
        )
        norms = (left**2).sum(axis=1) * (right**2).sum(axis=1)
        return np.asarray((left * right).sum(axis=1) / np.sqrt(np.maximum(norms, 1e-6)))


@dataclass(frozen=True)
class _Overlap:
    """Grey levels on a grid over what both images of each pair show."""

    across: Floats
    """(N, S): the columns of points, in pixels of the left image."""
    down: Floats
    """(N, S): the rows of points."""
    left: Floats
    """(N, S, S)."""
    right: Floats

    def slopes(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Left across, left down, right across, right down, from point to point, (N, S-2, S-2)."""
        return (*_slopes(self.left), *_slopes(self.right))

    def blocks(self) -> _Blocks:
        left_across, left_down, right_across, right_down = self.slopes()
        return _Blocks(
            _sum_blocks(left_across * right_across + left_down * right_down),
            _sum_blocks(left_across**2 + left_down**2),
            _sum_blocks(right_across**2 + right_down**2),
            (_sum_blocks(self.left[:, 1:-1, 1:-1]), _sum_blocks(self.right[:, 1:-1, 1:-1])),
        )


def _slopes(grey: Floats) -> tuple[Floats, Floats]:
    return (
        (grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]) / 2,
        (grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]) / 2,
    )


def _sum_blocks(values: Floats) -> Floats:
    count, side, _ = values.shape
    step = side // BLOCKS
    blocks = values.reshape(count, BLOCKS, step, BLOCKS, step)
    return np.asarray(blocks.sum(axis=(2, 4)).reshape(count, BLOCKS**2))


def _lay_over(pairs: Pairs, side: int) -> _Overlap:
    """A grid of side + 2 points, of which the outer ones have no slopes."""
    scale_x, shift_x, scale_y, shift_y = pairs.maps.T[:, :, None]
    places = np.linspace(MARGIN, 1 - MARGIN, side + 2)
    left, right = _common(pairs.left.widths, pairs.right.widths, pairs.maps[:, :2])
    across = left[:, None] + (right - left)[:, None] * places
    upper, lower = _common(pairs.left.heights, pairs.right.heights, pairs.maps[:, 2:])
    down = upper[:, None] + (lower - upper)[:, None] * places
    return _Overlap(
        across,
        down,
        pairs.left.sample(across, down),
        pairs.right.sample(scale_x * across + shift_x, scale_y * down + shift_y),
    )


def _common(left: Ints, right: Ints, maps: Floats) -> tuple[Floats, Floats]:
    """Where, in the left image, what both show begins and ends along an axis.

    Args:
        left: (N,): lengths of left images.
        right: (N,): of right ones.
        maps: (N, 2).
    """
    ends = np.sort(np.stack([-maps[:, 1], right - maps[:, 1]]) / maps[:, 0], axis=0)
    return np.maximum(ends[0], 0), np.minimum(ends[1], left)


def _is_possible(pairs: Pairs) -> Bools:
    """Whether the images overlap enough, and the map neither stretches nor scales too much."""
    scales = np.abs(pairs.maps[:, ::2])
    widest, narrowest = scales.max(axis=1), scales.min(axis=1)
    is_scale = (narrowest * MAX_SCALE > 1) & (widest < MAX_SCALE)
    is_scale &= widest < MAX_STRETCH * narrowest
    first, last = _common(pairs.left.widths, pairs.right.widths, pairs.maps[:, :2])
    upper, lower = _common(pairs.left.heights, pairs.right.heights, pairs.maps[:, 2:])
    area = np.maximum(last - first, 0) * np.maximum(lower - upper, 0)
    right_area = area * scales.prod(axis=1)
    return np.asarray(
        is_scale
        & (area >= MIN_OVERLAP * pairs.left.widths * pairs.left.heights)
        & (right_area >= MIN_OVERLAP * pairs.right.widths * pairs.right.heights)
    )


def _improve(overlap: _Overlap, is_trusted: Bools, gain: Floats, pairs: Pairs) -> Floats:
    """Maps after a step of Gauss and Newton: least squares over trusted blocks, (N, 4)."""
    maps, (count, side) = pairs.maps, (len(gain), overlap.left.shape[1] - 2)
    weights = is_trusted.reshape(count, BLOCKS, BLOCKS).astype(np.float32)
    weights = weights.repeat(side // BLOCKS, axis=1).repeat(side // BLOCKS, axis=2)
    total = weights.sum(axis=(1, 2))
    left, right = (
        grey - ((grey * weights).sum(axis=(1, 2)) / total)[:, None, None]
        for grey in (overlap.left[:, 1:-1, 1:-1], overlap.right[:, 1:-1, 1:-1])
    )
    errors = (left * gain[:, None, None].astype(np.float32) - right) * weights
    _, _, right_across, right_down = overlap.slopes()
    spacing_x, spacing_y = (
        (grid[:, 1] - grid[:, 0]) * maps[:, column]
        for grid, column in ((overlap.across, 0), (overlap.down, 2))
    )
    centre_x, centre_y = overlap.across.mean(axis=1), overlap.down.mean(axis=1)
    offset_x = (overlap.across - centre_x[:, None])[:, None, 1:-1]
    offset_y = (overlap.down - centre_y[:, None])[:, 1:-1, None]
    slope_x = right_across / spacing_x[:, None, None] * weights
    slope_y = right_down / spacing_y[:, None, None] * weights
    slopes = np.stack([slope_x * offset_x, slope_x, slope_y * offset_y, slope_y], axis=1)
    slopes = slopes.reshape(count, 4, -1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    damping = 1e-3 * (np.trace(normal, axis1=1, axis2=2) / 4 + 1)
    normal += np.eye(4) * damping[:, None, None]
    change = np.linalg.solve(normal, slopes @ errors.reshape(count, -1, 1))[:, :, 0]
    change = np.clip(change, [-0.05, -2, -0.05, -2], [0.05, 2, 0.05, 2])
    about_centre = change[:, ::2] * np.stack([centre_x, centre_y], axis=1)
    change[:, 1::2] -= about_centre
    return np.asarray(maps + change)
