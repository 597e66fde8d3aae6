"""What goes to and comes from a Silexium server: strict forms, and nothing but the declared error."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed import limits, wire
from libreseed.errors import ProofRejected
from libreseed.ids import PackageName, Version
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.install_answer import InstallAnswer, parse_install_answer
from libreseed.silexium.install_request import InstallRequest, parse_install_request
from libreseed.silexium.release_manifest import Artifact, ReleaseManifest
from libreseed.silexium.verification import ReleaseVerification
from tests.silexium_support import NOW, RELEASE, Draft, digest, manifest, policy

BINARIES = [
    Artifact("binary", 7, digest(b"binary"), "https://example.org/hello", system, "x86_64")
    for system in ("linux", "windows")
]
DRAFT = Draft(manifest=manifest(artifacts=BINARIES))
BUNDLE = DRAFT.bundle()
ANSWER = InstallAnswer.of(
    DRAFT.manifest,
    BUNDLE,
    ("linux", "x86_64"),
    consistency=DRAFT.log.consistency(3, BUNDLE.inclusion.size),
    up_to_date=False,
)
STH = DRAFT.log.head().members()
REQUEST = {"package": "hello", "os": "linux", "arch": "x86_64"}


@pytest.mark.parametrize(
    "more", [{}, {"version": "1.0.0"}, {"channel": "beta"}, {"known_sth": STH}, {"version": "1.0.0", "channel": "beta"}]
)
def test_a_request_survives_the_round_trip(more: dict[str, object]) -> None:
    request = parse_install_request(json.dumps(REQUEST | more, indent=2).encode())
    assert request.members() == REQUEST | more
    assert parse_install_request(wire.canonical(request.members())) == request


def test_an_update_names_what_is_installed_and_no_version() -> None:
    request = parse_install_request(json.dumps(REQUEST | {"current_version": "1.0.0"}).encode(), update=True)
    assert request == InstallRequest(PackageName("hello"), "linux", "x86_64", current_version=Version("1.0.0"))
    for wrong in (REQUEST, REQUEST | {"current_version": "1.0.0", "version": "1.0.0"}):
        with pytest.raises(ProofRejected) as caught:
            parse_install_request(json.dumps(wrong).encode(), update=True)
        assert caught.value.reason == "silexium.request"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"package":"hello","os":"linux","arch":"x86_64","arch":"arm"}',
        b'{"package":"hello","os":"linux"}',
        b'{"package":"Hello","os":"linux","arch":"x86_64"}',
        b'{"package":"hello","os":"linux","arch":"x86_64","extra":1}',
        b'{"package":"hello","os":"../linux","arch":"x86_64"}',
        b'{"package":"hello","os":"linux","arch":1}',
        b'{"package":"hello","os":"linux","arch":"x86_64","version":"latest"}',
        b'{"package":"hello","os":"linux","arch":"x86_64","channel":"Stable"}',
        b'{"package":"hello","os":"linux","arch":"x86_64","channel":null}',
        b'{"package":"hello","os":"linux","arch":"x86_64","known_sth":[]}',
        b'{"package":"hello","os":"linux","arch":"x86_64","known_sth":{"tree_size":1.5}}',
        b'{"package":"hello","os":"linux","arch":"x86_64","known_sth":{"tree_size":NaN}}',
        b'{"package":"hello","os":"linux","arch":"\\ud800"}',
        b'{"package":"hello","os":"linux","arch":"x86_64","known_sth":' + b'{"a":' * 40 + b"1" + b"}" * 41,
        b"[" * 4000 + b"]" * 4000,
        b'{"package":"' + b"h" * limits.INSTALL_REQUEST_BYTES + b'","os":"linux","arch":"x86_64"}',
    ],
)
def test_a_hostile_request_is_refused(body: bytes) -> None:
    with pytest.raises(ProofRejected) as caught:
        parse_install_request(body)
    assert caught.value.reason == "silexium.request"


@given(st.binary(max_size=300))
def test_no_request_raises_anything_else(body: bytes) -> None:
    with pytest.raises(ProofRejected):
        parse_install_request(body)


def test_an_answer_survives_the_round_trip_and_proves_the_release() -> None:
    answer = parse_install_answer(json.dumps(ANSWER.members()).encode())
    assert answer == ANSWER
    assert answer.binary is not None
    assert answer.binary.os == "linux"
    trusted = verify_bundle(ReleaseVerification(policy(), RELEASE, now=NOW), answer.bundle)
    assert trusted.manifest == ReleaseManifest(DRAFT.manifest.data)


def test_a_platform_without_a_binary_gets_the_source() -> None:
    answer = InstallAnswer.of(DRAFT.manifest, replace(BUNDLE, headers=None), ("plan9", "mips"))
    assert parse_install_answer(json.dumps(answer.members()).encode()) == answer
    assert (answer.binary, answer.consistency, answer.up_to_date) == (None, None, None)
    assert answer.source == DRAFT.manifest.source


@pytest.mark.parametrize("place", ["release", "manifest", "attestations", "proofs", "log_proof", "artifacts"])
@pytest.mark.parametrize("value", [None, {}, [], 1, "x"])
def test_a_malformed_answer_is_refused(place: str, value: object) -> None:
    with pytest.raises(ProofRejected) as caught:
        parse_install_answer(json.dumps({**ANSWER.members(), place: value}).encode())
    assert caught.value.reason in ("silexium.answer", "silexium.bundle")


def test_an_answer_is_a_closed_set() -> None:
    with pytest.raises(ProofRejected) as caught:
        parse_install_answer(json.dumps({**ANSWER.members(), "trust_me": True}).encode())
    assert caught.value.reason == "silexium.answer"
