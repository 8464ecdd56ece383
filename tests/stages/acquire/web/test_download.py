import gzip
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.core.errors import PipelineError
from pipeline.params import AcquireParams
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.stages.acquire.web.download import ExpectedFile, download
from pipeline.stages.acquire.web.retry import Policy
from tests import ROOT
from tests.builders.params import ACQUIRE_PARAMS
from tests.fakes import faults
from tests.fakes.faults import DROP, Fault, always, cut, first_of, header, once, redirect, status
from tests.fakes.flickr import FakeFlickr
from tests.fakes.wire import Wire, chunked, reply

DATA = random.Random(0).randbytes(50_000)
OTHER = random.Random(1).randbytes(50_000)
NAME = "photos.zip"
POLICY = Policy(connect_timeout=5, read_timeout=5, attempts=2, pause=0.01)
HASTY = Policy(connect_timeout=1, read_timeout=0.3, attempts=2, pause=0.01)
"""For servers that are slow on purpose; POLICY tolerates a busy machine."""

NOTHING = ExpectedFile()


pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def fake() -> Iterator[FakeFlickr]:
    with FakeFlickr() as fake:
        yield fake


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


EXPECTED = ExpectedFile(sha256=sha256(DATA))
ZEROS = ExpectedFile(sha256="0" * 64)


def get(
    url: str,
    expected: ExpectedFile = NOTHING,
    max_bytes: float = 1e9,
    params: AcquireParams = ACQUIRE_PARAMS,
    policy: Policy = POLICY,
) -> Path:
    with Client(params, policy) as client, ContentStore() as store:
        return download(url, expected, client, store, max_bytes)


def error_of(
    url: str,
    expected: ExpectedFile = NOTHING,
    max_bytes: float = 1e9,
    params: AcquireParams = ACQUIRE_PARAMS,
    policy: Policy = POLICY,
) -> str:
    with pytest.raises(PipelineError) as caught:
        get(url, expected, max_bytes, params, policy)
    return str(caught.value)


def ranges(fake: FakeFlickr) -> list[str | None]:
    """The Range header of each request."""
    return [request.headers.get("Range") for request in fake.requests]


def stored_names(root: Path) -> list[str]:
    """Names of the files in the store, without its index, locks and sidecars."""
    files = [path for path in (root / ".cache/acquire").rglob("*") if path.is_file()]
    return [
        path.name
        for path in files
        if not path.name.startswith("index")
        and path.suffix not in {".lock", ".about"}
        and path.name != "lock"
    ]


def delete_archives(root: Path) -> None:
    """As a user may do to free disk space; the index still has their digests."""
    shutil.rmtree(root / ".cache/acquire/files")


def interrupt_download(fake: FakeFlickr, fault: Fault, expected: ExpectedFile = NOTHING) -> str:
    """Return the URL of a file that a failed run downloaded partly."""
    url = fake.serve(NAME, DATA)
    fake.plan = once(NAME, fault, DROP, DROP, DROP, DROP)
    error_of(url, expected)
    fake.plan = None
    fake.requests.clear()
    return url


NO_VALIDATOR = (("Etag", ""), ("Last-Modified", ""), ("ETag", ""))


# Complete downloads.


def test_a_file_is_fetched_into_the_store(fake: FakeFlickr, root: Path) -> None:
    path = get(fake.serve(NAME, DATA))
    assert path.read_bytes() == DATA
    assert stored_names(root) == [sha256(DATA)]
    assert path.is_relative_to(root / ".cache/acquire")


@pytest.mark.parametrize("expected", [NOTHING, EXPECTED])
def test_a_stored_file_is_not_requested_again(fake: FakeFlickr, expected: ExpectedFile) -> None:
    url = fake.serve(NAME, DATA)
    first = get(url, expected)
    fake.plan = always("", DROP)
    assert get(url, expected) == first
    assert len(fake.requests) == 1


