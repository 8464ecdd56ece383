"""Shares as text for people: no rounding to 0 % or 100 %, no percentages of a few images."""

MIN_IMAGES = 10  # for a percentage; of fewer, one image is more than ten points
MAX_DECIMALS = 6


def format_share(share: float, decimals: int = 1) -> str:
    """A share, in 0..1, as a percentage; 0 % and 100 % mean exactly that."""
    step = 10.0**-decimals
    if share > 0 and 100 * share < step / 2:
        return f"< {step:.{decimals}f} %"
    if share < 1 and 100 * (1 - share) < step / 2:
        return f"> {100 - step:.{decimals}f} %"
    return f"{100 * share:.{decimals}f} %"


def format_interval(low: float, high: float) -> str:
    """An interval of shares, with as many decimals as it takes to tell its ends apart."""
    decimals = 1
    while decimals < MAX_DECIMALS and round(100 * low, decimals) == round(100 * high, decimals):
        decimals += 1
    return f"{format_share(low, decimals)} to {format_share(high, decimals)}"


def format_right(right: int, count: int) -> str:
    """The share of images that are right; of fewer than `MIN_IMAGES` the counts, as "3 of 4"."""
    return f"{right} of {count}" if count < MIN_IMAGES else format_share(right / count)
