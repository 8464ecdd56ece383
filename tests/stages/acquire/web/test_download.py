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
from pipeline.stages.acquire.web.rate_limit import Policy
from tests import ROOT
from tests.fakes import faults
from tests.fakes.faults import DROP, Fault, always, cut, first_of, header, once, redirect, status
from tests.fakes.flickr import FakeFlickr
from tests.fakes.wire import Wire, chunked, reply

DATA = random.Random(0).randbytes(50_000)
OTHER = random.Random(1).randbytes(50_000)
NAME = "photos.zip"
PARAMS = AcquireParams(
    workers=1,
    per_host_per_second=0,
    max_missing_fraction=0,
    respect_robots=True,
    allow_private=True,
    max_gigabytes=1,
    max_file_megabytes=1,
)
POLICY = Policy(connect_timeout=5, read_timeout=5, attempts=2, pause=0.01)
HASTY = Policy(connect_timeout=1, read_timeout=0.3, attempts=2, pause=0.01)
"""For servers that are slow on purpose; the others may be so because the machine is."""

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
    most: float = 1e9,
    params: AcquireParams = PARAMS,
    policy: Policy = POLICY,
) -> Path:
    with Client(params, policy) as client, ContentStore() as store:
        return download(url, expected, client, store, most)


def refusal(
    url: str,
    expected: ExpectedFile = NOTHING,
    most: float = 1e9,
    params: AcquireParams = PARAMS,
    policy: Policy = POLICY,
) -> str:
    with pytest.raises(PipelineError) as caught:
        get(url, expected, most, params, policy)
    return str(caught.value)


def ranges(fake: FakeFlickr) -> list[str | None]:
    """What part of the file each request was for."""
    return [request.headers.get("Range") for request in fake.requests]


def left(root: Path) -> list[str]:
    """Names of what stands in the store, but for its index and its locks."""
    files = [path for path in (root / ".cache/acquire").rglob("*") if path.is_file()]
    return [
        path.name
        for path in files
        if not path.name.startswith("index")
        and path.suffix not in {".lock", ".about"}
        and path.name != "lock"
    ]


def forget_the_file(root: Path) -> None:
    """As a user does to free the disk; what was recorded of it remains."""
    shutil.rmtree(root / ".cache/acquire/files")


def interrupted(fake: FakeFlickr, fault: Fault, expected: ExpectedFile = NOTHING) -> str:
    """The address of a file of which a run that failed got a part."""
    url = fake.serve(NAME, DATA)
    fake.plan = once(NAME, fault, DROP, DROP, DROP, DROP)
    refusal(url, expected)
    fake.plan = None
    fake.requests.clear()
    return url


UNMARKED = (("Etag", ""), ("Last-Modified", ""), ("ETag", ""))
"""Headers of a file that nobody can know again."""


# Whole.


def test_a_file_is_fetched_into_the_store(fake: FakeFlickr, root: Path) -> None:
    found = get(fake.serve(NAME, DATA))
    assert found.read_bytes() == DATA
    assert left(root) == [sha256(DATA)]
    assert found.is_relative_to(root / ".cache/acquire")


@pytest.mark.parametrize("expected", [NOTHING, EXPECTED])
def test_what_is_there_is_not_asked_for_again(fake: FakeFlickr, expected: ExpectedFile) -> None:
    url = fake.serve(NAME, DATA)
    first = get(url, expected)
    fake.plan = always("", DROP)
    assert get(url, expected) == first
    assert len(fake.requests) == 1


def test_a_file_of_a_known_checksum_is_had_from_wherever_it_is_known(fake: FakeFlickr) -> None:
    first = get(fake.serve(NAME, DATA))
    assert get("http://nowhere.invalid/mirror.zip", EXPECTED) == first


def test_another_address_is_another_download(fake: FakeFlickr) -> None:
    first, second = get(fake.serve("a.zip", DATA)), get(fake.serve("b.zip", OTHER))
    assert (first.read_bytes(), second.read_bytes()) == (DATA, OTHER)


