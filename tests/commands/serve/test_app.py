import base64
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.testclient import TestClient

from pipeline.commands.credits.credits import Credit
from pipeline.commands.serve.access import LOOPBACK
from pipeline.commands.serve.app import Service, build_app
from pipeline.commands.serve.batching import Batcher
from pipeline.commands.serve.feedback import FeedbackFolder
from pipeline.commands.serve.fetch import Fetcher
from pipeline.commands.serve.limits import Limits
from pipeline.commands.serve.metrics import Metrics
from pipeline.commands.serve.training_images import TrainingImages
from tests.builders.images import grey_png, noise_png
from tests.builders.services import load_model, running_batcher

PNG = noise_png(1)
PACKED = base64.b64encode(PNG).decode()
TOKEN = "secret"
LIMITS = Limits()
MakeClient = Callable[..., TestClient]


@pytest.fixture(scope="module")
def batcher(striped_model: Path) -> Iterator[Batcher]:
    from tests.builders import warm_workers

    with pytest.MonkeyPatch.context() as patch:
        warm_workers.use(patch)
        training = TrainingImages(striped_model / "data")
        with running_batcher(load_model(striped_model / "models", training=training)) as batcher:
            yield batcher


@pytest.fixture
def client_of(batcher: Batcher) -> Iterator[MakeClient]:
    """A function that makes a client of a service with these limits, token and fetcher."""
    fetchers = []

    def make(
        limits: Limits = LIMITS,
        token: str | None = None,
        fetcher: Fetcher | None = None,
        feedback: FeedbackFolder | None = None,
    ) -> TestClient:
        fetchers.append(fetcher)
        service = Service(batcher, Metrics(), limits, token, LOOPBACK, fetcher, feedback)
        return TestClient(build_app(service), base_url="http://127.0.0.1:8000")

    yield make
    for fetcher in fetchers:
        if fetcher is not None:
            fetcher.close()


@pytest.fixture
def client(client_of: MakeClient) -> TestClient:
    return client_of()


def predictions(client: TestClient, **request: Any) -> list[dict[str, Any]]:
    response = client.post("/predict", **request)
    assert response.status_code == HTTPStatus.OK, response.text
    records: list[dict[str, Any]] = response.json()["predictions"]
    return records


def refusal(client: TestClient, path: str = "/predict", **request: Any) -> tuple[int, str]:
    response = client.post(path, **request)
    return response.status_code, response.json()["error"]


def test_all_forms_of_a_request_have_the_same_answer(client: TestClient) -> None:
    (first,) = predictions(client, content=PNG, headers={"Content-Type": "image/png"})
    assert first["model"] == "stripes version 1"
    assert {entry["label"] for entry in first["top"]} == {"plain", "striped"}
    assert sum(entry["probability"] for entry in first["top"]) == pytest.approx(1)
    assert (first["label"], first["probability"]) == tuple(first["top"][0].values())
    assert first["problem"] is None
    files = [("image", ("a.png", PNG)), ("image", ("b.png", PNG))]
    assert predictions(client, files=files) == [first, first]
    for value in (PACKED, [PACKED], {"image": PACKED}, {"image": [PACKED]}):
        assert predictions(client, json=value) == [first]
    data_url = f"data:image/png;base64,{PACKED}"
    assert predictions(client, json=[data_url, "%%%", "photo.jpg", 5]) == [
        first,
        *(
            {**first, "label": None, "probability": None, "top": [], "problem": problem}
            for problem in ("not_base64", "path_as_text", "not_an_image")
        ),
    ]
    headers = {"Content-Type": "application/octet-stream"}
    (short,) = predictions(client, content=PNG, headers=headers, params={"top_k": 1})
    assert short == {**first, "top": first["top"][:1]}


@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        (400, {"content": b"[" * 10**5, "headers": {"Content-Type": "application/json"}}),
        (400, {"json": [[]] * 2001}),
        (400, {"json": {"images": PACKED}}),
        (400, {"json": {"image": PACKED, "url": "http://a/"}}),
        (400, {"json": {"image": 5}}),
        (400, {"json": []}),
        (400, {"data": {"image": PACKED}, "files": {"other": ("a.png", PNG)}}),
        (400, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}),
        (400, {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=a"}}),
        (400, {"json": PACKED, "params": {"top_k": "0"}}),
        (400, {"json": PACKED, "params": {"neighbours": "13"}}),
        (403, {"json": {"url": "http://127.0.0.1/a.png"}}),
        (403, {"json": PACKED, "headers": {"Sec-Fetch-Site": "cross-site"}}),
        (413, {"json": [PACKED] * 65}),
        (413, {"files": [("image", ("a.png", PNG))] * 65}),
        (415, {"content": PNG, "headers": {"Content-Type": "text/plain"}}),
        (415, {"content": PNG}),
        (421, {"json": PACKED, "headers": {"Host": "evil.example"}}),
        (421, {"json": PACKED, "headers": {"Host": "127.0.0.1.evil.example:8000"}}),
    ],
)
def test_malformed_requests_are_refused_with_a_sentence(
    client: TestClient, status: int, request_: dict[str, Any]
) -> None:
    actual, message = refusal(client, **request_)
    assert actual == status, message
    assert 5 < len(message) < 300


