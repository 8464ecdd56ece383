"""Addresses of registered models, beside folders; tests/experiments/promotion has a registry."""

from pathlib import Path

import pytest

from pipeline.inference.registered_models import find_folder, is_registered


@pytest.mark.parametrize("address", ["models", "a@b/c", "models:/a/latest", "@", "here@home"])
def test_other_addresses_are_folders(world: Path, address: str) -> None:
    Path("here@home").mkdir()
    assert not is_registered(address)
    assert find_folder(address) == Path(address)


@pytest.mark.parametrize(
    "address", ["@champion", "pets@challenger", "models:/pets@champion", "models:/pets/3"]
)
def test_these_are_registered(world: Path, address: str) -> None:
    assert is_registered(address)
