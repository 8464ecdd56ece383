"""Whether DVC can link files from its cache into the workspace, or has to copy them."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.commands.doctor.finding import Finding

LINKS: dict[str, Callable[[Path, Path], None]] = {"hardlink": os.link, "symlink": os.symlink}
ALWAYS = ("reflink", "copy")  # DVC tries the first, and the second never fails


def examine(repo: Any) -> Iterator[Finding]:
    """The kinds of links in `cache.type`: none works here."""
    kinds = repo.config["cache"].get("type") or []
    cache, root = Path(repo.cache.local.path), Path(repo.root_dir)
    if cache.is_dir() and kinds and not any(map(ALWAYS.__contains__, kinds)):
        yield from _examine_links(kinds, cache, root)


def _examine_links(kinds: Sequence[str], cache: Path, root: Path) -> Iterator[Finding]:
    problems = []
    for kind in kinds:
        if not (problem := find_problem(LINKS[kind], cache, root)):
            return
        problems.append(f"{kind}: {problem}")
    yield Finding(
        f"DVC cannot link files of its cache {cache} into the project ({', '.join(problems)}), so "
        "it stores everything twice",
        "put the cache on the project's disk: `dvc cache dir --local FOLDER`",
    )


def find_problem(link: Callable[[Path, Path], None], cache: Path, root: Path) -> str:
    """Why a file in the cache cannot be linked into the project; "" if it can."""
    try:
        with (
            tempfile.TemporaryDirectory(dir=cache) as source,
            tempfile.TemporaryDirectory(dir=root / ".dvc/tmp") as target,
        ):
            Path(source, "file").touch()
            link(Path(source, "file"), Path(target, "file"))
    except OSError as error:
        return error.strerror or str(error)
    return ""