def test_bodies_are_limited_with_and_without_a_length(client_of: MakeClient) -> None:
    client = client_of(Limits(body_bytes=len(PNG)))
    headers = {"Content-Type": "image/png"}
    predictions(client, content=PNG, headers=headers)
    assert refusal(client, content=PNG + b"x", headers=headers)[0] == 413

    def blocks() -> Iterator[bytes]:
        yield PNG
        yield b"x"

    assert refusal(client, content=blocks(), headers=headers)[0] == 413


def test_too_much_for_all_requests_is_busy(client_of: MakeClient) -> None:
    client = client_of(Limits(held_bytes=10))
    response = client.post("/predict", content=PNG, headers={"Content-Type": "image/png"})
    assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
    predictions(client, content=b"123", headers={"Content-Type": "image/png"})  # all is released


def test_a_token_is_needed_where_there_is_one(client_of: MakeClient) -> None:
    client = client_of(token=TOKEN)
    for header in (None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer \xfc"):
        headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
        for method, path in (("POST", "/predict"), ("GET", "/metrics"), ("GET", "/openapi.json")):
            response = client.request(method, path, headers=headers)
            assert response.status_code == HTTPStatus.UNAUTHORIZED, (header, path)
            assert response.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").text == "ready\n"
    right = {"Authorization": f"bearer {TOKEN}", "Content-Type": "image/png"}
    predictions(client, content=PNG, headers=right)


def test_replies_have_headers_that_confine_pages(client: TestClient) -> None:
    for path in ("/healthz", "/nowhere", "/metrics"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert client.get("/nowhere").status_code == 404
    assert client.get("/predict").status_code == 405


def test_metrics_count_requests_and_images(client: TestClient) -> None:
    predictions(client, json=[PACKED, "%%%"])
    refusal(client, json={"image": 5})
    client.get("/made-up")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'pipeline_serve_requests_total{path="/predict",status="200"} 1',
        'pipeline_serve_requests_total{path="/predict",status="400"} 1',
        'pipeline_serve_requests_total{path="other",status="404"} 1',
        'pipeline_serve_seconds_bucket{le="+Inf"} 1',
        "pipeline_serve_waiting_images 0",
        "pipeline_serve_body_bytes 0",
    ):
        assert line in lines


def test_openapi_describes_predict(client: TestClient) -> None:
    predict = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert {"200", "413", "429"} <= predict["responses"].keys()
    assert client.get("/docs").status_code == 404


class Photos(http.server.BaseHTTPRequestHandler):
    """Serves one image, and a redirect to it."""

    def do_GET(self) -> None:
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", "/image")
        self.send_header("Content-Length", "0" if self.path == "/moved" else str(len(PNG)))
        self.end_headers()
        if self.path != "/moved":
            self.wfile.write(PNG)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def photos_url(root: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Photos) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_urls_are_fetched_where_they_are_allowed(client_of: MakeClient, photos_url: str) -> None:
    client = client_of(fetcher=Fetcher(len(PNG), allow_private=True))
    (expected,) = predictions(client, json=PACKED)
    urls = [f"{photos_url}/image", f"{photos_url}/moved"]
    assert predictions(client, json={"url": urls}) == [expected, expected]
    assert predictions(client, json={"url": urls[0]}) == [expected]
    (scheme,) = predictions(client, json={"url": "file:///etc/passwd"})
    assert scheme["problem"] == "bad_address"
    assert refusal(client, json={"url": 5})[0] == 400
    small = client_of(fetcher=Fetcher(len(PNG) - 1, allow_private=True))
    assert predictions(small, json={"url": urls[0]})[0]["problem"] == "too_large"


def test_urls_of_private_addresses_are_refused(client_of: MakeClient, photos_url: str) -> None:
    client = client_of(fetcher=Fetcher(len(PNG)))
    (answer,) = predictions(client, json={"url": f"{photos_url}/image"})
    assert answer["problem"] == "private_address"


def test_an_image_that_breaks_off_is_a_problem_of_its_own(client: TestClient) -> None:
    images = [PNG[: len(PNG) // 2], grey_png(5)]
    body = json.dumps([base64.b64encode(image).decode() for image in images])
    broken, whole = predictions(
        client, content=body, headers={"Content-Type": "application/json; charset=utf-8"}
    )
    assert broken["label"] is None
    assert broken["problem"]
    assert whole["label"]


def test_the_page_loads_its_script_alone(client_of: MakeClient) -> None:
    client = client_of(token=TOKEN)
    page = client.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert '<b id="model">stripes version 1</b> knows 2 classes' in page.text
    assert re.findall(r'(?:src|href)="([^"]*)"', page.text) == ["data:,", "serve.js"]
    assert client.get("/serve.js").headers["Content-Type"].startswith("text/javascript")
    assert '<form id="token"><label>' in page.text
    assert '<form id="token" hidden><label>' in client_of().get("/").text


def test_a_heatmap_is_a_picture_of_the_view(client: TestClient) -> None:
    headers = {"Content-Type": "image/png"}
    response = client.post("/gradcam", content=PNG, headers=headers)
    assert response.headers["Content-Type"] == "image/jpeg"
    picture = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (32, 32, 3)
    assert refusal(client, "/gradcam", content=b"text", headers=headers)[0] == 422
    assert refusal(client, "/gradcam", json=[PACKED, PACKED])[0] == 400


def test_neighbours_come_only_if_they_are_asked_for(client: TestClient) -> None:
    headers = {"Content-Type": "image/png"}
    (plain,) = predictions(client, content=PNG, headers=headers)
    (full,) = predictions(client, content=PNG, headers=headers, params={"neighbours": 3})
    neighbours = full.pop("neighbours")
    assert full == plain
    similarities = [neighbour["similarity"] for neighbour in neighbours]
    assert similarities == sorted(similarities, reverse=True)
    assert len(similarities) == 3
    known, problem = predictions(client, json=[PACKED, "%%%"], params={"neighbours": 1})
    assert [image["id"] for image in known["neighbours"]] == [neighbours[0]["id"]]
    assert problem["neighbours"] == []


def test_thumbnails_are_served_by_id_alone(client: TestClient, client_of: MakeClient) -> None:
    (answer,) = predictions(client, json=PACKED, params={"neighbours": 1})
    (neighbour,) = answer["neighbours"]
    response = client.get("/training-image", params={"id": neighbour["id"]})
    assert response.headers["Content-Type"] == "image/jpeg"
    picture = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (40, 48, 3)
    for key, status in {"../split.csv": 404, "0" * 64: 404, "0" * 65: 400}.items():
        assert client.get("/training-image", params={"id": key}).status_code == status
    locked = client_of(token=TOKEN).get("/training-image", params={"id": neighbour["id"]})
    assert locked.status_code == HTTPStatus.UNAUTHORIZED


def test_texts_of_strangers_cannot_deceive(client: TestClient, batcher: Batcher) -> None:
    training = batcher.model.training
    assert training is not None
    credit = Credit("a\u202eb", "Jo\nDoe", None, "javascript:alert(1)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_credits", [credit] * len(training))
        (answer,) = predictions(client, json=PACKED, params={"neighbours": 1})
    (neighbour,) = answer["neighbours"]
    assert (neighbour["title"], neighbour["owner"]) == (r"a\u202eb", r"Jo\nDoe")
    assert (neighbour["licence"], neighbour["link"]) == (None, None)


def test_a_picture_is_kept_under_the_class_that_a_person_names(
    client_of: MakeClient, tmp_path: Path
) -> None:
    client = client_of(feedback=FeedbackFolder(tmp_path / "kept"))
    assert "<option>striped</option>" in client.get("/").text
    headers = {"Content-Type": "image/png"}
    for _ in range(2):  # kept once
        reply = client.post("/feedback?label=striped", content=PNG, headers=headers)
        assert (reply.status_code, reply.json()) == (200, {"kept": "striped"})
    (path,) = (tmp_path / "kept").rglob("*.png")
    assert (path.parent.name, path.read_bytes()) == ("striped", PNG)
    refused = {"": 400, "../striped": 400, "cat": 400}
    for label, status in refused.items():
        assert (
            refusal(client, f"/feedback?label={label}", content=PNG, headers=headers)[0] == status
        )
    no_image = refusal(client, "/feedback?label=plain", content=b"text", headers=headers)
    assert no_image == (422, "no image: not_an_image")
    status, message = refusal(client, "/feedback", content=PNG, headers=headers)
    assert (status, message.partition(":")[0]) == (400, "label is missing")
    elsewhere = headers | {"Sec-Fetch-Site": "cross-site"}
    assert refusal(client, "/feedback?label=plain", content=PNG, headers=elsewhere)[0] == 403
    assert len([path for path in (tmp_path / "kept").rglob("*") if path.is_file()]) == 1


def test_a_picture_with_a_refused_label_is_not_answered(
    client_of: MakeClient, batcher: Batcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer would be logged, once more than the picture was asked about."""
    client = client_of(feedback=FeedbackFolder(tmp_path / "kept"))
    submitted: list[int] = []
    monkeypatch.setattr(batcher, "submit", lambda *_: submitted.append(1))
    headers = {"Content-Type": "image/png"}
    assert refusal(client, "/feedback?label=cat", content=PNG, headers=headers) == (
        400,
        "the label is no class of the model",
    )
    assert not submitted


def test_without_a_folder_nothing_is_kept(client: TestClient) -> None:
    assert "<select" not in client.get("/").text
    headers = {"Content-Type": "image/png"}
    assert refusal(client, "/feedback?label=plain", content=PNG, headers=headers)[0] == 404