def test_a_redirect_is_followed(fake: FakeFlickr) -> None:
    fake.plan = once("a.zip", redirect(fake.serve(NAME, DATA)))
    assert get(fake.serve("a.zip", b"")).read_bytes() == DATA


def test_a_file_without_a_length_is_fetched() -> None:
    with Wire(reply(chunked(DATA), "Transfer-Encoding: chunked")) as wire:
        assert get(wire.url()).read_bytes() == DATA


def test_an_empty_file_is_one(fake: FakeFlickr) -> None:
    assert get(fake.serve(NAME, b"")).read_bytes() == b""


def test_it_is_said_to_what_a_file_is_held_from_now_on(
    fake: FakeFlickr, capsys: pytest.CaptureFixture[str]
) -> None:
    url = fake.serve(NAME, DATA)
    said = f"acquire: {url} has sha256 {sha256(DATA)}; later downloads must match it\n"
    get(url)
    assert capsys.readouterr().out.endswith(said)
    get(url)
    assert "must match it" not in capsys.readouterr().out


def test_nothing_is_said_of_what_dataset_toml_knows(
    fake: FakeFlickr, capsys: pytest.CaptureFixture[str]
) -> None:
    get(fake.serve(NAME, DATA), EXPECTED)
    assert "must match it" not in capsys.readouterr().out


# Resumed.