def test_a_damaged_stored_file_is_fetched_again_with_a_warning(
    fake: FakeFlickr, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = fake.serve(NAME, DATA)
    path = get(url, EXPECTED)
    path.write_bytes(DATA[:4096] + bytes(4096) + DATA[8192:])
    capsys.readouterr()
    assert get(url, EXPECTED).read_bytes() == DATA
    assert capsys.readouterr().err == f"warning: {path} is damaged: it is downloaded again\n"


def test_a_stored_file_with_the_checksum_is_used_for_another_url(fake: FakeFlickr) -> None:
    first = get(fake.serve(NAME, DATA))
    assert get("http://nowhere.invalid/mirror.zip", EXPECTED) == first


def test_each_url_is_downloaded(fake: FakeFlickr) -> None:
    first, second = get(fake.serve("a.zip", DATA)), get(fake.serve("b.zip", OTHER))
    assert (first.read_bytes(), second.read_bytes()) == (DATA, OTHER)


def test_a_redirect_is_followed(fake: FakeFlickr) -> None:
    fake.plan = once("a.zip", redirect(fake.serve(NAME, DATA)))
    assert get(fake.serve("a.zip", b"")).read_bytes() == DATA


def test_a_file_without_a_length_is_fetched() -> None:
    with Wire(reply(chunked(DATA), "Transfer-Encoding: chunked")) as wire:
        assert get(wire.url()).read_bytes() == DATA


def test_an_empty_file_is_fetched(fake: FakeFlickr) -> None:
    assert get(fake.serve(NAME, b"")).read_bytes() == b""


def test_the_sha256_of_a_first_download_is_printed(
    fake: FakeFlickr, capsys: pytest.CaptureFixture[str]
) -> None:
    url = fake.serve(NAME, DATA)
    message = f"acquire: {url} has sha256 {sha256(DATA)}; later downloads must match it\n"
    get(url)
    assert capsys.readouterr().out.endswith(message)
    get(url)
    assert "must match it" not in capsys.readouterr().out


def test_a_sha256_from_dataset_toml_is_not_printed(
    fake: FakeFlickr, capsys: pytest.CaptureFixture[str]
) -> None:
    get(fake.serve(NAME, DATA), EXPECTED)
    assert "must match it" not in capsys.readouterr().out


# Resumed downloads.


def test_a_broken_download_is_resumed(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = once(NAME, cut(20_000))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == [None, "bytes=20000-"]
    assert fake.requests[1].headers["If-Range"] == f'"{sha256(DATA)[:16]}"'


def test_the_next_run_resumes_a_download(fake: FakeFlickr) -> None:
    url = interrupt_download(fake, cut(20_000))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == ["bytes=20000-"]


def test_a_download_may_break_several_times(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = once(NAME, cut(10_000), cut(5_000), cut(500), cut(0), cut(30_000))
    assert get(url).read_bytes() == DATA
    assert ranges(fake)[1:] == [
        f"bytes={start}-" for start in (10_000, 15_000, 15_500, 15_500, 45_500)
    ]


def test_a_download_with_progress_is_never_given_up(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, cut(2_000))
    assert get(url).read_bytes() == DATA
    assert fake.requests[-1].headers["Range"] == "bytes=48000-"


def test_a_download_without_progress_is_given_up(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = first_of(once(NAME, cut(2_000)), always(NAME, cut(0)))
    message = error_of(url)
    assert message.startswith(f"{url} breaks the connection: try again, or use a copy")
    assert len(fake.requests) == 1 + 2 * POLICY.attempts - 1


def test_a_download_that_drips_is_given_up(fake: FakeFlickr) -> None:
    """Every attempt makes progress, but too slowly."""
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, faults.DRIP)
    thread = threading.Thread(target=error_of, args=(url,), kwargs={"policy": HASTY})
    thread.start()
    thread.join(10 * HASTY.attempts * HASTY.read_timeout)
    is_ended = not thread.is_alive()
    fake.plan = always(NAME, status(404))  # to end it in any case
    thread.join()
    assert is_ended


def test_a_download_is_resumed_after_a_reset(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = once(NAME, faults.RESET)
    assert get(url).read_bytes() == DATA


def test_a_broken_chunked_download_is_repeated() -> None:
    broken = reply(chunked(DATA)[:-1000], "Transfer-Encoding: chunked")
    with Wire(broken, reply(chunked(DATA), "Transfer-Encoding: chunked")) as wire:
        assert get(wire.url()).read_bytes() == DATA


def test_a_file_that_changed_in_between_is_started_over(fake: FakeFlickr) -> None:
    url = interrupt_download(fake, cut(20_000))
    fake.serve(NAME, OTHER)
    assert get(url).read_bytes() == OTHER
    assert ranges(fake) == ["bytes=20000-"]


def test_the_date_is_used_in_place_of_a_weak_etag(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA, etag='W/"same"')
    fake.plan = once(NAME, cut(20_000))
    assert get(url).read_bytes() == DATA
    assert fake.requests[1].headers["If-Range"] == "Fri, 14 Jul 2017 02:40:00 GMT"


def test_the_date_is_used_without_an_etag(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA, etag="")
    fake.plan = once(NAME, cut(20_000))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == [None, "bytes=20000-"]


def test_a_file_with_another_date_is_started_over(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA, etag="")
    fake.plan = once(NAME, cut(20_000), DROP, DROP, DROP)
    error_of(url)
    fake.plan = None
    fake.serve(NAME, OTHER, etag="", modified=1_600_000_000)
    assert get(url).read_bytes() == OTHER


def test_a_file_without_a_validator_is_started_over(fake: FakeFlickr) -> None:
    url = interrupt_download(fake, Fault(keep=20_000, headers=NO_VALIDATOR))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == [None]


def test_a_file_with_a_checksum_is_resumed_without_a_validator(fake: FakeFlickr) -> None:
    url = interrupt_download(fake, Fault(keep=20_000, headers=NO_VALIDATOR), EXPECTED)
    assert get(url, EXPECTED).read_bytes() == DATA
    assert ranges(fake) == ["bytes=20000-"]
    assert "If-Range" not in fake.requests[0].headers


def test_a_mix_of_two_files_fails_the_checksum_and_is_started_over(
    fake: FakeFlickr,
) -> None:
    expected = ExpectedFile(sha256=sha256(OTHER))
    url = interrupt_download(fake, Fault(keep=20_000, headers=NO_VALIDATOR), expected)
    fake.serve(NAME, OTHER)
    assert "the download is damaged" in error_of(url, expected)
    assert get(url, expected).read_bytes() == OTHER


def test_a_download_is_started_over_after_416(fake: FakeFlickr) -> None:
    url = interrupt_download(fake, cut(20_000))
    fake.serve(NAME, OTHER[:10_000], etag=f'"{sha256(DATA)[:16]}"')
    assert get(url).read_bytes() == OTHER[:10_000]
    assert ranges(fake) == ["bytes=20000-", None]


def test_a_server_without_ranges_sends_the_whole_file(fake: FakeFlickr) -> None:
    url = interrupt_download(fake, cut(20_000))
    fake.serve(NAME, DATA, ranges=False)
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == ["bytes=20000-"]


@pytest.mark.parametrize(
    "value",
    [
        "bytes 0-49999/50000",
        "bytes 30000-49999/50000",
        "bytes x-y/z",
        "",
        "bytes " + "9" * 5000 + "-1/2",
    ],
    ids=lambda value: value[:12],
)
def test_another_range_than_requested_is_discarded(fake: FakeFlickr, value: str) -> None:
    url = interrupt_download(fake, cut(20_000))
    fake.plan = once(NAME, header("Content-Range", value))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == ["bytes=20000-", None]


def test_an_unrequested_range_is_an_error(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, Fault(status=206, body=DATA[:100]))
    assert error_of(url).startswith(f"{url} answers 206 ")


def test_a_complete_partial_file_is_not_requested_again(fake: FakeFlickr, root: Path) -> None:
    """The process was killed between the last byte and the move into the store."""
    url = fake.serve(NAME, DATA)
    with ContentStore() as store:
        part = store.partial_path(url)
    part.write_bytes(DATA)
    part.with_suffix(".about").write_text(f'{len(DATA)} "etag"')
    assert get(url).read_bytes() == DATA
    assert fake.requests == []
    assert stored_names(root) == [sha256(DATA)]


@pytest.mark.parametrize("about", ["", "nonsense", "99999999 "])
def test_an_invalid_sidecar_is_ignored(fake: FakeFlickr, about: str) -> None:
    url = fake.serve(NAME, DATA)
    with ContentStore() as store:
        part = store.partial_path(url)
    part.write_bytes(b"of something else")
    part.with_suffix(".about").write_text(about)
    assert get(url).read_bytes() == DATA


def test_a_crash_before_the_truncation_does_not_mix_two_files(fake: FakeFlickr) -> None:
    """The server has a new file, and the process ends before it deletes the old part."""
    url = interrupt_download(fake, cut(20_000))
    with ContentStore() as store:
        part = store.partial_path(url)
    old = part.rename(part.with_suffix(".old"))
    part.mkdir()  # opening it fails
    fake.serve(NAME, OTHER)
    with pytest.raises(IsADirectoryError):
        get(url)
    part.rmdir()
    old.rename(part)
    assert get(url).read_bytes() == OTHER


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_an_archive_with_a_content_encoding_is_not_decompressed(encoding: str) -> None:
    """Some servers do that with .tar.gz; published checksums are of these bytes, as with curl."""
    data = gzip.compress(DATA)
    with Wire(reply(data, f"Content-Encoding: {encoding}")) as wire:
        path = get(wire.url("/a.tar.gz"), ExpectedFile(sha256=sha256(data)))
        assert path.read_bytes() == data


def test_an_archive_with_a_content_encoding_is_resumed(fake: FakeFlickr) -> None:
    data = gzip.compress(DATA)
    url = fake.serve(NAME, data)
    encoding = ("Content-Encoding", "gzip")
    fake.plan = first_of(
        once(NAME, Fault(keep=20_000, headers=(encoding,))),
        always(NAME, Fault(headers=(encoding,))),
    )
    assert get(url, ExpectedFile(sha256=sha256(data))).read_bytes() == data


# Refused downloads.


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (ExpectedFile(size=7), "has 50000 bytes, but dataset.toml says 7: "),
        (ZEROS, f"has sha256 {sha256(DATA)}, but dataset.toml says {'0' * 64}: "),
        (
            ExpectedFile(md5="0" * 32),
            f"has md5 {hashlib.md5(DATA).hexdigest()}, but dataset.toml says {'0' * 32}: ",
        ),
    ],
    ids=["size", "sha256", "md5"],
)
def test_an_unexpected_file_is_refused_and_deleted(
    fake: FakeFlickr, root: Path, expected: ExpectedFile, message: str
) -> None:
    url = fake.serve(NAME, DATA)
    assert error_of(url, expected) == (
        f"{url} {message}the download is damaged, or the file behind the address was replaced"
    )
    assert stored_names(root) == []
    with ContentStore() as store:
        assert store.find_sha256(url) is None


@pytest.mark.parametrize(
    "expected",
    [
        ExpectedFile(size=len(DATA)),
        EXPECTED,
        ExpectedFile(md5=hashlib.md5(DATA).hexdigest()),
        ExpectedFile(len(DATA), sha256(DATA), hashlib.md5(DATA).hexdigest()),
    ],
    ids=["size", "sha256", "md5", "all"],
)
def test_an_expected_file_is_stored(fake: FakeFlickr, expected: ExpectedFile) -> None:
    url = fake.serve(NAME, DATA)
    assert get(url, expected).read_bytes() == DATA
    assert get(url, expected).read_bytes() == DATA
    assert len(fake.requests) == 1


def test_a_stored_file_is_checked_against_a_changed_dataset_toml(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    get(url)
    assert "but dataset.toml says 7" in error_of(url, ExpectedFile(size=7))
    assert get(url).read_bytes() == DATA


def test_a_refused_file_is_fetched_again(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, OTHER)
    error_of(url, EXPECTED)
    fake.serve(NAME, DATA)
    assert get(url, EXPECTED).read_bytes() == DATA


def test_a_file_that_changed_since_it_was_first_fetched_is_refused(
    fake: FakeFlickr, root: Path
) -> None:
    url = fake.serve(NAME, DATA)
    get(url)
    delete_archives(root)
    fake.serve(NAME, OTHER)
    assert error_of(url) == (
        f"{url} has sha256 {sha256(OTHER)}, but the first download had {sha256(DATA)}: if "
        f'the change is intended, write sha256 = "{sha256(OTHER)}" in dataset.toml'
    )
    assert stored_names(root) == []


def test_a_changed_file_is_accepted_with_its_sha256_in_dataset_toml(
    fake: FakeFlickr, root: Path
) -> None:
    url = fake.serve(NAME, DATA)
    get(url)
    fake.serve(NAME, OTHER)
    assert get(url, ExpectedFile(sha256=sha256(OTHER))).read_bytes() == OTHER


def test_a_deleted_file_is_fetched_again(fake: FakeFlickr, root: Path) -> None:
    url = fake.serve(NAME, DATA)
    get(url)
    delete_archives(root)
    assert get(url).read_bytes() == DATA


@pytest.mark.parametrize("expected", [NOTHING, EXPECTED])
def test_a_truncated_file_is_fetched_again(fake: FakeFlickr, expected: ExpectedFile) -> None:
    url = fake.serve(NAME, DATA)
    os.truncate(get(url, expected), 1000)
    assert get(url, expected).read_bytes() == DATA


@pytest.mark.parametrize("length", ["stated", "unstated"])
def test_a_file_that_is_too_large_is_refused_and_deleted(root: Path, length: str) -> None:
    with_length = reply(DATA)
    in_chunks = reply(chunked(DATA), "Transfer-Encoding: chunked")
    with Wire(with_length if length == "stated" else in_chunks) as wire:
        message = error_of(wire.url(), max_bytes=49_999)
        assert len(wire.heads) == 1
    assert message == f"{wire.url()} is larger than 49999 bytes (acquire.max_gigabytes=4.9999e-05)"
    assert stored_names(root) == []


def test_a_file_may_be_as_large_as_the_limit(fake: FakeFlickr) -> None:
    assert get(fake.serve(NAME, DATA), max_bytes=50_000).read_bytes() == DATA


def test_a_resumed_file_that_is_too_large_is_refused(fake: FakeFlickr, root: Path) -> None:
    url = interrupt_download(fake, cut(20_000))
    assert "is larger than" in error_of(url, max_bytes=49_999)
    assert stored_names(root) == []


def test_an_endless_file_is_too_large(fake: FakeFlickr, root: Path) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, faults.CHUNKS)
    assert "is larger than 60000 bytes" in error_of(url, max_bytes=60_000)
    assert stored_names(root) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(404), "answers 404 Not Found"),
        (status(503), "answers 503 Service Unavailable"),
        (DROP, "cannot be reached"),
        (faults.STALL, "does not answer in time"),
        (cut(0), "breaks the connection"),
    ],
)
def test_a_failed_download_is_an_error_with_advice(
    fake: FakeFlickr, root: Path, fault: Fault, message: str
) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, fault)
    error = error_of(url, policy=HASTY)
    assert error == f"{url} {message}: try again, or use a copy with -S dataset.source=PATH"
    assert not (root / ".cache/acquire/files").exists()


