import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.stable_hash import unit_interval

EXAMPLES = settings(derandomize=True, max_examples=50)


@pytest.mark.parametrize(
    ("key", "seed", "position"),
    [
        # printf '0:' | sha256sum | cut -c-16, and so on
        ("", 0, 0xBA768B331FD86CEC / 2**64),
        ("owner 7", 1, 0xFC3103FF62E9EE7B / 2**64),
        ("é", 2, 0x2F23C71856587C2A / 2**64),
    ],
)
def test_a_position_is_the_same_on_every_machine(key: str, seed: int, position: float) -> None:
    assert unit_interval(key, seed) == position


@EXAMPLES
@given(st.text(), st.integers(0, 2**31 - 1))
def test_a_position_lies_in_the_unit_interval(key: str, seed: int) -> None:
    assert 0 <= unit_interval(key, seed) < 1


def test_positions_are_spread_evenly() -> None:
    tenths = [int(10 * unit_interval(str(number), 1)) for number in range(10_000)]
    assert all(900 < tenths.count(tenth) < 1100 for tenth in range(10))


def test_another_seed_gives_other_positions() -> None:
    positions = {unit_interval("owner 7", seed) for seed in range(1000)}
    assert len(positions) == 1000