def test_what_breaks_off_is_resumed_where_it_did(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = once(NAME, cut(20_000))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == [None, "bytes=20000-"]
    assert fake.requests[1].headers["If-Range"] == f'"{sha256(DATA)[:16]}"'


def test_a_failed_run_is_resumed_by_the_next(fake: FakeFlickr) -> None:
    url = interrupted(fake, cut(20_000))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == ["bytes=20000-"]


def test_a_resumed_file_may_break_off_again(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = once(NAME, cut(10_000), cut(5_000), cut(500), cut(0), cut(30_000))
    assert get(url).read_bytes() == DATA
    assert ranges(fake)[1:] == [
        f"bytes={start}-" for start in (10_000, 15_000, 15_500, 15_500, 45_500)
    ]


def test_however_often_a_file_breaks_off_it_is_had_if_it_gets_on(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, cut(2_000))
    assert get(url).read_bytes() == DATA
    assert fake.requests[-1].headers["Range"] == "bytes=48000-"


def test_a_file_that_does_not_get_on_is_given_up(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = first_of(once(NAME, cut(2_000)), always(NAME, cut(0)))
    said = refusal(url)
    assert said.startswith(f"{url} breaks the connection: try again, or use a copy")
    assert len(fake.requests) == 1 + 2 * POLICY.attempts - 1


def test_a_file_that_drips_is_given_up(fake: FakeFlickr) -> None:
    """It gets on with every attempt, and would for years."""
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, faults.DRIP)
    thread = threading.Thread(target=refusal, args=(url,), kwargs={"policy": HASTY})
    thread.start()
    thread.join(10 * HASTY.attempts * HASTY.read_timeout)
    given_up = not thread.is_alive()
    fake.plan = always(NAME, status(404))  # so that it ends
    thread.join()
    assert given_up


def test_a_reset_is_resumed_too(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = once(NAME, faults.RESET)
    assert get(url).read_bytes() == DATA


def test_a_body_in_chunks_that_breaks_off_is_whole_in_the_end() -> None:
    broken = reply(chunked(DATA)[:-1000], "Transfer-Encoding: chunked")
    with Wire(broken, reply(chunked(DATA), "Transfer-Encoding: chunked")) as wire:
        assert get(wire.url()).read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_started_over(fake: FakeFlickr) -> None:
    url = interrupted(fake, cut(20_000))
    fake.serve(NAME, OTHER)
    assert get(url).read_bytes() == OTHER
    assert ranges(fake) == ["bytes=20000-"]


def test_a_weak_etag_is_not_taken_for_sameness(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA, etag='W/"same"')
    fake.plan = once(NAME, cut(20_000))
    assert get(url).read_bytes() == DATA
    assert fake.requests[1].headers["If-Range"] == "Fri, 14 Jul 2017 02:40:00 GMT"


def test_a_file_is_known_again_by_its_date_where_there_is_no_etag(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA, etag="")
    fake.plan = once(NAME, cut(20_000))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == [None, "bytes=20000-"]


def test_a_file_of_another_date_is_started_over(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA, etag="")
    fake.plan = once(NAME, cut(20_000), DROP, DROP, DROP)
    refusal(url)
    fake.plan = None
    fake.serve(NAME, OTHER, etag="", modified=1_600_000_000)
    assert get(url).read_bytes() == OTHER


def test_what_cannot_be_known_again_is_started_over(fake: FakeFlickr) -> None:
    url = interrupted(fake, Fault(keep=20_000, headers=UNMARKED))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == [None]


def test_what_has_a_checksum_is_resumed_though_it_cannot_be_known_again(fake: FakeFlickr) -> None:
    url = interrupted(fake, Fault(keep=20_000, headers=UNMARKED), EXPECTED)
    assert get(url, EXPECTED).read_bytes() == DATA
    assert ranges(fake) == ["bytes=20000-"]
    assert "If-Range" not in fake.requests[0].headers


def test_two_halves_of_two_files_are_refused_by_the_checksum_and_started_over(
    fake: FakeFlickr,
) -> None:
    expected = ExpectedFile(sha256=sha256(OTHER))
    url = interrupted(fake, Fault(keep=20_000, headers=UNMARKED), expected)
    fake.serve(NAME, OTHER)
    assert "the download is damaged" in refusal(url, expected)
    assert get(url, expected).read_bytes() == OTHER


def test_a_server_that_has_no_such_range_has_another_file(fake: FakeFlickr) -> None:
    url = interrupted(fake, cut(20_000))
    fake.serve(NAME, OTHER[:10_000], etag=f'"{sha256(DATA)[:16]}"')
    assert get(url).read_bytes() == OTHER[:10_000]
    assert ranges(fake) == ["bytes=20000-", None]


def test_a_server_that_knows_no_ranges_sends_all_again(fake: FakeFlickr) -> None:
    url = interrupted(fake, cut(20_000))
    fake.serve(NAME, DATA, ranges=False)
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == ["bytes=20000-"]


@pytest.mark.parametrize(
    "said",
    [
        "bytes 0-49999/50000",
        "bytes 30000-49999/50000",
        "bytes */50000",
        "bytes x-y/z",
        "items 1-2",
        "",
        "bytes " + "9" * 5000 + "-1/2",
    ],
    ids=lambda said: said[:12],
)
def test_another_range_than_was_asked_for_is_not_taken(fake: FakeFlickr, said: str) -> None:
    url = interrupted(fake, cut(20_000))
    fake.plan = once(NAME, header("Content-Range", said))
    assert get(url).read_bytes() == DATA
    assert ranges(fake) == ["bytes=20000-", None]


def test_a_part_that_nobody_asked_for_is_not_taken_for_the_whole(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, Fault(status=206, body=DATA[:100]))
    assert refusal(url).startswith(f"{url} answers 206 ")


def test_what_was_whole_already_is_not_asked_for_again(fake: FakeFlickr, root: Path) -> None:
    """The process was killed between the last byte and the store."""
    url = fake.serve(NAME, DATA)
    with ContentStore() as store:
        part = store.partial_path(url)
    part.write_bytes(DATA)
    part.with_suffix(".about").write_text(f'{len(DATA)} "etag"')
    assert get(url).read_bytes() == DATA
    assert fake.requests == []
    assert left(root) == [sha256(DATA)]


@pytest.mark.parametrize("about", ["", "nonsense", "-1", "99999999 ", "\0\0"])
def test_what_is_not_known_of_a_part_is_no_reason_to_fail(fake: FakeFlickr, about: str) -> None:
    url = fake.serve(NAME, DATA)
    with ContentStore() as store:
        part = store.partial_path(url)
    part.write_bytes(b"of something else")
    part.with_suffix(".about").write_text(about)
    assert get(url).read_bytes() == DATA


def test_an_end_between_two_files_does_not_mix_them(fake: FakeFlickr) -> None:
    """The server has a new file, and the process ends before it lets go of the old half."""
    url = interrupted(fake, cut(20_000))
    with ContentStore() as store:
        part = store.partial_path(url)
    old = part.rename(part.with_suffix(".old"))
    part.mkdir()  # so that the part cannot be opened
    fake.serve(NAME, OTHER)
    with pytest.raises(IsADirectoryError):
        get(url)
    part.rmdir()
    old.rename(part)
    assert get(url).read_bytes() == OTHER


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_an_archive_that_is_called_packed_is_kept_as_it_is_sent(encoding: str) -> None:
    """So do servers with .tar.gz; published checksums are of these bytes, as curl and wget do."""
    data = gzip.compress(DATA)
    with Wire(reply(data, f"Content-Encoding: {encoding}")) as wire:
        found = get(wire.url("/a.tar.gz"), ExpectedFile(sha256=sha256(data)))
        assert found.read_bytes() == data


def test_an_archive_that_is_called_packed_is_resumed(fake: FakeFlickr) -> None:
    data = gzip.compress(DATA)
    url = fake.serve(NAME, data)
    packed = ("Content-Encoding", "gzip")
    fake.plan = first_of(
        once(NAME, Fault(keep=20_000, headers=(packed,))), always(NAME, Fault(headers=(packed,)))
    )
    assert get(url, ExpectedFile(sha256=sha256(data))).read_bytes() == data


# Refused.


@pytest.mark.parametrize(
    ("expected", "said"),
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
def test_what_is_not_as_expected_is_refused_and_not_kept(
    fake: FakeFlickr, root: Path, expected: ExpectedFile, said: str
) -> None:
    url = fake.serve(NAME, DATA)
    assert refusal(url, expected) == (
        f"{url} {said}the download is damaged, or the file behind the address was replaced"
    )
    assert left(root) == []
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
def test_what_is_as_expected_is_kept(fake: FakeFlickr, expected: ExpectedFile) -> None:
    url = fake.serve(NAME, DATA)
    assert get(url, expected).read_bytes() == DATA
    assert get(url, expected).read_bytes() == DATA
    assert len(fake.requests) == 1


def test_what_is_there_is_held_to_what_dataset_toml_says_by_now(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    get(url)
    assert "but dataset.toml says 7" in refusal(url, ExpectedFile(size=7))
    assert get(url).read_bytes() == DATA


def test_a_refused_file_may_be_right_the_next_time(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, OTHER)
    refusal(url, EXPECTED)
    fake.serve(NAME, DATA)
    assert get(url, EXPECTED).read_bytes() == DATA


def test_a_file_that_changed_since_it_was_first_fetched_is_refused(
    fake: FakeFlickr, root: Path
) -> None:
    url = fake.serve(NAME, DATA)
    get(url)
    forget_the_file(root)
    fake.serve(NAME, OTHER)
    assert refusal(url) == (
        f"{url} has sha256 {sha256(OTHER)}, but the first download had {sha256(DATA)}: if "
        f'the change is intended, write sha256 = "{sha256(OTHER)}" in dataset.toml'
    )
    assert left(root) == []


def test_a_file_that_changed_is_taken_once_dataset_toml_says_so(
    fake: FakeFlickr, root: Path
) -> None:
    url = fake.serve(NAME, DATA)
    get(url)
    fake.serve(NAME, OTHER)
    assert get(url, ExpectedFile(sha256=sha256(OTHER))).read_bytes() == OTHER


def test_a_file_that_is_as_it_was_is_fetched_again_where_it_is_lost(
    fake: FakeFlickr, root: Path
) -> None:
    url = fake.serve(NAME, DATA)
    get(url)
    forget_the_file(root)
    assert get(url).read_bytes() == DATA


@pytest.mark.parametrize("expected", [NOTHING, EXPECTED])
def test_a_file_that_the_disk_has_cut_off_is_fetched_again(
    fake: FakeFlickr, expected: ExpectedFile
) -> None:
    url = fake.serve(NAME, DATA)
    os.truncate(get(url, expected), 1000)
    assert get(url, expected).read_bytes() == DATA


@pytest.mark.parametrize("length", ["stated", "unstated"])
def test_a_file_that_is_too_large_is_refused_and_not_kept(root: Path, length: str) -> None:
    sound = reply(DATA)
    endless = reply(chunked(DATA), "Transfer-Encoding: chunked")
    with Wire(sound if length == "stated" else endless) as wire:
        said = refusal(wire.url(), most=49_999)
        assert len(wire.heads) == 1
    assert said == f"{wire.url()} is larger than 49999 bytes (acquire.max_gigabytes=4.9999e-05)"
    assert left(root) == []


def test_a_file_may_be_as_large_as_the_limit(fake: FakeFlickr) -> None:
    assert get(fake.serve(NAME, DATA), most=50_000).read_bytes() == DATA


def test_a_file_that_is_too_large_is_so_when_it_is_resumed(fake: FakeFlickr, root: Path) -> None:
    url = interrupted(fake, cut(20_000))
    assert "is larger than" in refusal(url, most=49_999)
    assert left(root) == []


def test_a_file_without_an_end_is_left_at_the_limit(fake: FakeFlickr, root: Path) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, faults.CHUNKS)
    assert "is larger than 60000 bytes" in refusal(url, most=60_000)
    assert left(root) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(404), "answers 404 Not Found"),
        (status(403), "answers 403 Forbidden"),
        (status(503), "answers 503 Service Unavailable"),
        (DROP, "cannot be reached"),
        (faults.STALL, "does not answer in time"),
        (cut(0), "breaks the connection"),
    ],
)
def test_what_does_not_come_is_told_with_what_to_do(
    fake: FakeFlickr, root: Path, fault: Fault, said: str
) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, fault)
    told = refusal(url, policy=HASTY)
    assert told == f"{url} {said}: try again, or use a copy with -S dataset.source=PATH"
    assert not (root / ".cache/acquire/files").exists()


