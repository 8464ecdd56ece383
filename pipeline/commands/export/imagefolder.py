"""Export the clean images as files: DEST/train/car/car_0000.jpg, ..."""

from collections import Counter
from pathlib import Path

from pipeline.commands.export.preconditions import require_new, require_split
from pipeline.core import atomic, shards
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.core.split_csv import SplitTable, read_split
from pipeline.core.terminal import distinct_file_names

PNG = b"\x89PNG"


def imagefolder(clean: Path, split_csv: Path, destination: Path) -> int:
    """Write the clean images in folders that torchvision's ImageFolder reads; return their number.

    Files are numbered per split and class in the order of split.csv.

    Raises:
        PipelineError: `destination` is not empty, or there is no split yet.
    """
    require_new(destination)
    require_split(split_csv)
    names = _names(read_split(split_csv))
    with atomic.replacing(destination) as staged, bar("export", len(names)) as progress:
        for path in shards.paths(clean):
            batch = shards.read(path)
            columns = (batch.column(name) for name in ("id", shards.STORED, "bytes"))
            for key, stored, data in zip(*columns, strict=True):
                encoded = data.as_py()
                shards.check_bytes([stored.as_py()], [encoded])
                suffix = ".png" if encoded.startswith(PNG) else ".jpg"
                if key.as_py() not in names:
                    raise PipelineError(f"{split_csv} is older than {clean}: run `dvc repro` first")
                target = staged / (names[key.as_py()] + suffix)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(encoded)
                progress.update()
    return len(names)


def _names(rows: SplitTable) -> dict[str, str]:
    """id -> train/car/car_0000, with names that are valid on any file system."""
    numbers: Counter[tuple[str, str]] = Counter()
    names = {}
    labels = distinct_file_names({row.label for row in rows})  # from somebody's archive
    for row in rows:
        label = labels[row.label]
        folder = (row.split, label)
        names[row.id] = f"{row.split}/{label}/{label}_{numbers[folder]:04d}"
        numbers[folder] += 1
    return names
