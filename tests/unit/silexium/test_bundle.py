"""The bundle's form: closed, canonical, bounded; and nothing but the declared error under mutation."""

from __future__ import annotations

import base64
import random
from dataclasses import replace

import pytest

from libreseed import limits, wire
from libreseed.errors import ProofRejected
from libreseed.silexium.bundle import HeaderRun, parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.verification import ReleaseVerification
from tests.silexium_support import NOW, RELEASE, Draft, policy

BUNDLE = Draft(witnesses=2).bundle()
MEMBERS = wire.parse(BUNDLE.data, max_bytes=limits.BUNDLE_BYTES)


def test_round_trip() -> None:
    assert parse_bundle(BUNDLE.data) == BUNDLE
    without = replace(BUNDLE, headers=None)
    assert parse_bundle(without.data) == without
    assert b"headers" not in without.data


def changed(path: str, value: wire.JsonValue) -> bytes:
    """The bundle with one member, named by a dotted path, replaced."""
    members = wire.parse(BUNDLE.data, max_bytes=limits.BUNDLE_BYTES)
    *parents, last = path.split(".")
    table = members
    for name in parents:
        table = table[name]
    table[last] = value
    return wire.canonical(members)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        BUNDLE.data + b"\n",
        BUNDLE.data.replace(b'"entry":', b'"entry": '),
        changed("protocol", "silexium-bundle-v2"),
        changed("extra", 1),
        changed("manifest", {}),
        changed("manifest", None),
        changed("attestations", []),
        changed("attestations.extra", "x"),
        changed("attestations.author", 1),
        changed("proofs.author.more", []),
        changed("proofs.author.tsa", "x"),
        changed("proofs.author.tsa", {}),
        changed("proofs.author.tsa", ["!"]),
        changed("proofs.author.tsa", ["AB=="]),  # spare bits
        changed("proofs.author.tsa", ["AA="]),
        changed("proofs.author.tsa", ["ÄÄÄÄ"]),
        changed("proofs.author.tsa", ["AAAA"] * (limits.STAMPS_PER_KIND + 1)),
        changed("proofs.author.ots", ["AAAA" * 5462]),  # one stamp over its limit
        changed("proofs.author.ots", [1]),
        changed("inclusion.leaf_index", -1),
        changed("inclusion.tree_size", 2**49),
        changed("inclusion.hashes", ["blake3:" + "0" * 64] * (limits.LOG_PROOF_HASHES + 1)),
        changed("inclusion.hashes", ["0" * 64]),
        changed("inclusion.extra", 1),
        changed("cosignatures", {}),
        changed("cosignatures", ["x"] * (limits.NOTE_SIGNATURES + 1)),
        changed("cosignatures", [1]),
        changed("headers", []),
        changed("headers.base", -1),
        changed("headers.data", 5),
        b" " * (limits.BUNDLE_BYTES + 1),
    ],
    ids=lambda data: f"{len(data)}",
)
def test_a_malformed_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(ProofRejected) as error:
        parse_bundle(data)
    assert (error.value.reason, error.value.exit_code) == ("silexium.bundle", 40)


@pytest.mark.parametrize("name", sorted(set(MEMBERS) - {"headers"}))
def test_a_bundle_that_lacks_something_is_refused(name: str) -> None:
    with pytest.raises(ProofRejected) as error:
        parse_bundle(wire.canonical({key: value for key, value in MEMBERS.items() if key != name}))
    assert error.value.reason == "silexium.bundle"


def test_a_bundle_never_grows_over_its_limit() -> None:
    with pytest.raises(ProofRejected):
        _ = replace(BUNDLE, headers=HeaderRun(0, bytes(800_000))).data


def _leaves(value: wire.JsonValue, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in _leaves(item, (*path, name))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, (*path, index))]
    return [path]


def _mutate(randomness: random.Random, value: wire.JsonValue) -> wire.JsonValue:
    if isinstance(value, str) and value and randomness.random() < 0.8:
        at = randomness.randrange(len(value))
        kind = randomness.choice(["swap", "drop", "add"])
        middle = {"swap": randomness.choice('Aa0"{}:='), "drop": "", "add": value[at] + "0"}[kind]
        return value[:at] + middle + value[at + 1 :]
    if type(value) is int and randomness.random() < 0.8:
        return value + randomness.choice([-1, 1, 2**20])
    return randomness.choice([None, True, 0, "", [], {}])


def test_no_mutation_of_any_member_is_accepted_or_raises_another_error() -> None:
    """Every leaf of the JSON in turn; made canonical again, so that the checks behind the form are reached."""
    randomness = random.Random(23)
    paths = _leaves(MEMBERS)
    refusals = set()
    for path in paths * 6:
        members = wire.parse(BUNDLE.data, max_bytes=limits.BUNDLE_BYTES)
        table = members
        for name in path[:-1]:
            table = table[name]
        before = table[path[-1]]
        table[path[-1]] = _mutate(randomness, before)
        if table[path[-1]] == before and type(table[path[-1]]) is type(before):
            continue
        verification = ReleaseVerification(policy(), RELEASE, now=NOW)
        try:
            verify_bundle(verification, parse_bundle(wire.canonical(members)))
        except ProofRejected as error:
            refusals.add(error.reason)
        else:
            # What nobody relies on: lines of witnesses that the policy does not know.
            assert path[0] == "cosignatures" or (path[0] == "headers" and _still_the_same_block(members))
    assert len(refusals) >= 12


def _still_the_same_block(members: wire.JsonValue) -> bool:
    """A regtest header whose nonce changed may still do its work; the proof leads to its root all the same."""
    data = base64.b64decode(members["headers"]["data"])
    assert BUNDLE.headers is not None
    return data[80 + 36 : 80 + 68] == BUNDLE.headers.data[80 + 36 : 80 + 68]
