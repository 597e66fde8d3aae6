"""Attestations: the vectors, and what a thief of a key, of a role or of a payload would try."""

from __future__ import annotations

import random
from base64 import b64encode

import pytest

from libreseed import limits, wire
from libreseed.errors import Malformed, ProofRejected, UsageFault
from libreseed.ids import Blake3Digest, PackageName, PublicKey, Signature, Version
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.attestation import (
    ATTESTATION_DOMAIN,
    Attestation,
    AuthorClaim,
    Claim,
    ServerClaim,
    SuiteClaim,
    parse_attestation,
    unverified_key_id,
)
from libreseed.silexium.instants import format_instant, parse_instant
from libreseed.silexium.keyring import KeyId, Keyring, Role, TrustedKey, require_standing
from tests.vectors_support import Row, document, rows

KEY = PrivateKey(bytes([7]) * 32)
NOW = 1_800_000_000
HASHES = [Blake3Digest(bytes([n]) * 32) for n in range(6)]
AUTHOR = AuthorClaim(HASHES[0], HASHES[1], HASHES[2], PackageName("hello"), Version("1.0.0"), "MIT")
SUITE = SuiteClaim(HASHES[3], HASHES[0], "suite", True, HASHES[5])
SERVER = ServerClaim(HASHES[3], HASHES[4], HASHES[0], (HASHES[2],))


@pytest.mark.parametrize("row", rows("attestation.json"))
def test_attestation_vector(row: Row) -> None:
    key = PublicKey(bytes.fromhex(row["public"]))
    if row["expect"] == "reject":
        with pytest.raises(ProofRejected) as error:
            parse_attestation(document(row), key)
        assert error.value.exit_code == 40
        return
    attestation = parse_attestation(document(row), key)
    assert (str(attestation.role), str(attestation.key_id)) == (row["role"], row["key_id"])
    assert format_instant(attestation.created_at) == row["created_at"]
    assert str(attestation.digest) == row["hash"]
    assert attestation.claim.payload() == row["payload"]
    rebuilt = Attestation.build(attestation.claim, attestation.created_at, PrivateKey(bytes.fromhex(row["seed"])))
    assert rebuilt == attestation


@pytest.mark.parametrize("claim", [AUTHOR, SUITE, SERVER, SuiteClaim(HASHES[3], HASHES[0], "suite", False)])
def test_round_trip(claim: Claim) -> None:
    attestation = Attestation.build(claim, NOW, KEY)
    assert parse_attestation(attestation.data, KEY.public).claim == claim
    assert unverified_key_id(attestation.data) == KeyId.of(KEY.public)


def reason_of(data: bytes, key: PublicKey = KEY.public) -> str:
    with pytest.raises(ProofRejected) as error:
        parse_attestation(data, key)
    return error.value.reason


def signed(**changes: wire.JsonValue) -> bytes:
    """An author's attestation with ``changes``, signed as it then stands."""
    members: dict[str, wire.JsonValue] = {
        "role": "author",
        "key_id": str(KeyId.of(KEY.public)),
        "created_at": format_instant(NOW),
        "payload": AUTHOR.payload(),
    }
    members |= changes
    return wire.canonical(members | {"signature": str(KEY.sign_document(ATTESTATION_DOMAIN, members))})


def test_the_signature_of_another_key_is_refused() -> None:
    members = wire.parse(signed(), max_bytes=10**6)
    other = PrivateKey(bytes([8]) * 32)
    fields = {name: value for name, value in members.items() if name != "signature"}
    members["signature"] = str(other.sign_document(ATTESTATION_DOMAIN, fields))
    assert reason_of(wire.canonical(members)) == "silexium.signature"


def test_a_signature_for_another_domain_is_refused() -> None:
    members = wire.parse(signed(), max_bytes=10**6)
    fields = {name: value for name, value in members.items() if name != "signature"}
    members["signature"] = str(KEY.sign_document("libreseed-manifest-v1", fields))
    assert reason_of(wire.canonical(members)) == "silexium.signature"


def test_a_malleable_signature_is_refused() -> None:
    """S + L passes a lax verifier, gives the same attestation a second hash, and so a second log entry."""
    members = wire.parse(signed(), max_bytes=10**6)
    raw = Signature.parse(members["signature"]).raw
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(raw[32:], "little") + order
    members["signature"] = "ed25519:" + b64encode(raw[:32] + s.to_bytes(32, "little")).decode()
    assert reason_of(wire.canonical(members)) == "silexium.signature"


