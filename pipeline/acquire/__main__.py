"""Stage acquire: bytes from anywhere become raw shards."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pipeline import params, shards, stage
from pipeline.acquire import dataset as datasets
from pipeline.acquire import digits, files, http, sample
from pipeline.acquire.raw import RawImage
from pipeline.errors import PipelineError
from pipeline.params import Acquire

AS_DESCRIBED = "datasets"  # the default of dataset.source: DVC cannot follow a path that is null


def acquire(folder: Path, source: str, limits: Acquire) -> Iterator[RawImage]:
    """Every file of the data set described in `folder`, in the order of its source's listing.

    Args:
        source: A folder, archive or URL to take instead of what dataset.toml names, or `datasets`.
    """
    dataset = datasets.load(folder)
    match dataset:
        case datasets.Sample():
            _refuse_source(folder, source)
            return sample.images(dataset)
        case datasets.Digits():
            _refuse_source(folder, source)
            return digits.images(dataset)
        case datasets.Folder() | datasets.Archive():
            return files.images(_locate(folder, dataset, source, limits), dataset, limits)


def _refuse_source(folder: Path, source: str) -> None:
    if source != AS_DESCRIBED:
        raise PipelineError(
            f"dataset.source={source} has no meaning for {folder}, which makes its own images: use "
            f"-S dataset.source={AS_DESCRIBED}, or -S dataset.name=images for your own photographs"
        )


def _locate(
    folder: Path, dataset: datasets.Folder | datasets.Archive, source: str, limits: Acquire
) -> Path:
    if source.startswith(("http://", "https://")):
        return http.download(source, limits)
    if source != AS_DESCRIBED:
        # Not what dataset.toml describes: its checksums are those of another file.
        if described := dataset.path or getattr(dataset, "url", None):
            print(f"acquire: from {source} instead of {described}")
        return Path(source).expanduser()
    if dataset.path is not None:
        return folder / dataset.path
    if isinstance(dataset, datasets.Archive) and dataset.url is not None:
        return http.download(dataset.url, limits, dataset.sha256, dataset.md5)
    raise PipelineError(
        f"{folder} needs to know where the photographs are: -S dataset.source=/absolute/path, a "
        "folder or archive with one folder per class"
    )


def main(
    folder: Annotated[Path, typer.Argument(metavar="DATASET")],
    source: Annotated[str, typer.Argument()],
    raw: Annotated[Path, typer.Argument()],
) -> None:
    """Fetch the images that DATASET/dataset.toml describes, or those at SOURCE, into RAW."""
    labels: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, object]]:
        for image in acquire(folder, source, params.load().acquire):
            labels[image.label] += 1
            yield image.row()

    count = shards.write(raw, shards.RAW, rows())
    counts = ", ".join(f"{number} {label}" for label, number in sorted(labels.items()))
    print(f"acquire: {count} files ({counts})")


if __name__ == "__main__":
    stage.run(main)
