"""Shares as text for people: without rounding to nothing or all, or percentages of a few images."""

MIN_IMAGES = 10  # for a percentage; of fewer, one image is more than ten points
MAX_DECIMALS = 6
ROUNDING_ERROR = 1e-9  # of a sum of floats, relative: it makes no difference to all or nothing


def format_share(share: float, decimals: int = 1) -> str:
    """A share, in 0..1, as a percentage; 0 % and 100 % mean exactly that."""
    return f"{_format(100 * share, 100, decimals)} %"


def format_level(level: float) -> str:
    """A stated level, in 0..1, such as "95 %" or "99.9 %"."""
    return f"{100 * level:g} %"


def format_fraction(share: float) -> str:
    """A share, in 0..1, with four decimals; 0.0000 and 1.0000 mean exactly that."""
    return _format(share, 1, 4)


def _format(value: float, whole: int, decimals: int) -> str:
    step = 10.0**-decimals
    text = f"{value:.{decimals}f}"
    if value > ROUNDING_ERROR * whole and float(text) <= 0:
        return f"< {step:.{decimals}f}"
    if value < whole * (1 - ROUNDING_ERROR) and float(text) >= whole:
        return f"> {whole - step:.{decimals}f}"
    return text


def format_interval(low: float, high: float) -> str:
    """An interval of shares, with as many decimals as it takes to tell its ends apart."""
    decimals = 1
    while decimals < MAX_DECIMALS and round(100 * low, decimals) == round(100 * high, decimals):
        decimals += 1
    return f"{format_share(low, decimals)} to {format_share(high, decimals)}"


def format_right(right: int, count: int) -> str:
    """The share of images that are right; of fewer than `MIN_IMAGES` the counts, as "3 of 4"."""
    return f"{right} of {count}" if count < MIN_IMAGES else format_share(right / count)
