"""New images: read as `predict` reads them, then judged and computed as the stages do.

The judgements and features of images that the stages, or an earlier `drift`, have computed are
remembered.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pipeline.commands.drift.sample import Rows, Values
from pipeline.core import columns, shards
from pipeline.core.errors import PipelineError
from pipeline.core.progress import bar
from pipeline.images.key_index import KeySet
from pipeline.images.memo import Memo
from pipeline.inference.inputs import LIMITS, ImageInputs
from pipeline.network.feature_arrays import Array
from pipeline.network.feature_maps import average_maps
from pipeline.network.feature_store import chunks
from pipeline.network.loading.parallel_forward import Tensors
from pipeline.network.views import EVALUATION
from pipeline.params import FilterParams, Params
from pipeline.stages.evaluate.intervals import Groups, number_groups
from pipeline.stages.evaluate.loaded_network import LoadedNetwork
from pipeline.stages.features.compute import FeatureSettings, fill, open_memo
from pipeline.stages.filter.verdicts import Verdicts, judge_images

KNOWN, REPEATED = "in the data set", "given twice"  # beside reasons of stage filter
LABEL = "new"  # raw shards need one; nothing reads it


class RememberedFeatures:
    """Features of some images in a memo, as a `feature_store.Source`; a row is a position."""

    def __init__(self, memo: Memo, keys: pa.Array, network: LoadedNetwork) -> None:
        self._memo, self._keys = memo, keys
        self._shapes = network.index.shapes
        self._device = network.prefix.device
        self.sub_batch = network.prefix.sub_batch

    def batches(self, order: Sequence[Rows], view: int) -> Iterator[Tensors]:
        """Tensors (B, ...) for each array of rows, of the evaluation view."""
        assert view == EVALUATION
        for rows in order:
            yield tuple(
                torch.from_numpy(values.copy()).float().to(self._device)
                for values in self._read(rows)  # a view of the memo's file is read-only
            )

    def values(self) -> Values:
        """(N, D) All features; maps of features are averaged."""
        parts = []
        for rows in chunks(np.arange(len(self._keys)), self.sub_batch, least=1):
            flat = [average_maps(values.astype(np.float32)) for values in self._read(rows)]
            parts.append(np.concatenate(flat, axis=1))
        return np.concatenate(parts)

    def _read(self, rows: Rows) -> list[Array]:
        batch = self._memo.get(self._keys.take(shards.array(rows)))
        return [
            batch.column(f"tensor_{number}").flatten().to_numpy().reshape(len(rows), *shape)
            for number, shape in enumerate(self._shapes)
        ]


@dataclass(frozen=True)
class NewImages:
    """Images that can be compared with those of the data set."""

    ids: list[str]
    names: list[str]
    groups: Groups
    """(N,) Near-duplicates of each other are of one group."""
    features: RememberedFeatures
    left_out: Counter[str]
    """Images that are not compared, by the reason."""
    clean: Path
    """The folder of their shards."""

    def __len__(self) -> int:
        return len(self.ids)


class NewImageReader:
    """Reads new images into a folder, and computes what is not remembered of them."""

    def __init__(self, folder: Path, network: LoadedNetwork, params: Params) -> None:
        """`folder` is for shards of the images."""
        self._folder, self._network, self._params = folder, network, params
        self._left_out: Counter[str] = Counter()

    def read(self, paths: Sequence[str], known: KeySet) -> NewImages:
        """Read the images at `paths`, without those with an id in `known`.

        Raises:
            PipelineError: none is left.
        """
        raw, clean = self._folder / "raw", self._folder / "clean"
        count = shards.write(raw, shards.RAW, self._rows(paths, known))
        self._require(count)
        verdicts = judge_images(raw, {}, _filter_params(self._params))
        self._require(shards.write_batches(clean, shards.CLEAN, self._clean_batches(verdicts)))
        table = shards.columns(clean, ["id", "name", "near_group", shards.STORED])
        ids, stored = (columns.contiguous(table.column(name)) for name in ("id", shards.STORED))
        return NewImages(
            ids.to_pylist(),
            table.column("name").to_pylist(),
            number_groups(pc.coalesce(table.column("near_group"), ids)),
            self._compute(clean, ids, shards.join_keys(ids, stored)),
            self._left_out,
            clean,
        )

    def _rows(self, paths: Sequence[str], known: KeySet) -> Iterator[dict[str, object]]:
        """Yield rows of raw shards; count what is left out."""
        seen: set[str] = set()
        with (
            bar("drift: read", 0) as progress,
            ImageInputs(sys.stdin.buffer, LIMITS, progress.add_to_total) as inputs,
        ):
            for image in inputs.images(paths):
                progress.update()
                if isinstance(image.content, str):
                    self._left_out[image.content] += 1
                    continue
                key = shards.digest(image.content)
                is_known = bool(known.contains(columns.texts([key]))[0])
                if is_known or key in seen:
                    self._left_out[KNOWN if is_known else REPEATED] += 1
                    continue
                seen.add(key)
                yield {"id": key, "label": LABEL, "name": image.name, "bytes": image.content}

    def _clean_batches(self, verdicts: Verdicts) -> Iterator[pa.RecordBatch]:
        for batch in verdicts.batches():
            reasons = batch.column("reason")
            self._left_out.update(reasons.drop_null().to_pylist())
            clean = batch.select(shards.CLEAN.names).filter(reasons.is_null())
            if len(clean):
                yield clean

    def _require(self, count: int) -> None:
        if not count:
            reasons = ", ".join(f"{number} {name}" for name, number in self._left_out.most_common())
            raise PipelineError(f"there are no new images to compare ({reasons or 'no files'})")

    def _compute(self, clean: Path, ids: pa.Array, keys: pa.Array) -> RememberedFeatures:
        network = self._network
        settings = FeatureSettings(network.prefix, self._params.images, network.index)
        memo = open_memo(settings, EVALUATION)
        fill(settings, clean, {EVALUATION: memo}, KeySet(ids))
        network.prefix.close()
        return RememberedFeatures(memo, keys, network)


def _filter_params(params: Params) -> FilterParams:
    """As those of the data set, but near-duplicates are kept: they become groups."""
    return params.filter.model_copy(update={"near_duplicates": "keep"})
