"""What the service counts, in the text format of Prometheus.

Source: prometheus.io/docs/instrumenting/exposition_formats
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # upper bounds of buckets
BATCHES = (1, 2, 4, 8, 16)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "pipeline_serve_"


class Histogram:
    """Counts values in buckets."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        """Its samples; a bucket includes those below it."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """Counters of a service; several threads may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._images: Counter[str] = Counter()
        self._seconds = Histogram(SECONDS)
        self._batches = Histogram(BATCHES)
        self._swaps = 0
        self.gauges: dict[str, Callable[[], float]] = {}
        """Functions that return a current value."""

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a reply; the time of those to /predict that succeeded is measured."""
        with self._lock:
            self._requests[path, status] += 1
            if path == "/predict" and status < 400:
                self._seconds.add(seconds)

    def count_batch(self, problems: list[str | None]) -> None:
        """Count a batch by the problem of each image, None if it has classes."""
        with self._lock:
            self._batches.add(len(problems))
            self._images.update(problem or "answered" for problem in problems)

    def count_swap(self) -> None:
        """Count that a model replaced another."""
        with self._lock:
            self._swaps += 1

    def text(self) -> str:
        """All of them."""
        with self._lock:
            return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        yield from _type("requests_total", "counter")
        for (path, status), count in sorted(self._requests.items()):
            yield f'{PREFIX}requests_total{{path="{path}",status="{status}"}} {count}'
        yield from _type("images_total", "counter")
        for result, count in sorted(self._images.items()):
            yield f'{PREFIX}images_total{{result="{result}"}} {count}'
        for name, histogram in (("seconds", self._seconds), ("batch_images", self._batches)):
            yield from _type(name, "histogram")
            yield from histogram.lines(PREFIX + name)
        yield from _type("model_swaps_total", "counter")
        yield f"{PREFIX}model_swaps_total {self._swaps}"
        for name, value in self.gauges.items():
            yield from _type(name, "gauge")
            yield f"{PREFIX}{name} {value():g}"


def _type(name: str, kind: str) -> Iterator[str]:
    yield f"# TYPE {PREFIX}{name} {kind}"
