"""The split certificate: a table that can be published, and the program that checks it."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.commands.export import check_split
from pipeline.commands.export.check_split import Leak
from pipeline.commands.export.preconditions import require_new, require_split
from pipeline.commands.export.salted_names import read_salt, salt_name
from pipeline.core import atomic, project, shards
from pipeline.core.errors import PipelineError
from pipeline.core.plurals import plural
from pipeline.core.split_csv import read_split
from pipeline.images.memo import Memo
from pipeline.params import FilterParams
from pipeline.stages.filter.judge_all import judge_all, open_memo
from pipeline.stages.filter.near_duplicates.components import Components
from pipeline.stages.filter.near_duplicates.copies import link_copies

TABLE, CHECKER = "split_certificate.csv", "check_split.py"


@dataclass(frozen=True)
class CertificateInputs:
    """Where the images and their splits are."""

    raw: Path
    clean: Path
    split_csv: Path


@dataclass(frozen=True)
class Certificate:
    """What a table shows."""

    images: int
    suspected: int
    """Pairs across splits with common patches, which the filter's comparison tells apart."""


def certify(data: CertificateInputs, params: FilterParams, destination: Path) -> Certificate:
    """Write a table of hashes and its checker into a new folder.

    The hashes are those that stage filter compared, from what it remembers, or computed again.

    Raises:
        PipelineError: `destination` is not empty, there is no split yet, or the split leaks.
    """
    require_new(destination)
    require_split(data.split_csv)
    judgements = open_memo(params)
    with atomic.replacing(destination) as staged:
        staged.mkdir()
        rows = list(_rows(data, params, judgements))
        atomic.write_csv(staged / TABLE, check_split.COLUMNS, rows)
        shutil.copyfile(check_split.__file__, staged / CHECKER)
        suspected = _check(staged / TABLE, params, judgements)
    return Certificate(len(rows), suspected)


def _rows(
    data: CertificateInputs, params: FilterParams, judgements: Memo
) -> Iterator[tuple[str, str, str, str, str]]:
    facts = shards.columns(data.clean, ["id", "group"])
    owners = dict(zip(*(column.to_pylist() for column in facts.columns), strict=True))
    hashes, salt = _read_hashes(data.raw, params, judgements), read_salt()
    for row in read_split(data.split_csv):
        if row.id not in owners or row.id not in hashes:
            raise PipelineError(f"{data.split_csv} is older than {data.raw}: run `dvc repro` first")
        owner = salt_name(owners[row.id] or "", salt)
        yield row.id, row.split, owner, *hashes[row.id]


def _read_hashes(
    raw: Path, params: FilterParams, judgements: Memo
) -> Mapping[str, tuple[str, str]]:
    """The hash of the whole, and those of patches, by id."""
    hashes = {}
    for _, rows in judge_all(raw, params, judgements):
        names = ("id", "phash", "patch_hashes")
        for key, phash, patches in zip(*(rows.column(name) for name in names), strict=True):
            if phash.is_valid:
                numbers = np.unique(np.frombuffer(patches.as_py() or b"", np.uint64))
                texts = " ".join(f"{number:016x}" for number in numbers.tolist())
                hashes[key.as_py()] = (f"{phash.as_py():016x}", texts)
    return hashes


def _check(table: Path, params: FilterParams, judgements: Memo) -> int:
    """Refuse a table with leaks; return the number of suspected pairs that are none."""
    leaks, suspected = list[Leak](), list[Leak]()
    images = list(check_split.read(table))
    for leak in check_split.find_leaks(images, params.near_duplicate_bits or 0):
        (suspected if leak.kind == check_split.SUSPECTED else leaks).append(leak)
    leaks.extend(_find_copies(suspected, judgements))
    if leaks:
        kind, left, right = leaks[0]
        raise PipelineError(
            f"the split has {plural(len(leaks), 'leak')}, such as {left.id[:12]} in {left.split} "
            f"and {right.id[:12]} in {right.split} ({kind}): reject one of the two in reject.csv, "
            "or run `dvc repro` if the params of filter or split have changed"
        )
    return len(suspected)


def _find_copies(pairs: Sequence[Leak], judgements: Memo) -> Iterator[Leak]:
    """The pairs whose details coincide, as stage filter compares them, laid over each other.

    Drawings and photographs of one pattern have patches in common without being copies.
    """
    if not pairs:
        return
    keys = sorted({image.id for _, left, right in pairs for image in (left, right)})
    rows, components = np.arange(len(keys)), Components(np.arange(len(keys)))
    ids = pa.array(keys, pa.string())
    link_copies(ids, rows, rows, judgements.get, project.cache(), components)
    group_of = dict(zip(keys, components.groups().tolist(), strict=True))
    yield from (pair for pair in pairs if group_of[pair.left.id] == group_of[pair.right.id])
