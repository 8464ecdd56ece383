"""Tests, in the rooms of the package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository."""
