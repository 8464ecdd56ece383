"""The served model: loaded, and replaced when the alias that names it moves."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.commands.serve.batching import Batcher, ServedModel
from pipeline.commands.serve.compute_lock import ComputeLock
from pipeline.commands.serve.metrics import Metrics
from pipeline.commands.serve.training_images import TrainingImages
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import one_line, print_line, warn
from pipeline.inference import registered_models
from pipeline.inference.classifier import Classifier

if TYPE_CHECKING:
    from pipeline.tracking.registry import Version

CHECK_SECONDS = 3


class ModelSource:
    """Loads the model at an address: a folder, or a registered model.

    `@champion` means the champion of the data set that params.yaml had at the start.
    """

    def __init__(self, address: str, data: Path | None = None) -> None:
        """
        Args:
            data: The folder of the data that the model may have been trained on: see
                `TrainingImages`. None if its images are not to be shown.
        """
        self._data = data
        self.lock: ComputeLock | None = None
        """Of those that compute while a model is loaded; None if there are none."""
        self._threads = torch.get_num_threads()
        self._folder = None if registered_models.is_registered(address) else Path(address)
        self.is_alias = registered_models.is_alias(address)
        self._address = address
        self._version: Version | None = None  # that was loaded last

    def load(self) -> ServedModel | None:
        """The model; None if it is the one that was loaded last.

        Raises:
            PipelineError: there is none, it is damaged, or MLflow cannot be reached.
        """
        if self._folder is not None:
            return self._load(self._folder, self._folder.name)
        version = registered_models.find_version(self._address)
        if self._version is not None and self._version.number == version.number:
            return None
        model = self._load(registered_models.fetch(version), f"{version.name} {version}")
        if self.is_alias:
            alias = self._address.rpartition("@")[2]
            self._address = f"{version.name}@{alias}"
        self._version = version
        return model

    def _load(self, folder: Path, name: str) -> ServedModel:
        # The engine will compute as many images at a time as torch has threads here, which
        # another thread may have limited to one.
        torch.set_num_threads(self._threads)
        try:
            classifier = Classifier(folder, self.lock.tracing() if self.lock else None)
        finally:
            torch.set_num_threads(1)
        if classifier.warning:
            warn(classifier.warning)
        size = classifier.card.preprocess.size
        classifier.compute_independently(torch.zeros(1, 3, size, size, dtype=torch.uint8))
        return ServedModel(classifier, name, *self._open_training(classifier))

    def _open_training(self, classifier: Classifier) -> tuple[TrainingImages | None, str]:
        """The images that the model was trained on, if they are there, and ServedModel.note."""
        if self._data is None:
            return None, ""
        try:
            training = TrainingImages(self._data)
            training.check_model(classifier)
        except PipelineError as error:
            return None, f"; the page shows no training images: {error}"
        return training, f"; the page shows the nearest of {training}"


class ModelWatcher:
    """Replaces the model of a batcher when the alias moves; requests notice nothing."""

    def __init__(self, source: ModelSource, batcher: Batcher, metrics: Metrics) -> None:
        self._source, self._batcher, self._metrics = source, batcher, metrics
        self._stopped = threading.Event()
        self._trouble = ""

    def start(self) -> None:
        """Look every few seconds, in a thread."""
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(CHECK_SECONDS):
            self.check()

    def check(self) -> None:
        """Load the model if the alias has moved; a failure is a warning."""
        try:
            model = self._source.load()
        except Exception as error:  # noqa: BLE001 # each kind of storage has its own errors
            self._warn(error)
            return
        self._trouble = ""
        if model is not None:
            self._batcher.model = model
            self._metrics.count_swap()
            print_line(f"serve: now {model.name}{model.note}")

    def _warn(self, error: Exception) -> None:
        kind = "" if isinstance(error, PipelineError) else f"{type(error).__name__}: "
        if kind + str(error) != self._trouble:  # once for each outage
            self._trouble = kind + str(error)
            warn(f"{kind}{one_line(error)}; {self._batcher.model.name} goes on answering")
