"""Scores of test images without stored features, computed once per image and remembered.

They are remembered as features are, since they cost as much: another report, or a stage that was
killed, computes nothing again, and several machines can share the work.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.core import columns, file_digests, shards
from pipeline.core.split_csv import read_split, write_split
from pipeline.distributed import cluster
from pipeline.distributed.cluster import Work
from pipeline.distributed.other_machines import gather
from pipeline.distributed.shared_cache import open_shared_cache
from pipeline.distributed.shared_results import SharedResults, SharedSelection
from pipeline.images import decoder_versions, mapping, memo
from pipeline.images.chunk_runs import Chunk
from pipeline.images.key_index import KeySet
from pipeline.images.memo import KEY, BoolArray, Keys, Memo
from pipeline.network import device, feature_store
from pipeline.network.examples import Examples
from pipeline.network.views import EVALUATION, EncodedImages, Views
from pipeline.stages.evaluate.embedding import MAX_IMAGES
from pipeline.stages.evaluate.evaluation_files import EvaluationInputs
from pipeline.stages.evaluate.loaded_network import LoadedNetwork

STAGE = "evaluate"
BATCH = 512  # images whose scores are read at a time
LIBRARIES = [*decoder_versions.LIBRARIES, "torch", "torchvision", "lightning-fabric", "timm"]


class ScoredIds:
    """The ids of the test images; of the first ones, the inputs of the last layer are needed."""

    def __init__(self, ids: pa.StringArray) -> None:
        """`ids` are in the order of split.csv."""
        self.all, self.mapped = KeySet(ids), KeySet(ids[:MAX_IMAGES])
        self.others = KeySet(ids[MAX_IMAGES:])

    @classmethod
    def read(cls, split_csv: Path) -> "ScoredIds":
        table = read_split(split_csv)
        return cls(columns.contiguous(table.where(pc.equal(table.splits, "test")).ids))


class ScoreMemos:
    """The memos of scores, and of inputs of the last layer; together they are one for `mapping`."""

    def __init__(self, loaded: LoadedNetwork, inputs: EvaluationInputs) -> None:
        key, suffix = _key(loaded, inputs), loaded.evaluated
        self.scores = Memo(STAGE, key, _schema("scores", suffix.classes), "scores")
        self.inputs = Memo(STAGE, key, _schema("inputs", suffix.width), "inputs")
        self.both = [self.scores, self.inputs]

    def missing(self, keys: Keys) -> BoolArray:
        lacks: BoolArray = self.scores.missing(keys) | self.inputs.missing(keys)
        return lacks

    def add(self, batch: pa.RecordBatch) -> None:
        for store in self.both:
            store.add(batch.select([KEY.name, *store.schema.names]))


def _schema(name: str, width: int) -> pa.Schema:
    return pa.schema([(name, pa.list_(pa.float32(), width))])


def _key(loaded: LoadedNetwork, inputs: EvaluationInputs) -> str:
    prefix = loaded.prefix
    values = {
        "weights": file_digests.sha256(inputs.models / "model.safetensors"),
        "trained_from": loaded.card.trained_from,
        "preprocess": prefix.preprocess.model_dump(),
        "dtype": loaded.index.dtype,
        "precision": [prefix.precision, loaded.precision],
        "compiled": prefix.compiled,
        "engine": loaded.index.engine,
        "sub_batch": prefix.sub_batch,
        "device": device.arithmetic(prefix.device),
        "codecs": decoder_versions.codecs(),
    }
    return memo.fingerprint(values, [__name__], LIBRARIES)


def fill(
    loaded: LoadedNetwork,
    clean: Path,
    memos: ScoreMemos,
    ids: ScoredIds,
    paths: Sequence[Path] | None = None,
) -> None:
    """Compute what the memos lack.

    Args:
        paths: Some shards of `clean`; None for all.
    """
    for only, store in ((ids.mapped, memos), (ids.others, memos.scores)):
        names = [name for name in ("scores", "inputs") if store is memos or name == "scores"]
        mapping.remember(
            partial(_compute, loaded=loaded, names=names),
            clean,
            store,
            title=STAGE,
            only=only,
            paths=paths,
            most=mapping.CHUNK,
        )
    loaded.scoring.close()


def _compute(
    places: Sequence[Chunk], sizes: Iterator[int], loaded: LoadedNetwork, names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    encoded, preprocess = EncodedImages.at(places), loaded.card.preprocess
    views = Views(encoded.ids, encoded, preprocess, None, [EVALUATION], loaded.index.seed)
    with device.explain_out_of_memory("lower images.size"):
        for values in loaded.scoring.activations(views, _ranges(sizes)):
            arrays = [_array(tensor) for tensor in values[: len(names)]]
            yield pa.RecordBatch.from_arrays(arrays, list(names))


def _ranges(sizes: Iterator[int]) -> Iterator[range]:
    start = 0
    for size in sizes:
        yield range(start, start + size)
        start += size


def _array(values: Tensor) -> pa.Array:
    """A column of lists, one per row of `values` (B, N)."""
    rows = values.cpu().numpy()
    return pa.FixedSizeListArray.from_arrays(shards.array(rows.ravel()), rows.shape[1])


def share(memos: ScoreMemos, ids: ScoredIds) -> SharedResults:
    """The scores as machines share them."""
    cache = open_shared_cache()
    if cache is None and not cluster.is_set():
        return SharedResults(None, STAGE, [])
    selections = [SharedSelection(memos.scores, ids.all), SharedSelection(memos.inputs, ids.mapped)]
    return SharedResults(cache, STAGE, selections)


def _work(loaded: LoadedNetwork, memos: ScoreMemos, inputs: EvaluationInputs) -> Work:
    """The scores, as machines of a cluster compute them."""

    def read_inputs(paths: Sequence[Path]) -> Mapping[str, bytes]:
        """The model, and split.csv of the test images in some shards, and of the first ones."""
        ids = pa.concat_arrays([shards.read(path).column("id") for path in paths])
        table = read_split(inputs.split_csv)
        table = table.where(pc.equal(table.splits, "test"))
        is_sent = pc.or_(pc.is_in(table.ids, ids), pc.is_in(table.ids, table.ids[:MAX_IMAGES]))
        small = [*inputs.models.iterdir(), inputs.features / feature_store.INDEX]
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder, "split.csv")
            write_split(part, table.where(is_sent))
            sent = {str(path): path.read_bytes() for path in small}
            return sent | {str(inputs.split_csv): part.read_bytes()}

    paths = [inputs.models, inputs.features, inputs.clean, inputs.split_csv]
    arguments = [*map(str, paths), "-", "-", "-", "-"]
    is_on_gpu = loaded.prefix.device.type == "cuda"
    return Work(STAGE, arguments, inputs.clean, read_inputs, memos.both, is_on_gpu)


@dataclass(frozen=True)
class RememberedScores:
    """The scores of all test images, in the order of split.csv."""

    memos: ScoreMemos
    keys: pa.Array

    def batches(self) -> Iterator[Tensor]:
        """Scores, float32 (B, classes)."""
        for start in range(0, len(self.keys), BATCH):
            yield _tensor(self.memos.scores.get(self.keys[start : start + BATCH]))

    def embedding(self) -> Tensor:
        """(M, F) Inputs of the last layer, of the first images."""
        return _tensor(self.memos.inputs.get(self.keys[:MAX_IMAGES]))


def _tensor(batch: pa.RecordBatch) -> Tensor:
    column = batch.column(0)
    values = np.from_dlpack(column.flatten()).reshape(len(column), column.type.list_size)
    return torch.from_numpy(values.copy())


def remember_scores(
    loaded: LoadedNetwork, inputs: EvaluationInputs, examples: Examples
) -> RememberedScores:
    """The scores of the test images; those that no machine has computed are computed here."""
    rows = examples.rows("test")
    ids, memos = ScoredIds(examples.ids.take(shards.array(rows))), ScoreMemos(loaded, inputs)
    shared = gather(_work(loaded, memos, inputs), partial(share, memos, ids))
    fill(loaded, inputs.clean, memos, ids)
    shared.offer(shards.paths(inputs.clean))
    return RememberedScores(memos, examples.keys_of(rows))
