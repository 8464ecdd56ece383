"""A trained model at work: pixels in, probabilities out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.images.decoding import Pixels
from pipeline.network import device, model_folder, parallel_forward
from pipeline.network.halves import Halves, cut_as_trained
from pipeline.network.views import Views
from pipeline.params import DeviceParams

ANY = DeviceParams(accelerator="auto", devices=1, precision="32-true", compile=False)


@dataclass(frozen=True)
class Classification:
    """What the model says of one image, or why it cannot."""

    top: tuple[tuple[str, float], ...] = ()
    """Classes and their probabilities, in 0..1, the likeliest first."""
    problem: str | None = None
    """A reason, such as those of `header.Reason`, where there is no answer."""

    @property
    def label(self) -> str | None:
        return self.top[0][0] if self.top else None

    @property
    def probability(self) -> float | None:
        """Of `label`, in 0..1."""
        return self.top[0][1] if self.top else None


class Classifier:
    """A model folder, ready to predict, in halves as it was trained and evaluated."""

    def __init__(self, directory: Path) -> None:
        """Raises PipelineError where `directory` holds no sound model."""
        self.network, self.card = model_folder.load(directory)
        preprocess = self.card.preprocess
        halves = Halves(
            cut_as_trained(self.network, self.card),
            preprocess,
            device.start(ANY),
            self.card.precision,
            dtype="float32",
        )
        self._prefix, self._suffix = halves.prefix, halves.suffix.eval()
        self._prefix.prepare()  # now, and not in several threads
        self._view = preprocess.evaluation()

    def view(self, pixels: Pixels) -> Tensor:
        """What the network is shown of an image: uint8 (3, size, size)."""
        found: Tensor = self._view(torch.from_numpy(pixels).permute(2, 0, 1))
        return found

    @torch.inference_mode()
    def probabilities(self, views: Tensor) -> Tensor:
        """Of at most `feed.PART` views, uint8 (B, 3, S, S): calibrated, (B, C), on the CPU."""
        with device.explain_out_of_memory("use a machine that has more, or a smaller backbone"):
            scores = self._suffix(*self._prefix(views, padded=False))
            chances: Tensor = (scores.float().cpu() / self.card.temperature).softmax(dim=1)
        return chances

    def all_probabilities(self, views: Views) -> Iterator[Tensor]:
        """Of each view, (C,), in order."""
        order = [range(start, start + 1) for start in range(len(views))]
        work = lambda pixels: (self.probabilities(pixels),)  # noqa: E731
        for (chances,) in parallel_forward.overlapped(views, order, work, self._prefix.device):
            yield chances[0]

    def answer(self, chances: Tensor, top_k: int) -> Classification:
        """The likeliest `top_k` classes of one image's probabilities (C,)."""
        values, places = chances.topk(min(top_k, len(chances)))
        names = [self.card.classes[place] for place in places]
        return Classification(tuple(zip(names, values.tolist(), strict=True)))
