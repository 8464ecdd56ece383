"""A trained model at work: pixels in, probabilities out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.images.pixels import Pixels
from pipeline.network import device, model_folder
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.halves import Halves, cut_as_trained
from pipeline.network.loading import parallel_forward
from pipeline.network.views import Views
from pipeline.params import DeviceParams

NOT_A_NUMBER = "not_a_number"  # the problem of an image whose probabilities are not finite
ANY = DeviceParams(accelerator="auto", devices=1, precision="32-true", compile=False)


def _differing_engine(recorded: str, prefix: FrozenPrefix) -> str:
    """A sentence if other software runs the frozen part than computed the features, else ""."""
    engine = prefix.engine
    if prefix.device.type != "cpu" or not engine or not recorded:
        return ""
    if engine.partition(" ")[0] == recorded.partition(" ")[0]:  # another version
        return ""
    return (
        f"{recorded} computed the features that this model was trained on, but cannot run here "
        f"({prefix.why}): {engine} runs the network, so probabilities may differ in the last digits"
    )


@dataclass(frozen=True)
class Classification:
    """Classes of one image, or why there are none."""

    top: tuple[tuple[str, float], ...] = ()
    """Classes and their probabilities, in 0..1, the most likely first."""
    problem: str | None = None
    """A reason, such as a `RejectReason` or `NOT_A_NUMBER`, if there are no classes."""

    @property
    def label(self) -> str | None:
        return self.top[0][0] if self.top else None

    @property
    def probability(self) -> float | None:
        """Of `label`, in 0..1."""
        return self.top[0][1] if self.top else None


class Classifier:
    """A loaded model, cut into prefix and suffix as in training and evaluation."""

    def __init__(self, directory: Path) -> None:
        """Raises PipelineError if `directory` has no valid model."""
        self.network, self.card = model_folder.load(directory)
        preprocess = self.card.preprocess
        halves = Halves(
            cut_as_trained(self.network, self.card),
            preprocess,
            device.start(ANY),
            self.card.precision,
            dtype="float32",
            engine=self.card.engine,
            padded=False,
        )
        self._prefix, self._suffix = halves.prefix, halves.suffix.eval()
        self.warning: str = _differing_engine(self.card.engine, self._prefix)
        self._view = preprocess.evaluation()

    def view(self, pixels: Pixels) -> Tensor:
        """Resize and crop for the network: uint8 (3, size, size)."""
        view: Tensor = self._view(torch.from_numpy(pixels).permute(2, 0, 1))
        return view

    @torch.inference_mode()
    def probabilities(self, views: Tensor) -> Tensor:
        """Calibrated, (B, C), on the CPU, for at most `SUB_BATCH` views: uint8 (B, 3, S, S)."""
        with device.explain_out_of_memory("use a machine that has more, or a smaller backbone"):
            scores = self._suffix(*self._prefix(views))
            probabilities: Tensor = (scores.float().cpu() / self.card.temperature).softmax(dim=1)
        return probabilities

    def all_probabilities(self, views: Views) -> Iterator[Tensor]:
        """Yield the probabilities of each view, (C,), in order."""
        order = [range(start, start + 1) for start in range(len(views))]
        work = lambda pixels: (self.probabilities(pixels),)  # noqa: E731
        for (probabilities,) in parallel_forward.overlapped(
            views, order, work, self._prefix.device
        ):
            yield probabilities[0]

    def classify(self, probabilities: Tensor, top_k: int) -> Classification:
        """The `top_k` most likely classes by the probabilities of one image, (C,).

        Weights that are finite can still give infinite scores, so there may be a problem instead.
        """
        if not probabilities.isfinite().all():
            return Classification(problem=NOT_A_NUMBER)
        values, indices = probabilities.topk(min(top_k, len(probabilities)))
        names = [self.card.classes[index] for index in indices]
        return Classification(tuple(zip(names, values.tolist(), strict=True)))
