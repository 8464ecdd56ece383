import base64
import json
from typing import Any

import pytest

from pipeline.core.errors import PipelineError
from pipeline.experiments.attestation import envelope, keys
from pipeline.experiments.attestation.envelope import PAYLOAD_TYPE
from tests.builders.attestations import key


def signed(payload: bytes = b"{}") -> bytes:
    return envelope.sign(payload, key())


def changed(**values: Any) -> bytes:
    return json.dumps(json.loads(signed()) | values, indent=1).encode() + b"\n"


def test_an_envelope_is_read_as_it_was_signed() -> None:
    result = envelope.parse(signed(b"abc"), "x")
    assert result.payload == b"abc"
    assert result.is_signed_by(key().public_key())
    assert not result.is_signed_by(key(1).public_key())


def test_the_same_payload_and_key_give_the_same_bytes() -> None:
    assert signed() == signed()


def test_the_signature_is_that_of_dsse() -> None:
    """The protocol's own example of the encoding, with the bytes that are signed."""
    assert envelope._encode(b"hello") == b"DSSEv1 28 application/vnd.in-toto+json 5 hello"


def test_another_payload_has_another_signature() -> None:
    forged = changed(payload=base64.b64encode(b"[]").decode())
    assert not envelope.parse(forged, "x").is_signed_by(key().public_key())


def test_a_signature_of_another_key_under_this_keys_name_is_none() -> None:
    other = json.loads(envelope.sign(b"{}", key(1)))["signatures"][0]["sig"]
    forged = changed(signatures=[{"keyid": keys.identify(key().public_key()), "sig": other}])
    assert not envelope.parse(forged, "x").is_signed_by(key().public_key())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b"[" + b"9" * 5000 + b"]",
        changed(payloadType="text/plain"),
        changed(payload=5),
        changed(payload="e30"),  # no padding
        changed(payload="e31="),  # the spare bits are not zero: {} too
        changed(payload="e3\n0="),
        changed(signatures=[]),
        changed(signatures=[{}]),
        changed(signatures=json.loads(signed())["signatures"] * 2),
        changed(more=1),
        signed() + b" ",
        signed()[:-1],
        signed().replace(b'"payloadType"', b'"payload": "e30=",\n "payloadType"'),
        b"\xef\xbb\xbf" + signed(),
        signed().decode().encode("utf-16"),
    ],
)
def test_anything_else_is_one_sentence(data: bytes) -> None:
    with pytest.raises(PipelineError, match=r"^x is (no signed statement|not as)") as caught:
        envelope.parse(data, "x")
    assert len(str(caught.value)) < 400


def test_no_byte_can_change_unnoticed() -> None:
    data = signed(json.dumps({"some": "statement"}).encode())
    for place in range(len(data)):
        other = bytearray(data)
        other[place] ^= 1 << place % 8
        try:
            result = envelope.parse(bytes(other), "x")
        except PipelineError:
            continue
        assert not result.is_signed_by(key().public_key()), place


def test_the_type_is_that_of_in_toto() -> None:
    assert json.loads(signed())["payloadType"] == PAYLOAD_TYPE == "application/vnd.in-toto+json"
