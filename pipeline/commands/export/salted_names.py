"""Names that can be published: equal where the names are equal, and nobody can guess them."""

import hmac
import os
import secrets

from pipeline.core import project

SALT_BYTES = 32


def read_salt() -> bytes:
    """A secret of this clone: whoever knows it can find owners by trying names."""
    path = project.cache() / "certificate.salt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SALT_BYTES))
    return path.read_bytes()


def salt_name(name: str, salt: bytes) -> str:
    """HMAC-SHA256 of a name, in hex; "" for no name."""
    return hmac.digest(salt, name.encode(), "sha256").hex() if name else ""
