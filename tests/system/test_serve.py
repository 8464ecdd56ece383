"""`pipeline serve` as a process: every form of request, hostile bodies, and a moved champion."""

import base64
import json
import signal
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.serve import ask
from pipeline.core import dvc_lock
from pipeline.params import Params
from pipeline.tracking import registry, store
from pipeline.tracking.registry import Version
from tests.builders.images import noise_png
from tests.builders.served import SECONDS, Clients, Served
from tests.builders.stages import write_params
from tests.builders.training_runs import training_run

IMAGE = noise_png(5)
SAFE = ("400", "415", "left", "lost")  # what hostile requests of the benchmark may lead to
PREDICT = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
FORM = (
    b'--cut\r\nContent-Disposition: form-data; name="image"; filename="private-name.png"\r\n\r\n'
    + IMAGE
    + b"\r\n--cut--\r\n"
)


@pytest.fixture
def versions(models: Path, params: Params) -> list[Version]:
    """Two versions in the registry; the first is the champion."""
    write_params(params)
    versions = []
    for number in range(2):
        split = models.parent / "data/split.csv"
        with training_run(params, str(number) * 20, split) as run:
            run.log_model(models, dvc_lock.digest(models), 1)
        model = registry.find_model(store.get_run(str(run.id)))
        # Equal bytes would be one version.
        version = registry.register(params.dataset.name, str(run.id), model, f"digest {number}")
        versions.append(version)
    registry.set_champion(versions[0])
    return versions


@pytest.fixture
def served(versions: list[Version]) -> Iterator[Served]:
    uri = f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    with Served("@champion", environment={"MLFLOW_TRACKING_URI": uri}) as served:
        yield served


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, with few bytes of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(10**6)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def check_forms(served: Served) -> None:
    packed = base64.b64encode(IMAGE).decode()
    (first,) = served.predict(IMAGE)
    assert first["model"] == "sample version 1"
    assert first["label"] in {"plain", "striped"}
    assert served.predict(FORM, "multipart/form-data; boundary=cut") == [first]
    assert served.predict(json.dumps({"image": [packed]}), "application/json") == [first]
    assert [served.ask("GET", path)[0] for path in ("/healthz", "/readyz")] == [200, 200]
    assert b"pipeline_serve_images_total" in served.ask("GET", "/metrics")[1]


def check_hostile(served: Served) -> None:
    (broken,), (bomb,) = served.predict(IMAGE[:300]), served.predict(png_header(60_000, 60_000))
    assert (broken["label"], bomb["label"]) == (None, None)
    assert broken["problem"]
    assert bomb["problem"] == "too_many_pixels"
    nested = served.ask("POST", "/predict", b"[" * 10**6, {"Content-Type": "application/json"})
    assert nested[0] == 400
    assert served.ask("POST", "/predict", IMAGE, {"Content-Type": "text/html"})[0] == 415
    too_long = PREDICT + b"Content-Type: image/png\r\nContent-Length: 99999999999\r\n\r\n"
    assert served.send(too_long).startswith(b"HTTP/1.1 413 ")
    # What is still being sent when the connection closes may make the system drop the reply.
    huge = served.send(PREDICT + b"X: " + b"y" * 10**6)
    assert huge[:13] in {b"", b"HTTP/1.1 400 "}
    endless = PREDICT + b"Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    assert served.send(endless, *[chunk] * 100)[:13] in {b"", b"HTTP/1.1 413 "}


def check_many(served: Served, folder: Path) -> None:
    """Of many requests, a part of them hostile, no photograph is lost."""
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", noise_png(number))
    seen = ask(served.url, folder / "photos.zip", 60, 8, 0.4)
    assert seen["good"].keys() == {"200 answer"}
    assert sum(seen["good"].values()) + sum(seen["hostile"].values()) == 60
    assert {"400", "415", "left"} <= seen["hostile"].keys() <= {"200 problem", "200 answer", *SAFE}


def test_a_service_survives_its_clients_and_follows_the_champion(
    served: Served, versions: list[Version], tmp_path: Path
) -> None:
    check_forms(served)
    check_many(served, tmp_path)
    with Clients(served, IMAGE, 8) as clients:
        check_hostile(served)
        decoders = served.decoders()
        assert decoders
        for decoder in decoders:
            decoder.send_signal(signal.SIGKILL)
        wait(lambda: bool(served.decoders()))
        registry.set_champion(versions[1])
        wait(lambda: (200, "sample version 2") in clients.answers)
    assert clients.answers.keys() == {(200, "sample version 1"), (200, "sample version 2")}
    images = [base64.b64encode(noise_png(seed, 200, 200)).decode() for seed in range(60)]
    with ThreadPoolExecutor() as pool:
        reply = pool.submit(served.predict, json.dumps(images), "application/json")
        wait(lambda: b"waiting_images 0\n" not in served.ask("GET", "/metrics")[1])
        code, output = served.end()
        labels = [record["label"] for record in reply.result()]
    assert len(labels) == len(images)
    assert set(labels) <= {"plain", "striped"}
    assert code == 0, output
    started, swapped, ended = output.splitlines()
    note = "; the page shows no training images: there are no features in data/features"
    assert started.split(" answers with ")[1].startswith(f"sample version 1 (Ctrl-C ends it){note}")
    assert swapped.startswith(f"serve: now sample version 2{note}")
    assert ended == "serve: ended"
