"""A trained model at work: pixels in, probabilities out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.images.pixels import Pixels
from pipeline.inference.candidate_classes import CandidateClasses
from pipeline.network import device, model_folder, scoring
from pipeline.network.evaluated_suffix import capture_inputs, captured_inputs
from pipeline.network.frozen_prefix import FrozenPrefix
from pipeline.network.halves import Halves, cut_as_trained
from pipeline.network.loading import parallel_forward
from pipeline.network.loading.parallel_forward import SUB_BATCH
from pipeline.network.views import Preprocess, Views
from pipeline.params import DeviceParams

NOT_A_NUMBER = "not_a_number"  # the problem of an image whose probabilities are not finite
ANY = DeviceParams(accelerator="auto", devices=1, nodes=1, precision="32-true", compile=False)


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
class Outputs:
    """What a model computes of B images."""

    probabilities: Tensor
    """(B, C), calibrated."""
    sets: Tensor | None = None
    """(B, C) Whether each class is in the image's set; None if the model promises nothing."""
    are_far: Tensor | None = None
    """(B,) Whether the image is far from all training images; likewise."""

    def rows(self) -> "Iterator[Outputs]":
        """Of each image alone."""
        for row in range(len(self.probabilities)):
            yield self.part(slice(row, row + 1))

    def part(self, rows: slice) -> "Outputs":
        """Of some images."""
        sets, are_far = self.sets, self.are_far
        if sets is None or are_far is None:
            return Outputs(self.probabilities[rows])
        return Outputs(self.probabilities[rows], sets[rows], are_far[rows])


@dataclass(frozen=True)
class Classification:
    """Classes of one image, or why there are none."""

    top: tuple[tuple[str, float], ...] = ()
    """Classes and their probabilities, in 0..1, the most likely first."""
    candidates: CandidateClasses | None = None
    """The classes that it may be, if the model promises anything about them."""
    problem: str | None = None
    """A reason, such as a `RejectReason` or `NOT_A_NUMBER`, if there are no classes."""

    @property
    def label(self) -> str | None:
        return self.top[0][0] if self.top else None

    @property
    def probability(self) -> float | None:
        """Of `label`, in 0..1."""
        return self.top[0][1] if self.top else None

    def record(self) -> dict[str, Any]:
        """The facts as JSON has them; of candidates None if the model promises nothing."""
        candidates = self.candidates
        return {
            "label": self.label,
            "probability": self.probability,
            "problem": self.problem,
            "set": None if candidates is None else list(candidates.labels),
            "none_of_these": None if candidates is None else candidates.is_none_of_these,
        }


class Classifier:
    """A loaded model, cut into prefix and suffix as in training and evaluation."""

    def __init__(
        self, directory: Path, tracing: AbstractContextManager[None] | None = None
    ) -> None:
        """
        Args:
            tracing: Entered while torch.fx traces the network: no other thread may run one then.

        Raises:
            PipelineError: `directory` has no valid model.
        """
        self.network, self.card = model_folder.load(directory)
        preprocess = self.card.preprocess
        with tracing or nullcontext():
            network_cut = cut_as_trained(self.network, self.card)
        halves = Halves(
            network_cut,
            preprocess,
            device.start(ANY),
            self.card.precision,
            dtype="float32",
            engine=self.card.engine,
            padded=False,
        )
        self._prefix, self._suffix = halves.prefix, halves.suffix.eval()
        self._rule = model_folder.load_abstention(directory, self.card)
        if self._rule is not None:
            capture_inputs(self.network.get_submodule(self.card.replaced))
        self.warning: str = _differing_engine(self.card.engine, self._prefix)
        self._view = preprocess.evaluation()

    def watch(self, use: Callable[[Sequence[Tensor]], None]) -> None:
        """Have `use` called with the inputs of the trained part, in the thread that computes."""
        self._suffix.register_forward_pre_hook(lambda _, inputs: use(inputs))

    def is_frozen_as(self, prefix: str, preprocess: Preprocess) -> bool:
        """Whether the frozen part and its input are those of some features.

        Args:
            prefix: As Index.prefix.
        """
        return self.card.preprocess == preprocess and self._prefix.digest() == prefix

    def view(self, pixels: Pixels) -> Tensor:
        """Resize and crop for the network: uint8 (3, size, size)."""
        view: Tensor = self._view(torch.from_numpy(pixels).permute(2, 0, 1))
        return view

    @torch.inference_mode()
    def compute(self, views: Tensor) -> Outputs:
        """On the CPU, for at most `SUB_BATCH` views: uint8 (B, 3, S, S)."""
        with device.explain_out_of_memory("use a machine that has more, or a smaller backbone"):
            scores = self._suffix(*self._prefix(views)).cpu()
            probabilities = scoring.calibrated(scores, self.card.temperature)
            if self._rule is None:
                return Outputs(probabilities)
            return Outputs(probabilities, *self._rule(probabilities, captured_inputs().cpu()))

    def compute_independently(self, views: Tensor) -> Outputs:
        """Like `compute`, but those of a view have the same bits whatever the others are.

        A CPU computes each view alone. On a GPU that is slow: there a batch has always as many.
        """
        if self._prefix.device.type == "cpu":
            return join([self.compute(view[None]) for view in views])
        padding = views.new_zeros(SUB_BATCH - len(views), *views.shape[1:])
        return self.compute(torch.cat([views, padding])).part(slice(len(views)))

    def probabilities(self, views: Tensor) -> Tensor:
        """Calibrated, (B, C), on the CPU, for at most `SUB_BATCH` views: uint8 (B, 3, S, S)."""
        return self.compute(views).probabilities

    def all_probabilities(self, views: Views) -> Iterator[Tensor]:
        """Yield the probabilities of each view, (C,), in order."""
        order = [range(start, start + 1) for start in range(len(views))]
        work = lambda pixels: (self.probabilities(pixels),)  # noqa: E731
        for (probabilities,) in parallel_forward.overlapped(
            views, order, work, self._prefix.device
        ):
            yield probabilities[0]

    def classify(self, outputs: Outputs, top_k: int) -> Classification:
        """The `top_k` most likely classes of one image.

        Weights that are finite can still give infinite scores, so there may be a problem instead.
        """
        (probabilities,) = outputs.probabilities
        if not probabilities.isfinite().all():
            return Classification(problem=NOT_A_NUMBER)
        values, indices = probabilities.topk(min(top_k, len(probabilities)))
        names = [self.card.classes[index] for index in indices]
        top = tuple(zip(names, values.tolist(), strict=True))
        return Classification(top, self._candidates(outputs))

    def _candidates(self, outputs: Outputs) -> CandidateClasses | None:
        promises, sets, are_far = self.card.abstention, outputs.sets, outputs.are_far
        if promises is None or sets is None or are_far is None:
            return None
        if are_far.item():
            return CandidateClasses((), promises.coverage)
        order = outputs.probabilities[0].argsort(descending=True, stable=True)
        members = order[sets[0, order]].tolist()
        names = tuple(self.card.classes[index] for index in members)
        return CandidateClasses(names, promises.coverage)


def join(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of all images of some batches."""
    sets = [part.sets for part in parts if part.sets is not None]
    are_far = [part.are_far for part in parts if part.are_far is not None]
    probabilities = torch.cat([part.probabilities for part in parts])
    if not sets:
        return Outputs(probabilities)
    return Outputs(probabilities, torch.cat(sets), torch.cat(are_far))
