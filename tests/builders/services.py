"""Parts of `pipeline serve` in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.commands.serve.batching import Batcher, ServedModel
from pipeline.commands.serve.limits import Limits
from pipeline.commands.serve.metrics import Metrics
from pipeline.commands.serve.training_images import TrainingImages
from pipeline.inference.answer_log import AnswerLog
from pipeline.inference.classifier import Classifier
from pipeline.inference.decoder_pool import DecoderPool


def load_model(
    folder: Path, name: str = "stripes version 1", training: TrainingImages | None = None
) -> ServedModel:
    return ServedModel(Classifier(folder), name, training)


@contextmanager
def running_batcher(
    model: ServedModel,
    lanes: int = 2,
    max_waiting: int = Limits().waiting_images,
    log: AnswerLog | None = None,
) -> Iterator[Batcher]:
    with DecoderPool(processes=1) as decoders:
        decoders.start()
        decoders.wait()
        batcher = Batcher(model, decoders, max_waiting, Metrics(), log)
        batcher.start(lanes)
        try:
            yield batcher
        finally:
            batcher.close()
