import copy
import json
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.experiments.attestation import statement
from pipeline.experiments.attestation.statement import Annotations, Digest, File
from tests.builders.attestations import predicate


def file(name: str) -> File:
    return File(name=name, digest=Digest(sha256="0" * 64), annotations=Annotations(bytes=1))


MADE = statement.create([file("models/a")], predicate([file("params.yaml")]))


def changed(path: str, value: Any) -> bytes:
    """The payload with another value at a path such as "predicate.code.commit"."""
    content = copy.deepcopy(json.loads(statement.render(MADE)))
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[int(name) if name.isdecimal() else name]
    place[last] = value
    return json.dumps(content).encode()


def test_a_statement_is_read_as_it_was_written() -> None:
    assert statement.parse(statement.render(MADE), "x") == MADE


def test_it_has_the_form_of_in_toto() -> None:
    content = json.loads(statement.render(MADE))
    assert content["_type"] == "https://in-toto.io/Statement/v1"
    assert content["subject"][0]["digest"] == {"sha256": "0" * 64}
    assert set(content) == {"_type", "subject", "predicateType", "predicate"}


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../secret",
        "models/../../secret",
        "models/..",
        "C:\\secret",
        "C:secret",
        "a\\..\\b",
        "a//b",
        "./a",
        "a/",
        ".",
        "",
        "a\0b",
        "a\nb",
        "a\u202eb",
        "\ud800",
        "x" * 2000,
        "x" * 256,
        "\u00e4" * 128,  # 256 bytes
        "x/" * 512 + "x",
        5,
        None,
        ["a"],
    ],
)
def test_a_path_out_of_the_project_is_refused(name: object) -> None:
    for place in ("predicate.materials.0.name", "subject.0.name", "predicate.dataset.name"):
        with pytest.raises(PipelineError, match="the statement in x cannot be read"):
            statement.parse(changed(place, name), "x")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1"),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("subject", []),
        ("subject", {}),
        ("subject.0.digest", {"sha1": "0" * 40}),
        ("subject.0.digest.sha256", "0" * 63),
        ("subject.0.digest.sha256", "A" * 64),
        ("subject.0.annotations.bytes", -1),
        ("subject.0.annotations.bytes", True),
        ("subject.0.annotations.bytes", 1e300),
        ("subject.0.name", "model.onnx"),  # no file of the model is left
        ("predicate.materials.0.name", "models/a"),  # twice
        ("predicate.code.commit", "HEAD"),
        ("predicate.code.commit", "--output=/tmp/x"),
        ("predicate.dataset.images", "3"),
        ("predicate.metrics", {"accuracy": "1"}),
        ("predicate.metrics", {"accuracy": float("inf")}),
        ("predicate.metrics", {"accuracy": int("9" * 4000)}),
        ("predicate.unknown", 1),
    ],
)
def test_wrong_values_are_one_sentence(path: str, value: object) -> None:
    with pytest.raises(PipelineError, match="the statement in x cannot be read") as caught:
        statement.parse(changed(path, value), "x")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("payload", [b"", b"{}", b"5", b"[" * 10**6, b'{"_type": 1, "_type": 2}'])
def test_what_is_no_statement_is_one_sentence(payload: bytes) -> None:
    with pytest.raises(PipelineError, match="the statement in x cannot be read"):
        statement.parse(payload, "x")


@pytest.mark.timeout(20)
def test_a_statement_about_very_many_files_is_refused() -> None:
    entry = file("x").model_dump()
    many = [entry | {"name": f"d{number}/x"} for number in range(20_001)]
    assert statement.parse(changed("predicate.materials", many[:-1]), "x")
    with pytest.raises(PipelineError, match="it has more than 20,000 files"):
        statement.parse(changed("predicate.materials", many), "x")


def test_a_key_that_is_there_twice_is_refused() -> None:
    twice = statement.render(MADE).replace(b'"run": ""', b'"run": "",\n  "run": ""')
    with pytest.raises(PipelineError, match="a key twice"):
        statement.parse(twice, "x")


def test_only_images_count_as_data() -> None:
    assert file("data/raw/00000.arrow").is_data
    assert not file("data/split.csv").is_data
    assert not file("models/data/raw/x").is_data
