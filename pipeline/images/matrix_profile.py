"""ICC profiles for colour spaces that a file describes by primaries and a curve."""

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]  # CIE xy
D50 = np.array([0.9642, 1.0, 0.8249])  # the white point of ICC profiles, CIE XYZ
# The Bradford transform, of CIE XYZ to cone responses.
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
HEADER_BYTES, ENTRY_BYTES = 128, 12


@dataclass(frozen=True)
class Chromaticities:
    """White and primaries of an RGB space."""

    white: Point
    red: Point
    green: Point
    blue: Point


D65 = (0.3127, 0.3290)
BT_709 = Chromaticities(D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # also sRGB's

# Decoding curves, as parameters g, a, b, c, d of ICC's parametric curve type 3:
# ((a x + b)^g where x >= d, c x below).
ToneCurve = tuple[float, float, float, float, float]
SRGB_CURVE: ToneCurve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT_709_CURVE: ToneCurve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)


def gamma_curve(exponent: float) -> ToneCurve:
    """The curve x^exponent."""
    return exponent, 1.0, 0.0, 0.0, 0.0


def rgb_profile(space: Chromaticities, curve: ToneCurve) -> bytes | None:
    """The ICC profile of an RGB space; None if its primaries are impossible."""
    colorants = _colorants(space)
    if colorants is None:
        return None
    tags = {b"wtpt": _xyz(D50)}
    for name, column in zip((b"r", b"g", b"b"), colorants.T, strict=True):
        tags |= {name + b"XYZ": _xyz(column), name + b"TRC": _curve(curve)}
    return _profile(b"RGB ", tags)


def grey_profile(curve: ToneCurve) -> bytes:
    """The ICC profile of grey levels."""
    return _profile(b"GRAY", {b"wtpt": _xyz(D50), b"kTRC": _curve(curve)})


def _colorants(space: Chromaticities) -> npt.NDArray[np.float64] | None:
    """CIE XYZ of the primaries in columns, adapted to D50: (3, 3)."""
    points = (space.red, space.green, space.blue, space.white)
    if not all(0 <= x <= 1 and 0 < y <= 1 for x, y in points):
        return None
    *primaries, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in points)
    matrix = np.stack(primaries, axis=1)
    try:
        matrix = matrix * np.linalg.solve(matrix, white)
        scale = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
        adapted: npt.NDArray[np.float64] = np.linalg.solve(BRADFORD, scale @ BRADFORD @ matrix)
    except np.linalg.LinAlgError:
        return None
    return adapted if np.isfinite(adapted).all() and np.abs(adapted).max() < 2**15 else None


def _fixed(*values: float) -> bytes:
    """ICC's s15Fixed16Number."""
    return b"".join(struct.pack(">i", round(value * 2**16)) for value in values)


def _xyz(values: npt.NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values.tolist())


def _curve(curve: ToneCurve) -> bytes:
    return b"para\0\0\0\0\0\3\0\0" + _fixed(*curve)


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    offset = HEADER_BYTES + 4 + ENTRY_BYTES * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name + struct.pack(">II", offset + len(bodies), len(body))
        bodies += body
    header = struct.pack(
        ">I4xI4s4s4s12x4s", offset + len(bodies), 0x04300000, b"mntr", space, b"XYZ ", b"acsp"
    )
    header += bytes(28) + _fixed(*D50.tolist())
    return header.ljust(HEADER_BYTES, b"\0") + table + bodies
