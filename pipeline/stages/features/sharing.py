"""Features of other machines: which of them machines share, and what a cluster computes."""

import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import shards
from pipeline.core.split_csv import SplitTable, read_split, write_split
from pipeline.distributed import cluster
from pipeline.distributed.cluster import Work
from pipeline.distributed.shared_cache import open_shared_cache
from pipeline.distributed.shared_results import SharedResults, SharedSelection
from pipeline.images.key_index import KeySet
from pipeline.images.memo import Memo
from pipeline.network.examples import Examples
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.views import EVALUATION


def training_ids(examples: Examples) -> KeySet:
    """Of the images that augmented views are computed of."""
    return KeySet(examples.ids.take(shards.array(examples.rows("train"))))


def share(memos: Mapping[int, Memo], examples: Examples) -> SharedResults:
    """The features of all views, by the number of the view, as machines share them."""
    shared = open_shared_cache()
    if shared is None and not cluster.is_set():
        return SharedResults(None, "features", [])
    ids, of_training = KeySet(examples.ids), training_ids(examples)
    selections = [
        SharedSelection(memo, ids if number == EVALUATION else of_training)
        for number, memo in memos.items()
    ]
    return SharedResults(shared, "features", selections)


def features_work(
    prefix: FrozenPrefix, memos: Mapping[int, Memo], clean: Path, split_csv: Path
) -> Work:
    """The features, as machines of a cluster compute them."""

    @cache
    def read_all() -> SplitTable:
        return read_split(split_csv)

    def read_inputs(paths: Sequence[Path]) -> dict[str, bytes]:
        """split.csv, of the images in some shards."""
        ids = pa.concat_arrays([shards.read(path).column("id") for path in paths])
        table = read_all()
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder, "split.csv")
            write_split(part, table.where(pc.is_in(table.ids, ids)))
            return {str(split_csv): part.read_bytes()}

    arguments = [str(clean), str(split_csv), "-"]
    is_on_gpu = prefix.device.type == "cuda"
    return Work("features", arguments, clean, read_inputs, list(memos.values()), is_on_gpu)
