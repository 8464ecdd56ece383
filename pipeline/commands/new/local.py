"""Data sets of files on disk: folders, archives, tables beside images; or of an archive's URL."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.commands.new.photo_copy import copied, track
from pipeline.commands.new.request import Request, print_next, write_toml
from pipeline.commands.new.summary import print_contents
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import print_line
from pipeline.params import load_params
from pipeline.stages.acquire.class_names import ClassNames
from pipeline.stages.acquire.dataset_toml import FolderDataset
from pipeline.stages.acquire.layouts.file_names import TABLE_SUFFIXES
from pipeline.stages.acquire.layouts.labels import AmbiguousLayoutError
from pipeline.stages.acquire.sources.contents import Contents, open_contents
from pipeline.stages.acquire.sources.dispatch import MIN_CLASSES
from pipeline.stages.acquire.sources.source_path import URLS, find_path


@dataclass(frozen=True)
class Source:
    """Files to make a data set of."""

    path: Path
    """A folder or archive, or the pattern of several archives."""
    archives: tuple[Path, ...] = ()
    url: str | None = None

    @property
    def kind(self) -> str:
        return "archive" if self.archives else "folder"


def from_files(request: Request, texts: Sequence[str], stay: bool) -> None:
    """Make a data set of a folder, of archives, of a table, or of an archive at a URL.

    Raises:
        PipelineError: there is nothing to make it of, or its labels are unclear.
    """
    with _opened(request, texts) as (source, request, contents):
        print_contents(contents)
        values = {"kind": source.kind, "description": f"{request.name}: {_description(source)}."}
        if source.url:
            _finish(request, values | {"url": source.url})
        elif stay:
            print_line("the photographs stay where they are: others need them at the same path")
            _finish(request, values | {"path": str(source.path.absolute())})
        else:
            _copy(request, source, contents, values)


def _copy(request: Request, source: Source, contents: Contents, values: dict[str, str]) -> None:
    files = (
        [(path, path.name) for path in source.archives]
        if source.archives
        else list(contents.files())
    )
    with copied(request.name, files) as target:
        inside = ""
        if source.archives:
            inside = f"/{source.archives[0].name}" if len(source.archives) == 1 else "/*"
        path = f"../../{target.as_posix()}{inside}"
        write_toml(request.folder, values | {"path": path} | request.keys)
        track(request.name, request.folder)
    print_line(f"copied {len(files)} files to {target}; your own were only read")
    print_line("others get the copy only after `dvc push` to a remote (docs/remotes.md)")
    print_next(request, [str(request.folder), f"{target.parent}/.gitignore"])


def _finish(request: Request, values: dict[str, str]) -> None:
    write_toml(request.folder, values | request.keys)
    print_next(request, [str(request.folder)])


@contextmanager
def _opened(request: Request, texts: Sequence[str]) -> Iterator[tuple[Source, Request, Contents]]:
    """Find out what is in the source; ask on a terminal which of two readings is meant."""
    source, request = _find_source(request, texts)
    params = load_params().acquire
    while True:
        keys = request.keys | {"kind": "folder", "description": ""}
        try:
            dataset = FolderDataset.model_validate(keys)
        except ValueError as error:
            raise PipelineError(f"--pattern {request.pattern!r}: {_reason(error)}") from error
        try:
            with open_contents(source.path, dataset, params) as contents:
                _check_classes(contents, source)
                yield source, request, contents
                return
        except AmbiguousLayoutError as error:
            request = _decide(request, error)


def _reason(error: ValueError) -> str:
    return str(error).splitlines()[-2].strip().removeprefix("Value error, ")


def _check_classes(contents: Contents, source: Source) -> None:
    names = ClassNames(least=MIN_CLASSES)
    names.settle(contents.classes(), source.path, contents.origin)


def _decide(request: Request, error: AmbiguousLayoutError) -> Request:
    """Ask which reading is meant.

    Raises:
        PipelineError: nobody can be asked.
    """
    readings = error.readings
    options = [f"--{reading.key.replace('_', '-')} '{reading.value}'" for reading in readings]
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
    reading = readings[int(answer) - 1]
    return replace(request, **{reading.key: reading.value})


def _find_source(request: Request, texts: Sequence[str]) -> tuple[Source, Request]:
    if len(texts) == 1 and texts[0].startswith(URLS):
        return _download(texts[0]), request
    paths = [path for text in texts for path in _expand(text)]
    if len(paths) > 1:
        return _several(paths), request
    (path,) = paths
    if path.is_dir():
        return Source(path), request
    if path.suffix.lower() in TABLE_SUFFIXES:
        return Source(path.parent), replace(request, table=path.name)
    return Source(path, (path,)), request


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    matches = sorted(path.parent.glob(path.name)) if set(path.name) & set("*?[") else []
    return matches or [find_path(text)]


def _several(paths: Sequence[Path]) -> Source:
    folders = {path.parent.absolute() for path in paths}
    if len(folders) > 1 or not all(path.is_file() for path in paths):
        raise PipelineError("several sources should be archives in one folder")
    names = sorted(path.name for path in paths)
    folder = paths[0].parent
    pattern = _common_pattern(folder, names)
    return Source(folder / pattern, tuple(folder / name for name in names))


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
    if sorted(path.name for path in folder.glob(pattern)) != list(names):
        raise PipelineError(
            f"{folder} has other files like {', '.join(names[:3])}: put the archives into a folder "
            "of their own"
        )
    return pattern


def _download(url: str) -> Source:
    from pipeline.stages.acquire.web.client import Client
    from pipeline.stages.acquire.web.content_store import ContentStore
    from pipeline.stages.acquire.web.download import ExpectedFile, download

    params = load_params().acquire
    with Client(params) as client, ContentStore() as store:
        path = download(url, ExpectedFile(), client, store, params.max_gigabytes * 1e9)
    return Source(path, (path,), url)


def _description(source: Source) -> str:
    if source.url:
        return "an archive, downloaded"
    if len(source.archives) > 1:
        return f"{len(source.archives)} archives"
    return f"from {source.path.name or 'a folder'}"
