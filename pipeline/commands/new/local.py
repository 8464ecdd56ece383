"""Data sets of files on disk: folders, archives, tables beside images; or of an archive's URL."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.commands.new.advice import TABLES, to_options
from pipeline.commands.new.downloads import fetch
from pipeline.commands.new.photo_copy import check_name, copied, track
from pipeline.commands.new.request import (
    Request,
    check_options,
    describe,
    print_next,
    removed_on_failure,
    write_toml,
)
from pipeline.commands.new.summary import print_contents
from pipeline.core.addresses import is_address, is_remote, is_url
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.terminal import print_line, without_password
from pipeline.datasets.dataset_toml import LABEL_KEYS, ExternalDataset
from pipeline.datasets.source_path import find_path
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.layouts.file_names import LIST_SUFFIXES
from pipeline.stages.acquire.layouts.labels import (
    AmbiguousLayoutError,
    DoubtfulClassesError,
    Reading,
)
from pipeline.stages.acquire.raw_image import SkipReason
from pipeline.stages.acquire.sources.archives import glob
from pipeline.stages.acquire.sources.contents import Contents, open_contents
from pipeline.stages.acquire.sources.dispatch import MIN_CLASSES
from pipeline.stages.acquire.sources.untrained_classes import check_trained
from pipeline.stages.acquire.sources.unused_splits import describe_unused_splits


@dataclass(frozen=True)
class PhotoSource:
    """Files to make a data set of."""

    path: Path
    """A folder or archive, or the pattern of several archives."""
    archives: tuple[Path, ...] = ()
    url: str | None = None
    address: str | None = None
    """In object storage; the path is that of a copy in .cache."""

    @property
    def kind(self) -> str:
        return "archive" if self.archives else "folder"


def from_files(request: Request, texts: Sequence[str]) -> None:
    """Make a data set of a folder, of archives, of a table, or of an archive at a URL.

    Raises:
        PipelineError: there is nothing to make it of, or its labels are unclear.
    """
    is_here = not any(map(is_remote, texts))
    what = "files on disk" if is_here else "photographs elsewhere, of which no copy is taken"
    check_options(
        request, [*LABEL_KEYS, *TABLES, "ignore_splits", *(["stay"] if is_here else [])], what
    )
    with _opened(request, texts) as (source, request, contents):
        print_contents(contents, request.labels)
        check_name(str(source.path.absolute()) if request.stay else source.path.name)
        values = {"kind": source.kind, "description": f"{request.name}: {_description(source)}."}
        if source.url:
            _finish(request, values | {"url": source.url})
        elif source.address:
            print_line("the photographs stay there: others need to be able to read the address")
            _finish(request, values | {"path": source.address})
        elif request.stay:
            print_line("the photographs stay where they are: others need them at the same path")
            _finish(request, values | {"path": str(source.path.absolute())})
        else:
            _copy(request, source, contents, values)


def _copy(
    request: Request, source: PhotoSource, contents: Contents, values: dict[str, str]
) -> None:
    files = (
        [(path, path.name) for path in source.archives]
        if source.archives
        else list(contents.files())
    )
    first = source.archives[0] if source.archives else source.path
    with removed_on_failure(request.folder), copied(request.name, first, files) as target:
        inside = ""
        if source.archives:
            inside = f"/{source.archives[0].name}" if len(source.archives) == 1 else "/*"
        path = f"../../{target.as_posix()}{inside}"
        track(request.name, request.folder)
        write_toml(request.folder, values | {"path": path} | request.keys)
    print_line(f"copied {plural(len(files), 'file')} to {target}; your own were only read")
    reasons = {item.reason for item in contents.left_out()} - {SkipReason.MISSING}
    if reasons and not source.archives:
        print_line("what is left out is not in the copy, so data/skipped.csv will not list it")
    print_line("others get the copy only after `dvc push` to a remote (docs/remotes.md)")
    print_next(request, [str(request.folder), f"{target.parent}/.gitignore"])


def _finish(request: Request, values: dict[str, str]) -> None:
    write_toml(request.folder, values | request.keys)
    print_next(request, [str(request.folder)])


@contextmanager
def _opened(
    request: Request, texts: Sequence[str]
) -> Iterator[tuple[PhotoSource, Request, Contents]]:
    """Find out what is in the source; ask on a terminal which of two readings is meant."""
    source, request = _find_source(request, texts)
    params = load_params().acquire
    while True:
        dataset = describe(request, "folder")
        try:
            with open_contents(source.path, dataset, params) as contents:
                _check_classes(contents, source, dataset)
                _check_splits(contents, dataset)
                yield source, request, contents
                return
        except AmbiguousLayoutError as error:
            request = _decide(request, error)
        except DoubtfulClassesError as error:
            request = _confirm(request, error)


def _check_classes(contents: Contents, source: PhotoSource, dataset: ExternalDataset) -> None:
    names = ClassNames(renamed=dataset.labels, least=MIN_CLASSES)
    classes = names.settle(contents.classes(), source.path, contents.origin)
    check_trained(contents.count(), classes, source.path)


def _check_splits(contents: Contents, dataset: ExternalDataset) -> None:
    """Refuse a split of no image whose name is nearly that of a folder; mention others."""
    if dataset.own_splits and not getattr(dataset, "ignore_splits", False):
        splits = {split for _, split in contents.count()}
        toml = "the source"
        for note in describe_unused_splits(dataset.own_splits, splits, contents.names(), toml):
            print_line(f"note: {to_options(note)}")


def _decide(request: Request, error: AmbiguousLayoutError) -> Request:
    """Ask which reading is meant.

    Raises:
        PipelineError: nobody can be asked.
    """
    readings = error.readings
    options = list(map(_option, readings))
    if not sys.stdin.isatty():
        raise PipelineError(
            f"{error.where}: {error.problem}: {options[0]} for {readings[0].meaning}, "
            f"{options[1]} for {readings[1].meaning}"
        )
    print_line(f"{error.where}: {error.problem}:")
    for number, (reading, option) in enumerate(zip(readings, options, strict=True), 1):
        print_line(f"  {number}  {reading.meaning}  ({option})")
    while (answer := input("Which one? [1/2] ").strip()) not in {"1", "2"}:
        pass
    return _with_reading(request, readings[int(answer) - 1])


def _confirm(request: Request, error: DoubtfulClassesError) -> Request:
    """Ask whether labels are classes.

    Raises:
        PipelineError: they are not, or nobody can be asked.
    """
    if not sys.stdin.isatty():
        raise error
    reading = error.reading
    print_line(f"{error.where}: {error.problem}")
    while (answer := input(f"Are they the classes ({_option(reading)})? [y/n] ").strip()) != "y":
        if answer == "n":
            raise PipelineError(f"{error.where}: {error.advice}")
    return _with_reading(request, reading)


def _option(reading: Reading) -> str:
    return f"--{reading.key.replace('_', '-')} '{reading.value}'"


def _with_reading(request: Request, reading: Reading) -> Request:
    values: dict[str, Any] = {reading.key: reading.value}
    return replace(request, **values)


def _find_source(request: Request, texts: Sequence[str]) -> tuple[PhotoSource, Request]:
    if len(texts) == 1 and is_url(texts[0]):
        path = fetch(texts[0])
        return PhotoSource(path, (path,), url=texts[0]), request
    if len(texts) == 1 and is_address(texts[0]):
        path = fetch(texts[0])
        return PhotoSource(path, (path,) if path.is_file() else (), address=texts[0]), request
    expanded = {path.resolve(): path for text in texts for path in _expand(text)}
    paths = list(expanded.values())  # each once
    if len(paths) > 1 and all(map(_is_table, paths)):
        return _several_tables(paths, request)
    if len(paths) > 1:
        return _several(paths), request
    (path,) = paths
    if path.is_dir():
        return PhotoSource(path), request
    if _is_table(path):
        return PhotoSource(path.parent), replace(request, table=path.name)
    return PhotoSource(path, (path,)), request


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    matches = glob(path) if set(path.name) & set("*?[") else []
    return matches or [find_path(text)]


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in LIST_SUFFIXES and path.is_file()


def _several_tables(paths: Sequence[Path], request: Request) -> tuple[PhotoSource, Request]:
    if len({path.parent.absolute() for path in paths}) > 1:
        raise PipelineError(
            "several tables should be in one folder: give a folder that has them all, with "
            "--table and a pattern of their names"
        )
    pattern = _common_pattern(paths[0].parent, sorted(path.name for path in paths))
    return PhotoSource(paths[0].parent), replace(request, table=pattern)


def _several(paths: Sequence[Path]) -> PhotoSource:
    if tables := [path for path in paths if _is_table(path)]:
        raise PipelineError(
            f"{tables[0]} is a table beside other sources: unpack the images beside it and give "
            "the folder, or put it into the archive"
        )
    folders = {path.parent.absolute() for path in paths}
    if len(folders) > 1 or not all(path.is_file() for path in paths):
        raise PipelineError("several sources should be archives in one folder")
    names = sorted(path.name for path in paths)
    folder = paths[0].parent
    pattern = _common_pattern(folder, names)
    return PhotoSource(folder / pattern, tuple(folder / name for name in names))


def _common_pattern(folder: Path, names: Sequence[str]) -> str:
    """The pattern of these files that no other file has.

    Raises:
        PipelineError: there is none.
    """
    start = next(n for n in range(len(names[0]) + 1) if len({name[: n + 1] for name in names}) > 1)
    end = names[0][start:]
    while not all(name.endswith(end) for name in names):
        end = end[1:]
    pattern = f"{names[0][:start]}*{end}"
    if [path.name for path in glob(folder / pattern)] != list(names):
        raise PipelineError(
            f"{folder} has other files like {', '.join(names[:3])}: put these into a folder of "
            "their own"
        )
    return pattern


def _description(source: PhotoSource) -> str:
    if source.url:
        return "an archive, downloaded"
    if source.address:
        return f"from {without_password(source.address)}"
    if len(source.archives) > 1:
        return f"{len(source.archives)} archives"
    return f"from {source.path.name or 'a folder'}"
