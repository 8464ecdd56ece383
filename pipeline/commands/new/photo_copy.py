"""A copy of somebody's files in DVC's care; the files themselves are only read."""

import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.experiments import dvc
from pipeline.stages.acquire.dataset_toml import copy_path

FOLDER = Path("data/photos")


@contextmanager
def copied(name: str, files: Sequence[tuple[Path, str]]) -> Iterator[Path]:
    """Copy files and yield the folder of the copy; remove it if the block fails.

    Args:
        files: Each file, and its path in the copy.

    Raises:
        PipelineError: the disk is too small, or an earlier copy is there.
    """
    target = FOLDER / name
    if target.exists():
        raise PipelineError(f"{target} exists, from another data set of this name: delete it first")
    FOLDER.mkdir(parents=True, exist_ok=True)
    _check_space(files)
    try:
        with bar("copy", len(files), unit="file") as progress:
            for path, relative in files:
                _copy_file(path, target / relative)
                progress.update()
        yield target
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def track(name: str, folder: Path) -> None:
    """Put the copy in DVC's care: DVC records it in photos.dvc, beside dataset.toml.

    There acquire depends on it. `dvc add` updates it, wherever it is.

    Raises:
        PipelineError: DVC fails.
    """
    output = io.StringIO()
    code, lines = dvc.run("add", str(FOLDER / name), out=output)
    record = FOLDER / f"{name}.dvc"
    if code or not record.exists():
        raise PipelineError(f"`dvc add {FOLDER / name}` fails: {' '.join(lines)[-300:]}")
    atomic.write_text(copy_path(folder), f"wdir: ../../{FOLDER}\n{record.read_text()}")
    record.unlink()


def _copy_file(source: Path, target: Path) -> None:
    """Copy the bytes alone: a file of its own, with the mode of a new file."""
    from dvc_objects.fs.system import reflink  # imports fcntl on Linux

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        reflink(source, target)  # type: ignore[no-untyped-call]
    except OSError:  # the disk cannot, or source and target are on two
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)


def _check_space(files: Sequence[tuple[Path, str]]) -> None:
    size = sum(path.stat().st_size for path, _ in files)
    free = shutil.disk_usage(FOLDER).free
    if size > free:
        raise PipelineError(
            f"the copy needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: make room, or "
            "read the photographs where they are, with --stay"
        )
