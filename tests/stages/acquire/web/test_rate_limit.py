import threading
import time
from collections.abc import Callable

import pytest

from pipeline.stages.acquire.web.rate_limit import RateLimiter, default_limit

SLACK = 2.0  # seconds that a busy machine may add


def at_once(count: int, work: Callable[[], object]) -> list[float]:
    """Seconds after which each of `count` threads is done; their errors fail the test."""
    done: list[float] = []
    start = time.monotonic()

    def run() -> None:
        work()
        done.append(time.monotonic() - start)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(done)


def waited(limiter: RateLimiter, *hosts: str) -> float:
    """Seconds until each of the hosts may be asked, one after the other."""
    start = time.monotonic()
    for host in hosts:
        limiter.wait(host)
    return time.monotonic() - start


@pytest.mark.parametrize("threads", [1, 8, 64])
def test_a_limit_holds_however_many_threads_ask(threads: int) -> None:
    limiter = RateLimiter(100)
    moments: list[float] = []

    def ask() -> None:
        for _ in range(64 // threads):
            limiter.wait("a.example")
            moments.append(time.monotonic())

    assert at_once(threads, ask)[-1] >= 63 / 100
    # A thread may be held up between its turn and its note, so that two notes fall together.
    most = max(sum(start <= each < start + 0.1 for each in moments) for start in moments)
    assert most <= 2 * (0.1 * 100 + 1)


def test_a_limit_below_one_a_second_is_one() -> None:
    limiter = RateLimiter(1 / 0.3)
    limiter.wait("a.example")
    assert 0.29 <= waited(limiter, "a.example") < 0.3 + SLACK


def test_the_first_request_does_not_wait() -> None:
    assert waited(RateLimiter(0.01), "a.example") < SLACK


def test_hosts_are_paced_each_by_itself() -> None:
    limiter = RateLimiter(0.01)
    assert waited(limiter, "a.example", "b.example", "c.example") < SLACK


def test_zero_is_no_limit() -> None:
    limiter = RateLimiter(0)
    assert waited(limiter, *["live.staticflickr.com"] * 1000) < SLACK


@pytest.mark.parametrize(
    ("host", "limit"),
    [
        ("staticflickr.com", 10),
        ("live.staticflickr.com", 10),
        ("farm9.staticflickr.com", 10),
        ("api.flickr.com", 1),
        ("www.flickr.com", None),
        ("notstaticflickr.com", None),
        ("staticflickr.com.example", None),
        ("example.org", None),
        ("", None),
    ],
)
def test_the_usual_limit_of_a_host(host: str, limit: float | None) -> None:
    assert default_limit(host) == limit


def test_without_a_limit_the_usual_one_holds() -> None:
    limiter = RateLimiter(None)
    assert waited(limiter, *["live.staticflickr.com"] * 4) >= 0.3
    assert waited(limiter, *["example.org"] * 1000) < SLACK


def test_a_limit_that_is_set_takes_the_place_of_the_usual_one() -> None:
    limiter = RateLimiter(1000)
    assert waited(limiter, *["api.flickr.com"] * 10) < SLACK


@pytest.mark.parametrize("limit", [0, 1000])
def test_a_silence_holds_for_all_threads_of_a_host(limit: float) -> None:
    limiter = RateLimiter(limit)
    limiter.pause("a.example", 0.3)
    done = at_once(16, lambda: limiter.wait("a.example"))
    assert done[0] >= 0.29
    assert done[-1] < 0.3 + SLACK


def test_a_silence_is_for_one_host_alone() -> None:
    limiter = RateLimiter(0)
    limiter.pause("a.example", 60)
    assert waited(limiter, "b.example") < SLACK


def test_a_silence_passes() -> None:
    limiter = RateLimiter(0)
    limiter.pause("a.example", 0.1)
    limiter.wait("a.example")
    assert waited(limiter, *["a.example"] * 1000) < SLACK


def test_a_shorter_silence_does_not_end_a_longer_one() -> None:
    limiter = RateLimiter(0)
    limiter.pause("a.example", 0.3)
    limiter.pause("a.example", 0.01)
    assert waited(limiter, "a.example") >= 0.29


def test_a_silence_that_comes_while_a_thread_waits_is_kept_by_it() -> None:
    limiter = RateLimiter(0)
    limiter.pause("a.example", 0.1)
    later = threading.Timer(0.05, limiter.pause, ("a.example", 0.3))
    later.start()
    assert waited(limiter, "a.example") >= 0.34
    later.join()


@pytest.mark.parametrize("limit", [0, 0.01])
def test_stopping_frees_all_who_wait(limit: float) -> None:
    limiter = RateLimiter(limit)
    limiter.pause("a.example", 60)
    threading.Timer(0.05, limiter.stopped.set).start()
    assert at_once(64, lambda: limiter.wait("a.example"))[-1] < SLACK


@pytest.mark.parametrize("limit", [0, 0.01])
def test_nobody_waits_any_more_once_all_is_stopped(limit: float) -> None:
    limiter = RateLimiter(limit)
    limiter.stopped.set()
    limiter.pause("a.example", 60)
    assert waited(limiter, *["a.example"] * 100) < SLACK