def test_a_private_address_is_told_with_what_to_do(fake: FakeFlickr) -> None:
    closed = PARAMS.model_copy(update={"allow_private": False})
    said = refusal(fake.serve(NAME, DATA), params=closed)
    assert said.endswith(": set acquire.allow_private=true if that is meant")
    assert fake.requests == []


def test_an_unwanted_file_is_told_with_what_to_do(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.plan = always(NAME, faults.NO_AI)
    assert refusal(url).endswith("leave it out, or set acquire.respect_robots=false")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "photos.zip", "", "http://[::1"])
def test_a_bad_address_is_refused(url: str) -> None:
    assert refusal(url).startswith(f"{url} is not an http or https address")


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


def test_two_processes_at_once_fetch_a_file_once(fake: FakeFlickr) -> None:
    url = fake.serve(NAME, DATA)
    fake.latency = 0.3
    with another_process(url) as one, another_process(url) as two:
        paths = {process.communicate(timeout=20)[0].splitlines()[-1] for process in (one, two)}
    assert [Path(path).read_bytes() for path in paths] == [DATA]
    assert len(fake.requests) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_ended_in_the_middle_is_resumed_by_the_next(
    how: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    data = random.Random(2).randbytes(3_000_000)
    said = reply(data, 'ETag: "one"')

    def slowly() -> Iterator[bytes]:
        for start in range(0, len(said), 20_000):
            yield said[start : start + 20_000]
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
            process.send_signal(how)
            process.wait(2)
    came = part.stat().st_size
    assert 300_000 < came < len(data)
    with FakeFlickr(port=wire.port) as fake:
        fake.serve(NAME, data, etag='"one"')
        assert get(url).read_bytes() == data
        assert ranges(fake) == [f"bytes={came}-"]


def test_a_web_page_is_not_taken_for_the_archive_and_not_remembered(
    fake: FakeFlickr, root: Path
) -> None:
    url = fake.serve("a.zip", b"  <!doctype html><p>Sorry")
    assert refusal(url).startswith(f"{url} is a web page, not an archive")
    fake.serve("a.zip", b"PK the archive")
    assert get(url).read_bytes() == b"PK the archive"
