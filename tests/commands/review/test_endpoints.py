"""The page and its requests, over the real server."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.commands.review import endpoints
from pipeline.commands.review.catalogue import Catalogue, FlagKind, Flags
from pipeline.commands.review.endpoints import Endpoints
from pipeline.commands.review.server import PageServer
from pipeline.core import shards
from pipeline.core.split_csv import SplitRow, write_split
from pipeline.images import decoding, hand_lists
from tests.builders.clean_rows import clean_row
from tests.builders.images import noise_png

HOSTILE = "<img src=x onerror=alert(1)>\u202e"
IDS = [f"{number:064x}" for number in range(70)]
JPEG = decoding.encode(np.full((32, 32, 3), 90, np.uint8), lossless=False)
LABELS = ["cat", "dog", HOSTILE]


def label_of(key: str) -> str:
    return LABELS[int(key, 16) % 3]


class Client:
    """Asks as the page does."""

    def __init__(self, server: PageServer) -> None:
        self._url = server.url
        self._origin = server.url[: -len(server.token) - 2]

    def get(self, path: str) -> tuple[str, bytes]:
        with urllib.request.urlopen(self._url + path, timeout=10) as response:
            return response.headers["Content-Type"], response.read()

    def listing(self, query: str) -> Any:
        return json.loads(self.get(f"images?{query}")[1])

    def ids(self, query: str) -> list[str]:
        return [image["id"] for image in self.listing(query)["images"]]

    def post(self, body: object) -> tuple[int, dict[str, str]]:
        headers = {"Origin": self._origin, "Content-Type": "application/json"}
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._url + "decisions", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture
def pets(world: Path) -> Path:
    """The folder of a data set."""
    folder = Path("datasets/pets")
    folder.mkdir(parents=True)
    rows = [
        clean_row(key, noise_png(number), label=label_of(key), name=f"{HOSTILE}/{number}.png")
        for number, key in enumerate(IDS)
    ]
    rows[1] = clean_row(IDS[1], JPEG, label="dog", name="1.jpg")
    shards.write(Path("clean"), shards.CLEAN, rows)
    write_split(Path("split.csv"), [SplitRow(key, label_of(key), "train", "") for key in IDS])
    return folder


@pytest.fixture
def client(pets: Path) -> Iterator[Client]:
    flags = {
        FlagKind.LABEL: Flags([IDS[3]], [f"looks like {HOSTILE}"], [HOSTILE]),
        FlagKind.DARK: Flags([IDS[0], IDS[3]], ["dark: 9 %", "dark: 10 %"]),
    }
    catalogue = Catalogue(Path("clean"), Path("split.csv"), flags)
    answers = Endpoints(pets, Path("clean"), catalogue, ["no features <b>"])
    with PageServer(0, answers.get, answers.post) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Client(server)
        server.shutdown()
        thread.join()


def test_the_page_escapes_names_and_has_no_inline_script(client: Client) -> None:
    kind, content = client.get("")
    page = content.decode()
    assert kind == "text/html; charset=utf-8"
    assert HOSTILE not in page
    assert "&lt;img src=x onerror=alert(1)&gt;\\u202e" in page
    assert "no features &lt;b&gt;" in page
    assert page.count("<script") == 1
    assert '<script src="review.js" defer></script>' in page
    assert "http-equiv" not in page  # the header has the policy
    assert client.get("review.js")[0] == "text/javascript; charset=utf-8"


def test_flagged_images_are_listed_the_clearest_case_first(client: Client) -> None:
    listing = client.listing("reason=flagged")
    assert listing["total"] == 2
    first, second = listing["images"]
    assert first == {
        "row": 3,
        "id": IDS[3],
        "name": "<img src=x onerror=alert(1)>\\u202e/3.png",
        "label": "cat",
        "class": 1,  # after the one in <>
        "split": "train",
        "notes": ["looks like <img src=x onerror=alert(1)>\\u202e", "dark: 10 %"],
        "suggested": 0,
        "decision": "",
        "is_rejected": False,
    }
    assert (second["id"], second["suggested"]) == (IDS[0], None)


def test_filters_and_pages(client: Client) -> None:
    assert client.ids("reason=dark") == [IDS[0], IDS[3]]
    assert client.ids("reason=blurred") == []
    dogs = [key for key in IDS if label_of(key) == "dog"]
    assert client.ids("reason=everything&label=2") == dogs
    assert client.ids("reason=everything&split=train&page=0") == IDS[: endpoints.PAGE]
    assert client.ids("reason=everything&page=1") == IDS[endpoints.PAGE :]
    beyond = client.listing("reason=everything&page=99")  # as after saving on the last page
    assert (beyond["page"], beyond["total"]) == (1, len(IDS))


@pytest.mark.parametrize(
    "query", ["reason=x", "label=9", "label=-1", "label=x", "split=moon", "page=x"]
)
def test_what_no_choice_of_the_page_sends_is_not_found(client: Client, query: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        client.listing(query)
    assert caught.value.code == 404
    caught.value.close()


def test_images_are_sent_as_they_are_stored(client: Client) -> None:
    assert client.get(f"image/5-{IDS[5]}") == ("image/png; charset=utf-8", noise_png(5))
    assert client.get(f"image/1-{IDS[1]}") == ("image/jpeg; charset=utf-8", JPEG)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("image/99-" + IDS[0], 404),
        ("image/-1-" + IDS[0], 404),
        ("image/" + "9" * 5000 + "-" + IDS[0], 404),
        ("image/../../etc/passwd", 404),
        ("image/1-" + IDS[2], 409),  # data/clean has changed
        ("datasets/pets/dataset.toml", 404),
    ],
)
def test_other_addresses_have_nothing(client: Client, path: str, code: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        client.get(path)
    assert caught.value.code == code
    caught.value.close()


def test_an_image_beyond_shorter_shards_has_changed(pets: Path, client: Client) -> None:
    """As after `dvc repro` with a longer reject.csv, while the page is open."""
    shards.write(Path("clean"), shards.CLEAN, [clean_row(IDS[0], noise_png(0), label="cat")])
    with pytest.raises(urllib.error.HTTPError) as caught:
        client.get(f"image/69-{IDS[69]}")
    with caught.value as error:
        assert (error.code, json.load(error)["error"]) == (409, endpoints.CHANGED)


def test_decisions_are_appended_with_their_reasons(client: Client, pets: Path) -> None:
    (pets / "reject.csv").write_text(f"id,why\n{IDS[9]},mine")
    labels = [{"id": IDS[3], "class": 2}, {"id": IDS[5], "class": None}]
    status, answer = client.post({"reject": [IDS[0]], "label": labels})
    assert status == 200
    assert answer["message"].startswith("Lines appended: 1 to reject.csv and 2 to relabel.csv.")
    text = (pets / "reject.csv").read_text()
    assert text == f"id,why\n{IDS[9]},mine\n{IDS[0]},review: dark: 9 %\n"
    labels_by_id = {key: row.label for key, row in hand_lists.read_corrections(pets).items()}
    assert labels_by_id == {IDS[3]: "dog", IDS[5]: HOSTILE}  # the latter is confirmed
    assert client.post({"reject": [IDS[0]], "label": []})[1]["message"].startswith(
        "Lines appended: none, all were there."
    )


def test_images_with_a_decision_are_listed_on_request_alone(client: Client, pets: Path) -> None:
    client.post({"reject": [IDS[0]], "label": [{"id": IDS[3], "class": 2}]})
    assert client.ids("reason=flagged") == []
    texts = [image["decision"] for image in client.listing("reason=flagged&decisions=1")["images"]]
    assert texts == [
        "in relabel.csv: dog",
        "in reject.csv: delete its line to take it back",
    ]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"reject": [1], "label": []},
        {"reject": [], "label": [{"id": IDS[0], "class": "cat"}]},
        {"reject": [], "label": [{"id": IDS[0], "class": 3}]},
        {"reject": [], "label": [{"id": IDS[0], "class": -1}]},
        {"reject": [], "label": [], "folder": "/etc"},
        {"reject": ["f" * 64], "label": []},
        {"reject": ["a\nb,c"], "label": []},
        {"reject": [IDS[0]], "label": [{"id": IDS[0], "class": 1}]},
    ],
)
def test_malformed_decisions_write_nothing(client: Client, pets: Path, body: object) -> None:
    status, answer = client.post(body)
    assert status == 409
    assert answer["error"] in {endpoints.MALFORMED, endpoints.CHANGED}
    assert list(pets.iterdir()) == []


def test_a_malformed_list_is_an_error_and_stays_as_it_is(client: Client, pets: Path) -> None:
    (pets / "relabel.csv").write_text("id;label;why\n")
    status, answer = client.post({"reject": [IDS[0]], "label": []})
    assert status == 409
    assert "relabel.csv should start with the line id,label,why" in answer["error"]
    assert [path.name for path in pets.iterdir()] == ["relabel.csv"]


def test_windows_that_save_at_once_lose_nothing(client: Client, pets: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda key: client.post({"reject": [key], "label": []}), IDS[:24]))
    assert {status for status, _ in answers} == {200}
    assert set(hand_lists.read_rejects(pets)) == set(IDS[:24])
