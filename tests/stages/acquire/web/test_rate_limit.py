import threading
import time
from collections.abc import Callable

import pytest

from pipeline.stages.acquire.web.rate_limit import RateLimiter, default_limit

SLACK = 2.0  # seconds of delay on a busy machine


def run_threads(count: int, work: Callable[[], object]) -> list[float]:
    """Return after how many seconds each of `count` threads ends, sorted."""
    durations: list[float] = []
    start = time.monotonic()

    def run() -> None:
        work()
        durations.append(time.monotonic() - start)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(durations)


def wait_for(limiter: RateLimiter, *hosts: str) -> float:
    """Wait for each of the hosts in turn; return the seconds."""
    start = time.monotonic()
    for host in hosts:
        limiter.wait(host)
    return time.monotonic() - start


@pytest.mark.parametrize("threads", [1, 16])
def test_a_limit_holds_for_any_number_of_threads(threads: int) -> None:
    limiter = RateLimiter(200)
    moments: list[float] = []

    def work() -> None:
        for _ in range(64 // threads):
            limiter.wait("a.example")
            moments.append(time.monotonic())

    assert run_threads(threads, work)[-1] >= 63 / 200
    # Twice the limit, as a thread may be delayed between its turn and its entry in `moments`.
    peak = max(sum(start <= moment < start + 0.1 for moment in moments) for start in moments)
    assert peak <= 2 * (0.1 * 200 + 1)


def test_a_second_request_waits() -> None:
    limiter = RateLimiter(1 / 0.1)
    limiter.wait("a.example")
    assert 0.09 <= wait_for(limiter, "a.example") < 0.1 + SLACK


def test_the_first_request_does_not_wait() -> None:
    assert wait_for(RateLimiter(0.01), "a.example") < SLACK


def test_each_host_has_its_own_limit() -> None:
    limiter = RateLimiter(0.01)
    assert wait_for(limiter, "a.example", "b.example", "c.example") < SLACK


def test_zero_is_no_limit() -> None:
    limiter = RateLimiter(0)
    assert wait_for(limiter, *["live.staticflickr.com"] * 1000) < SLACK


@pytest.mark.parametrize(
    ("host", "limit"),
    [
        ("staticflickr.com", 10),
        ("live.staticflickr.com", 10),
        ("api.flickr.com", 1),
        ("www.flickr.com", None),
        ("notstaticflickr.com", None),
        ("staticflickr.com.example", None),
        ("example.org", None),
    ],
)
def test_the_default_limit_of_a_host(host: str, limit: float | None) -> None:
    assert default_limit(host) == limit


def test_none_means_the_default_limits() -> None:
    limiter = RateLimiter(None)
    assert wait_for(limiter, *["live.staticflickr.com"] * 3) >= 0.2
    assert wait_for(limiter, *["example.org"] * 1000) < SLACK


def test_a_limit_overrides_the_default() -> None:
    limiter = RateLimiter(1000)
    assert wait_for(limiter, *["api.flickr.com"] * 10) < SLACK


@pytest.mark.parametrize("limit", [0, 1000])
def test_a_pause_holds_for_all_threads(limit: float) -> None:
    limiter = RateLimiter(limit)
    limiter.pause("a.example", 0.1)
    durations = run_threads(16, lambda: limiter.wait("a.example"))
    assert durations[0] >= 0.09
    assert durations[-1] < 0.1 + SLACK


def test_a_pause_is_for_one_host() -> None:
    limiter = RateLimiter(0)
    limiter.pause("a.example", 60)
    assert wait_for(limiter, "b.example") < SLACK


def test_a_pause_ends() -> None:
    limiter = RateLimiter(0)
    limiter.pause("a.example", 0.1)
    limiter.wait("a.example")
    assert wait_for(limiter, *["a.example"] * 1000) < SLACK


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    limiter = RateLimiter(0)
    limiter.pause("a.example", 0.1)
    limiter.pause("a.example", 0.01)
    assert wait_for(limiter, "a.example") >= 0.09


def test_a_pause_extends_a_wait_in_progress() -> None:
    limiter = RateLimiter(0)
    limiter.pause("a.example", 0.1)
    later = threading.Timer(0.05, limiter.pause, ("a.example", 0.3))
    later.start()
    assert wait_for(limiter, "a.example") >= 0.34
    later.join()


@pytest.mark.parametrize("limit", [0, 0.01])
def test_stopping_ends_all_waits(limit: float) -> None:
    limiter = RateLimiter(limit)
    limiter.pause("a.example", 60)
    threading.Timer(0.05, limiter.stopped.set).start()
    assert run_threads(64, lambda: limiter.wait("a.example"))[-1] < SLACK


@pytest.mark.parametrize("limit", [0, 0.01])
def test_a_stopped_limiter_does_not_wait(limit: float) -> None:
    limiter = RateLimiter(limit)
    limiter.stopped.set()
    limiter.pause("a.example", 60)
    assert wait_for(limiter, *["a.example"] * 100) < SLACK