def test_another_key_under_this_ones_id_is_refused() -> None:
    assert reason_of(signed(), PrivateKey(bytes([9]) * 32).public) == "silexium.key-unknown"


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "admin"},
        {"role": 1},
        {"created_at": "2027-13-01T00:00:00Z"},
        {"created_at": "2027-02-30T00:00:00Z"},
        {"created_at": "2027-01-01T00:00:60Z"},
        {"created_at": "2027-01-01 00:00:00Z"},
        {"created_at": "1969-12-31T23:59:59Z"},
        {"created_at": "٢٠٢٧-01-01T00:00:00Z"},
        {"payload": []},
        {"payload": AUTHOR.payload() | {"version": "1.0"}},
        {"payload": AUTHOR.payload() | {"package": "../x"}},
        {"payload": AUTHOR.payload() | {"manifest_hash": "sha256:" + "0" * 64}},
        {"role": "tests", "payload": SUITE.payload() | {"test_result": "passed"}},
        {"role": "tests", "payload": SUITE.payload() | {"test_report_hash": None}},
        {"role": "server", "payload": SERVER.payload() | {"artifact_hashes": []}},
        {"role": "server", "payload": SERVER.payload() | {"artifact_hashes": {str(HASHES[2]): 1}}},
        {"role": "server", "payload": SERVER.payload() | {"artifact_hashes": str(HASHES[2])}},
        {"role": "server", "payload": SERVER.payload() | {"artifact_hashes": [str(HASHES[0])] * 65}},
        {"extra": 1},
    ],
)
def test_a_signed_but_malformed_attestation_is_refused(changes: dict[str, wire.JsonValue]) -> None:
    assert reason_of(signed(**changes)) == "silexium.attestation"


def test_a_payload_may_say_more_than_its_role_demands() -> None:
    attestation = parse_attestation(signed(payload=AUTHOR.payload() | {"note": "more"}), KEY.public)
    assert attestation.claim == AUTHOR


def test_a_huge_attestation_is_refused_unread() -> None:
    assert reason_of(b" " * (limits.ATTESTATION_BYTES + 1)) == "silexium.attestation"


def test_only_the_declared_error_escapes_mutations() -> None:
    randomness = random.Random(3)
    good = signed()
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(randomness.randint(1, 3)):
            at = randomness.randrange(len(data))
            data[at : at + randomness.randint(0, 2)] = randomness.randbytes(randomness.randint(0, 2))
        if bytes(data) != good:
            with pytest.raises(ProofRejected):
                parse_attestation(bytes(data), KEY.public)


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00Z", "2024-02-29T23:59:59Z", "9999-12-31T23:59:59Z"])
def test_instants_round_trip(text: str) -> None:
    assert format_instant(parse_instant(text)) == text


@pytest.mark.parametrize("seconds", [-1, 253402300800])
def test_no_instant_is_written_outside_its_years(seconds: int) -> None:
    with pytest.raises(Malformed):
        format_instant(seconds)


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "blake3:" + "0" * 64, "٠" * 64, None, 5])
def test_a_key_id_is_bare_hex(text: object) -> None:
    with pytest.raises(Malformed):
        KeyId(text)  # type: ignore[arg-type]  # what a document may hold


AUTHOR_KEY = TrustedKey(
    KEY.public, frozenset({Role.AUTHOR}), frozenset({PackageName("hello")}), not_before=NOW - 100, not_after=NOW + 100
)


def test_a_key_that_nobody_trusts_is_unknown() -> None:
    with pytest.raises(ProofRejected) as error:
        Keyring([AUTHOR_KEY]).find(KeyId.of(PrivateKey(bytes([8]) * 32).public))
    assert error.value.reason == "silexium.key-unknown"


@pytest.mark.parametrize(("role", "package"), [(Role.SERVER, "hello"), (Role.AUTHOR, "other")])
def test_a_key_speaks_only_in_its_role_and_for_its_packages(role: Role, package: str) -> None:
    AUTHOR_KEY.require_role(Role.AUTHOR, PackageName("hello"))
    with pytest.raises(ProofRejected) as error:
        AUTHOR_KEY.require_role(role, PackageName(package))
    assert error.value.reason == "silexium.key-role"


def test_a_key_listed_twice_is_a_faulty_policy() -> None:
    with pytest.raises(UsageFault):
        Keyring([AUTHOR_KEY, TrustedKey(KEY.public, frozenset({Role.TESTS}))])


def standing(key: TrustedKey, created: int, stamped: int, anchored: int) -> str:
    try:
        require_standing(key, created_at=created, stamped_at=stamped, anchored_at=anchored)
    except ProofRejected as error:
        return error.reason
    return "good"


def test_expiry_is_judged_by_the_proven_time_not_by_the_claim() -> None:
    assert standing(AUTHOR_KEY, NOW, NOW, NOW + 7200) == "good"
    assert standing(AUTHOR_KEY, NOW, NOW + 101, NOW + 7200) == "silexium.key-expired"
    assert standing(AUTHOR_KEY, NOW - 101, NOW, NOW) == "silexium.key-expired"
    assert standing(AUTHOR_KEY, NOW - 101, NOW - 101, NOW) == "silexium.key-expired"
    assert standing(AUTHOR_KEY, NOW - 100, NOW - 101, NOW) == "silexium.key-expired"


def test_a_revoked_key_keeps_only_what_bitcoin_proves_older() -> None:
    revoked = TrustedKey(KEY.public, frozenset({Role.AUTHOR}), revoked_at=NOW)
    assert standing(revoked, NOW - 9000, NOW - 9000, NOW - 1) == "good"
    assert standing(revoked, NOW - 9000, NOW - 9000, NOW) == "silexium.key-revoked"
    assert standing(revoked, NOW - 9000, NOW, NOW - 9000) == "silexium.key-revoked"
