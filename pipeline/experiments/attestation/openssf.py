"""The model folder signed for OpenSSF's tools, by their library model-signing."""

import importlib.util
import os
from pathlib import Path

from pipeline.core import atomic
from pipeline.experiments.attestation.keys import PASSWORD


def is_installed() -> bool:
    """Whether the library is there, with pyopenssl, which it imports and does not bring along."""
    return all(importlib.util.find_spec(name) for name in ("model_signing", "OpenSSL"))


def sign(models: Path, private_key: Path, signature: Path) -> None:
    """Write the signature of a model folder; `python -m model_signing verify key` checks it.

    Links are followed, as DVC may link files of its cache.
    """
    from model_signing import hashing, signing  # slow: 1.5 s

    password = os.environ.get(PASSWORD, "").encode() or None
    files = hashing.Config().set_allow_symlinks(True)
    signer = signing.Config().set_hashing_config(files)
    signer.use_elliptic_key_signer(private_key=private_key, password=password)
    with atomic.replacing(signature) as staged:
        signer.sign(models, staged)
