"""A copy of somebody's files in DVC's care; the files themselves are only read."""

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.datasets.dataset_toml import copy_path
from pipeline.experiments import dvc

FOLDER = Path("data/photos")


@contextmanager
def copied(name: str, source: Path, files: Sequence[tuple[Path, str]]) -> Iterator[Path]:
    """Copy files and yield the folder of the copy; if the block fails, remove it and its records.

    Args:
        source: The folder, or one of the archives, that the files are of.
        files: Each file, and its path in the copy.

    Raises:
        PipelineError: a name is not UTF-8, the disk is too small, or something is where the copy
            would be.
    """
    target = FOLDER / name
    _check_apart(source, target)
    for _, relative in files:
        check_name(relative)
    FOLDER.mkdir(parents=True, exist_ok=True)
    _check_space(files)
    ignored = _read_ignored()
    try:
        with bar("copy", len(files), unit="file") as progress:
            for path, relative in files:
                _copy_file(path, target / relative)
                progress.update()
        yield target
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        _record(name).unlink(missing_ok=True)
        _restore_ignored(ignored, f"/{name}")
        raise


def check_name(path: str) -> None:
    """Refuse a name that neither DVC nor dataset.toml can record.

    Raises:
        PipelineError: it is not UTF-8.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        escaped = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise PipelineError(
            f"the name {escaped} is not UTF-8, so it cannot be recorded: rename it"
        ) from error


def track(name: str, folder: Path) -> None:
    """Put the copy in DVC's care: DVC records it in photos.dvc, beside dataset.toml.

    There acquire depends on it. `dvc add` updates it, wherever it is.

    Raises:
        PipelineError: DVC fails.
    """
    output = io.StringIO()
    code, lines = dvc.run("add", str(FOLDER / name), out=output)
    record = _record(name)
    if code or not record.exists():
        raise PipelineError(f"`dvc add {FOLDER / name}` fails: {' '.join(lines)[-300:]}")
    atomic.write_text(copy_path(folder), f"wdir: ../../{FOLDER}\n{record.read_text()}")
    record.unlink()


def _record(name: str) -> Path:
    """Where `dvc add` records a copy."""
    return FOLDER / f"{name}.dvc"


def _check_apart(source: Path, target: Path) -> None:
    """Refuse to copy to a place that is in use.

    Raises:
        PipelineError: the photographs are in the place of their copy, or around it, or something
            else is there.
    """
    here, there = source.resolve(), target.resolve()
    if here == there or there in here.parents:
        raise PipelineError(
            f"{source} is where the copy would be: take another name for the data set, or read the "
            "photographs where they are, with --stay"
        )
    if here.is_dir() and here in there.parents:
        raise PipelineError(
            f"the copy, {target}, would be among the photographs in {source}: move them into a "
            "folder of their own, or read them where they are, with --stay"
        )
    if target.exists():
        raise PipelineError(
            f"{target} exists, and no data set here has this name: it may have photographs, so "
            "take another name, or move it elsewhere"
        )


def _read_ignored() -> list[str] | None:
    """The lines of the .gitignore that `dvc add` writes; None if there is none."""
    path = FOLDER / ".gitignore"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else None


def _restore_ignored(before: list[str] | None, line: str) -> None:
    """Remove what `dvc add` wrote for a copy; lines for other copies stay."""
    path = FOLDER / ".gitignore"
    lines = _read_ignored()
    if lines is None or line in (before or ()):
        return
    rest = [other for other in lines if other != line]
    if rest or before is not None:
        atomic.write_text(path, "".join(f"{other}\n" for other in rest))
    else:
        path.unlink()


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