def test_a_private_address_is_an_error_with_advice(fake: FakeFlickr) -> None:
    closed = ACQUIRE_PARAMS.model_copy(update={"allow_private": False})
    message = error_of(fake.serve(NAME, DATA), params=closed)
    assert message.endswith(": set acquire.allow_private=true if that is meant")
    assert fake.requests == []


def test_an_opt_out_is_an_error_with_advice(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, faults.NO_AI)
    assert error_of(url).endswith("leave it out, or set acquire.respect_robots=false")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "photos.zip", "", "http://[::1"])
def test_a_bad_address_is_refused(url: str) -> None:
    assert error_of(url).startswith(f"{url} is not an http or https address")


# Other processes.

DOWNLOAD = """
import sys
from pipeline.stages.acquire.web.download import ExpectedFile, download
from pipeline.stages.acquire.web.client import Client
from pipeline.stages.acquire.web.content_store import ContentStore
from pipeline.params import AcquireParams
params = AcquireParams(
    workers=1, per_host_per_second=0, max_missing_fraction=0, respect_robots=True,
    allow_private=True, max_gigabytes=1, max_file_megabytes=1,
)
with Client(params) as client, ContentStore() as store:
    print(download(sys.argv[1], ExpectedFile(), client, store, 1e9))
"""


