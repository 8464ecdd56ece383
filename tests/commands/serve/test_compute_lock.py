"""A network is traced while others compute."""

import threading
from pathlib import Path

import torch

from pipeline.commands.serve.compute_lock import ComputeLock
from pipeline.inference.classifier import Classifier
from pipeline.network.halves import cut_as_trained


def test_tracing_a_network_disturbs_no_thread_that_computes(striped_model: Path) -> None:
    folder, lock = striped_model / "models", ComputeLock()
    classifier = Classifier(folder)
    views = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    expected = classifier.probabilities(views)
    stopped, wrong = threading.Event(), []

    def compute() -> None:
        while not stopped.is_set():
            try:
                with lock.computing():
                    probabilities = classifier.probabilities(views)
                assert torch.equal(probabilities, expected)
            except Exception as error:  # noqa: BLE001 # of the tracer's, of any kind
                wrong.append(error)
                return

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with lock.tracing():
            cut_as_trained(classifier.network, classifier.card)
    stopped.set()
    for thread in threads:
        thread.join()
    assert wrong == []
