"""Stage acquire: bytes from anywhere become raw shards."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from pipeline import atomic, params, shards, stage
from pipeline.acquire import dataset as datasets
from pipeline.acquire import digits, files, listed, sample
from pipeline.acquire.raw import SKIPPED_COLUMNS, RawImage, Skipped
from pipeline.acquire.web.download import Expected, download
from pipeline.acquire.web.http import Client
from pipeline.acquire.web.store import Store
from pipeline.errors import PipelineError, counted
from pipeline.params import AS_DESCRIBED, Acquire


def acquire(folder: Path, source: str, limits: Acquire) -> Iterator[RawImage | Skipped]:
    """Every file of the data set described in `folder`, in the order of its source's listing.

    Args:
        source: A folder, an archive or its URL, or a CSV list, to take instead of what
            dataset.toml names, or `datasets`.
    """
    dataset = datasets.load(folder)
    if isinstance(dataset, datasets.Sample | datasets.Digits):
        _refuse_source(folder, source)
        match dataset:
            case datasets.Sample():
                yield from sample.images(dataset)
            case datasets.Digits():
                yield from digits.images(dataset)
        return
    with Client(limits) as client, Store() as store:
        if source != AS_DESCRIBED:
            yield from _instead(source, dataset, client, store, limits)
        elif datasets.pinned(folder).exists():
            print(f"acquire: as pinned in {datasets.pinned(folder)}")
            yield from listed.from_list(
                datasets.pinned(folder), dataset.licence, client, store, limits
            )
        else:
            yield from _described(folder, dataset, client, store, limits)


def _refuse_source(folder: Path, source: str) -> None:
    if source != AS_DESCRIBED:
        raise PipelineError(
            f"dataset.source={source} has no meaning for {folder}, which makes its own images: use "
            f"-S dataset.source={AS_DESCRIBED}, or -S dataset.name=images for your own photographs"
        )


def _instead(
    source: str, dataset: datasets.Elsewhere, client: Client, store: Store, limits: Acquire
) -> Iterator[RawImage | Skipped]:
    # Not what dataset.toml describes: its checksums are those of another file.
    print(f"acquire: from {source}")
    suffix = PurePosixPath(source.partition("?")[0]).suffix.lower()
    if source.startswith(("http://", "https://")):
        path = download(source, Expected(), client, store, limits.max_gigabytes * 1e9)
    else:
        path = Path(source).expanduser()
    if suffix == ".csv":
        return listed.from_list(path, dataset.licence, client, store, limits)
    return files.images(path, dataset, limits)


def _described(
    folder: Path, dataset: datasets.Elsewhere, client: Client, store: Store, limits: Acquire
) -> Iterator[RawImage | Skipped]:
    match dataset:
        case datasets.Flickr():
            return listed.from_search(dataset, folder, client, store, limits)
        case datasets.Urls():
            return listed.from_list(folder / dataset.path, dataset.licence, client, store, limits)
        case datasets.Archive(url=str(url)):
            expected = Expected(dataset.size, dataset.sha256, dataset.md5)
            path = download(url, expected, client, store, limits.max_gigabytes * 1e9)
            return files.images(path, dataset, limits)
        case datasets.Folder(path=str(path)) | datasets.Archive(path=str(path)):
            return files.images(folder / path, dataset, limits)
    raise PipelineError(
        f"{folder} needs to know where the photographs are: -S dataset.source=/absolute/path, a "
        "folder or archive with one folder per class, or a CSV file with the columns url,label"
    )


def main(
    folder: Annotated[Path, typer.Argument(metavar="DATASET")],
    source: Annotated[str, typer.Argument()],
    raw: Annotated[Path, typer.Argument()],
    skipped_csv: Annotated[Path, typer.Argument(metavar="SKIPPED")],
) -> None:
    """Fetch the images that DATASET/dataset.toml describes, or those at SOURCE, into RAW.

    What the source lists and RAW does not have is named in SKIPPED, with a reason.
    """
    labels: Counter[str] = Counter()
    skipped: list[Skipped] = []

    def rows() -> Iterator[dict[str, object]]:
        for found in acquire(folder, source, params.load().acquire):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                labels[found.label] += 1
                yield found.row()

    try:
        count = shards.write(raw, shards.RAW, rows())
    finally:
        # Also on failure: it shows what is missing.
        atomic.write_csv(skipped_csv, SKIPPED_COLUMNS, [one.row() for one in skipped])
    counts = ", ".join(f"{number} {label}" for label, number in sorted(labels.items()))
    left_out = counted(Counter(one.reason.value for one in skipped))
    print(f"acquire: {count} files ({counts}); left out: {left_out}")


if __name__ == "__main__":
    stage.run(main)