@contextmanager
def another_process(url: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [sys.executable, "-c", DOWNLOAD, url], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_two_processes_download_a_file_once(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.latency = 0.3
    with another_process(url) as first, another_process(url) as second:
        paths = {process.communicate(timeout=20)[0].splitlines()[-1] for process in (first, second)}
    assert [Path(path).read_bytes() for path in paths] == [DATA]
    assert len(fake.requests) == 1


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_the_download_of_a_killed_process_is_resumed(
    ending: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    data = random.Random(2).randbytes(3_000_000)
    response = reply(data, 'ETag: "tag"')

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(response), 20_000):
            yield response[start : start + 20_000]
            time.sleep(0.005)

    with Wire(slowly) as wire:
        url = wire.url(f"/files/{NAME}")
        with ContentStore() as store:
            part = store.partial_path(url)
        with another_process(url) as process:
            deadline = time.monotonic() + 20
            while not (part.exists() and part.stat().st_size > 300_000):
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.send_signal(ending)
            process.wait(2)
    size = part.stat().st_size
    assert 300_000 < size < len(data)
    with FakeFlickr(port=wire.port) as fake:
        fake.serve(NAME, data, etag='"tag"')
        assert get(url).read_bytes() == data
        assert ranges(fake) == [f"bytes={size}-"]


def test_a_web_page_is_refused_and_not_recorded(fake: FakeFlickr, root: Path) -> None:
    url = fake.serve("a.zip", b"  <!doctype html><p>Sorry")
    assert error_of(url).startswith(f"{url} is a web page, neither archive nor table")
    fake.serve("a.zip", b"PK the archive")
    assert get(url).read_bytes() == b"PK the archive"
