"""Whatever authorities, calendars and clients send: the declared error, or a refusal in the protocol's own form."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest
from asn1crypto import core, tsp
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed.adapters.silexium.stamps.embedded import _certificates, _der
from libreseed.errors import ProofRejected
from libreseed.silexium.embedded_calendar import aggregate
from libreseed.silexium.embedded_tsa import EMBEDDED_POLICY, EmbeddedTsa
from libreseed.silexium.ots import OtsPath, parse_timestamp
from libreseed.silexium.ots_promise import join, open_promise, submission
from libreseed.silexium.rfc3161 import TrustedTsa
from libreseed.silexium.time_stamp_request import TimeStampRequest

NOW = 1_790_000_000
MESSAGE = b"an attestation"
DIGEST, NONCE = hashlib.sha256(MESSAGE).digest(), bytes(16)
URI = "https://calendar.example"


def make_tsa() -> tuple[EmbeddedTsa, TrustedTsa]:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    root, leaf, key = _certificates()
    private = load_pem_private_key(key, None)
    assert isinstance(private, EllipticCurvePrivateKey)
    return EmbeddedTsa(private, _der(leaf)), TrustedTsa("tsa", _der(root), policy=EMBEDDED_POLICY)


TSA, TRUSTED = make_tsa()
REQUEST = TimeStampRequest(MESSAGE, 12345)
PROMISED = aggregate([submission(DIGEST, NONCE)], [bytes(16)], uri=URI, key=bytes(32), now=NOW)
PROMISE = open_promise(DIGEST, NONCE, PROMISED.answers[0], lambda uri: uri == URI)


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """``data`` with a few bytes changed, cut, doubled or put in; or anything at all."""

    @st.composite
    def changed(draw: st.DrawFn) -> bytes:
        out = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            at = draw(st.integers(0, max(len(out) - 1, 0)))
            kind = draw(st.integers(0, 3))
            if kind == 0 and out:
                out[at] = draw(st.integers(0, 255))
            elif kind == 1:
                del out[at:]
            elif kind == 2:
                out[at:at] = draw(st.binary(max_size=8))
            else:
                out += out[at : at + 16]
        return bytes(out)

    return st.one_of(changed(), st.binary(max_size=300))


def status_of(response: bytes) -> str:
    class Reply(core.Sequence):  # type: ignore[misc]  # asn1crypto has no types
        _fields = [("status", tsp.PKIStatusInfo), ("token", core.Any, {"optional": True})]  # noqa: RUF012  # asn1crypto's way

    return str(Reply.load(response, strict=True)["status"]["status"].native)


@settings(max_examples=300, deadline=None)
@given(mutations(REQUEST.encode()))
def test_the_embedded_authority_answers_anything_in_its_own_form(request: bytes) -> None:
    answer = TSA.answer(request, now=NOW, serial=7)
    status = status_of(answer)
    assert status in ("granted", "rejection")
    if status == "granted":  # only for what asks for a digest that it states, in DER
        assert tsp.TimeStampReq.load(request, strict=True)["version"].native == "v1"


@settings(max_examples=150, deadline=None)
@given(mutations(TSA.answer(REQUEST.encode(), now=NOW, serial=7)))
def test_only_the_declared_error_escapes_from_an_authoritys_answer(response: bytes) -> None:
    try:
        stamp = REQUEST.accept(response, [TRUSTED], now=NOW)
    except ProofRejected as error:
        assert error.reason.startswith("silexium.")
    else:  # what nobody signs may differ, what is proven may not
        assert (stamp.tsa, stamp.time) == ("tsa", NOW + 1)


@settings(max_examples=500, deadline=None)
@given(mutations(PROMISED.answers[0]))
def test_only_the_declared_error_escapes_from_a_calendars_promise(answer: bytes) -> None:
    try:
        proof = open_promise(DIGEST, NONCE, answer, lambda uri: uri == URI)
    except ProofRejected as error:
        assert error.reason in ("silexium.ots", "silexium.calendar")
    else:
        assert proof.startswith(PROMISE[:20])


@settings(max_examples=500, deadline=None)
@given(mutations(bytes.fromhex("08000588960d73d719010101")))
def test_only_the_declared_error_escapes_from_a_calendars_upgrade(answer: bytes) -> None:
    try:
        proofs = join(PROMISE, DIGEST, answer)
    except ProofRejected as error:
        assert error.reason in ("silexium.ots", "silexium.ots-pending")
    else:
        assert proofs


def forks(depth: int, draw: random.Random) -> bytes:
    """A random time stamp with branches, written without the code under test."""
    out = b""
    for _ in range(draw.randrange(3) if depth else 0):
        out += b"\xff" + branch(depth - 1, draw)
    return out + branch(depth - 1, draw)


def branch(depth: int, draw: random.Random) -> bytes:
    if depth <= 0 or draw.random() < 0.3:
        return b"\x00" + bytes.fromhex("83dfe30d2ef90c8e") + b"\x02\x01a"
    operation: Callable[[], bytes] = draw.choice([lambda: b"\x08", lambda: b"\xf0\x01b", lambda: b"\xf1\x02cd"])
    return operation() + forks(depth, draw)


@pytest.mark.parametrize("seed", range(20))
def test_every_branch_leads_where_its_own_operations_lead(seed: int) -> None:
    data = forks(5, random.Random(seed))
    for path in parse_timestamp(data, DIGEST):
        assert result_of(path) == getattr(path.end, "commitment", None)


def result_of(path: OtsPath) -> bytes:
    message = DIGEST
    for name, argument in path.steps:
        if name == "append":
            message += argument
        elif name == "prepend":
            message = argument + message
        else:
            message = hashlib.sha256(message).digest()
    return message


def test_a_proof_of_many_forks_costs_no_more_than_its_bound() -> None:
    """The most branches that fit below the deepest chain: 512 operations in all, however they are arranged."""
    end = b"\x00" + bytes.fromhex("83dfe30d2ef90c8e") + b"\x01\x00"
    assert len(parse_timestamp(b"\x08" * 256 + (b"\xff" + end) * 255 + end, DIGEST)) == 256
    with pytest.raises(ProofRejected):
        parse_timestamp(b"\x08" * 256 + (b"\xff" + end) * 256 + end, DIGEST)
