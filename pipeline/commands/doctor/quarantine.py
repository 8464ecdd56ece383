"""Move damaged files out of the way: nothing is deleted, nothing is overwritten."""

import tempfile
import time
from pathlib import Path

from pipeline.commands.doctor.finding import Finding


class Quarantine:
    """A new folder for the files that one repair moves, on their file system."""

    def __init__(self, parent: Path) -> None:
        """`parent` is created with the first file."""
        self._parent = parent
        self._folder: Path | None = None

    def move(self, path: Path, name: str) -> Path:
        """Move a file or a link to `name` in the folder; return where it is now.

        Raises:
            OSError: the file or the folder may not be changed.
        """
        if self._folder is None:
            self._parent.mkdir(parents=True, exist_ok=True)
            prefix = time.strftime("%Y-%m-%dT%H-%M-%S-")
            self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._parent))
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        assert not target.is_symlink(), target
        assert not target.exists(), target
        return path.rename(target)


def isolate(
    problem: str, path: Path, name: str, quarantine: Quarantine | None, then: str
) -> Finding:
    """Move a damaged file away, or say how.

    Args:
        name: The file's name in the quarantine folder.
        quarantine: None if nothing is to be repaired.
        then: The command that makes the file anew.
    """
    if quarantine is None:
        return Finding(problem, f"`pipeline doctor --repair` moves it away, then {then}")
    try:
        target = quarantine.move(path, name)
    except OSError as error:
        return Finding(problem, f"it cannot be moved away ({error.strerror}): do that by hand")
    return Finding(problem, f"it is now {target}; {then}", is_fixed=True)
