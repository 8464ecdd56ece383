"""What every kind of source yields."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class RawImage:
    """One file as its source had it: nothing is known of it yet but where it came from."""

    name: str
    label: str
    data: bytes
    split: str | None = None
    """train, val or test where the source prescribes it."""
    licence: str | None = None

    def row(self) -> dict[str, object]:
        """As a row of a raw shard; the id is the sha256 of the bytes."""
        return {
            "id": hashlib.sha256(self.data).hexdigest(),
            "label": self.label,
            "name": self.name,
            "split": self.split,
            "licence": self.licence,
            "bytes": self.data,
        }
