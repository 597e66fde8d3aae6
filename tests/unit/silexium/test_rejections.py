"""Step 10 from the attacker's side: each release is wrong in exactly one thing, and refused for exactly that.

The seed's section 10 line by line, then the table "Log, time, signatures" of attacks on comparable systems. What a
layer decides alone is tested beside it: links in archives (``package``), second preimages (``test_merkle``), notes
(``test_tree_heads``), forks and clocks (``test_log_memory``), certificates (``test_rfc3161``), headers and proofs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from libreseed import limits, wire
from libreseed.errors import LibreSeedError, ProofRejected, UsageFault
from libreseed.ids import Blake3Digest, PackageName, ReleaseId
from libreseed.silexium.attestation import Claim
from libreseed.silexium.bitcoin_headers import MAINNET, REGTEST, HeaderChain, mine_header
from libreseed.silexium.bundle import Bundle, HeaderRun, Stamps, parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.keyring import Role
from libreseed.silexium.log_entry import LogEntry
from libreseed.silexium.log_memory import HeadConflict, LogMemory
from libreseed.silexium.merkle import BLAKE3_TREE
from libreseed.silexium.ots import BitcoinAttestation, PendingAttestation, write_ots
from libreseed.silexium.quorum import Quorum
from libreseed.silexium.release_manifest import Artifact
from libreseed.silexium.stamps import TimePolicy
from libreseed.silexium.tree_head import NamedKey, SignedTreeHead
from libreseed.silexium.trust_policy import SilexiumPolicy, TrustedLog
from libreseed.silexium.verification import ReleaseVerification, TrustedRelease
from tests.silexium_support import (
    BLOCK_TIME,
    CREATED,
    DIGESTS,
    KEYS,
    LOG,
    LOGGED,
    NOW,
    RELEASE,
    SIZES,
    SRC,
    STAMPED,
    TGZ,
    WITNESSES,
    Draft,
    MemoryLog,
    authorities,
    digest,
    keyring,
    manifest,
    policy,
    private,
    quorum,
    time_policy,
    trusted_tsas,
)
from tests.tsa_support import Authority, certify, root_authority

AUTHOR, TESTS, SERVER = Role.AUTHOR, Role.TESTS, Role.SERVER
H = Blake3Digest(bytes(32))


def refused(
    bundle: Bundle, trust: SilexiumPolicy | None = None, *, release: ReleaseId = RELEASE, **options: object
) -> LibreSeedError:
    """The refusal; the state stays as it was before the check that refused, and that check is the last recorded."""
    now = options.pop("now", NOW)
    verification = ReleaseVerification(trust or policy(), release, now=now)  # type: ignore[arg-type]  # an int
    with pytest.raises(ProofRejected) as error:
        verify_bundle(verification, parse_bundle(bundle.data), **options)  # type: ignore[arg-type]  # see verify_bundle
    assert error.value.exit_code == 40
    assert error.value.step == 10
    assert [check.verdict for check in verification.checks] == ["passed"] * verification.completed + [
        error.value.reason
    ]
    assert error.value.evidence["check"] == verification.checks[-1].number == f"10.{verification.completed + 1}"
    assert verification.trusted.memory is None
    return error.value


def verdict(bundle: Bundle, trust: SilexiumPolicy | None = None, **options: object) -> tuple[str, object]:
    error = refused(bundle, trust, **options)  # type: ignore[arg-type]  # see refused
    return error.reason, error.evidence["check"]


def passed(bundle: Bundle, trust: SilexiumPolicy | None = None, **options: object) -> TrustedRelease:
    verification = ReleaseVerification(trust or policy(), RELEASE, now=NOW)
    return verify_bundle(verification, parse_bundle(bundle.data), **options)  # type: ignore[arg-type]  # see verify_bundle


def through(bundle: Bundle) -> ReleaseVerification:
    """A verification that only the artifact and SRC are missing from."""
    verification = ReleaseVerification(policy(), RELEASE, now=NOW)
    verify_bundle(verification, parse_bundle(bundle.data))
    return verification


def test_a_good_release_passes_every_check() -> None:
    verification = through(Draft().bundle())
    verification.artifact(len(TGZ), digest(TGZ))
    verification.src(SRC, SIZES, DIGESTS)
    assert [check.number for check in verification.checks] == [f"10.{n}" for n in range(1, 14)]
    assert {check.verdict for check in verification.checks} == {"passed"}
    assert verification.checks[5].inputs["network"] == "regtest: proves nothing"
    assert verification.trusted.memory is not None
    assert verification.trusted.memory.head.size == 16


def test_no_check_can_be_skipped_or_done_twice() -> None:
    bundle = Draft().bundle()
    verification = ReleaseVerification(policy(), RELEASE, now=NOW)
    for early in (
        lambda: verification.author(bundle.attestations[0]),
        lambda: verification.artifact(len(TGZ), digest(TGZ)),
        lambda: verification.inclusion(bundle.inclusion),
    ):
        with pytest.raises(AssertionError):
            early()
    verification.manifest(bundle.manifest)
    with pytest.raises(AssertionError):
        verification.manifest(bundle.manifest)


# --- Any signature is missing or invalid ---------------------------------------------------------------------------


def unsigned(data: bytes) -> bytes:
    """The attestation with another signature in form: that of other bytes by the same key."""
    members = wire.parse(data, max_bytes=10**6)
    key = KEYS[Role(members["role"])]
    return wire.canonical(members | {"signature": str(key.sign(b"something else"))})


@pytest.mark.parametrize(("role", "check"), [(AUTHOR, "10.2"), (TESTS, "10.3"), (SERVER, "10.4")])
def test_an_invalid_signature_is_refused(role: Role, check: str) -> None:
    assert verdict(Draft(attested={role: unsigned}).bundle()) == ("silexium.signature", check)


@pytest.mark.parametrize(("role", "check"), [(AUTHOR, "10.2"), (TESTS, "10.3"), (SERVER, "10.4")])
def test_a_missing_signature_is_refused(role: Role, check: str) -> None:
    def strip(data: bytes) -> bytes:
        members = wire.parse(data, max_bytes=10**6)
        return wire.canonical({name: value for name, value in members.items() if name != "signature"})

    assert verdict(Draft(attested={role: strip}).bundle()) == ("silexium.attestation", check)


@pytest.mark.parametrize("role", ["author", "tests", "server"])
def test_a_missing_attestation_is_refused(role: str) -> None:
    members = wire.parse(Draft().bundle().data, max_bytes=10**6)
    del members["attestations"][role]
    with pytest.raises(ProofRejected) as error:
        parse_bundle(wire.canonical(members))
    assert error.value.reason == "silexium.bundle"


@pytest.mark.parametrize(("role", "check"), [(AUTHOR, "10.2"), (TESTS, "10.3"), (SERVER, "10.4")])
def test_a_key_that_nobody_trusts_is_refused(role: Role, check: str) -> None:
    bundle = Draft(keys={**KEYS, role: private(99)}).bundle()
    assert verdict(bundle) == ("silexium.key-unknown", check)


def test_a_key_in_another_role_is_refused() -> None:
    swapped = {**KEYS, AUTHOR: KEYS[TESTS], TESTS: KEYS[AUTHOR]}
    assert verdict(Draft(keys=swapped).bundle()) == ("silexium.key-role", "10.2")


def test_a_key_for_another_package_is_refused() -> None:
    trust = policy(keys=keyring(author={"packages": frozenset({PackageName("other")})}))
    assert verdict(Draft().bundle(), trust) == ("silexium.key-role", "10.2")


def test_one_key_in_two_roles_is_refused() -> None:
    """Threshold bypass: one key that the policy trusts in all roles must not stand for three people."""
    every = frozenset({AUTHOR, TESTS, SERVER})
    trust = policy(keys=keyring(author={"roles": every}))
    assert verdict(Draft(keys={**KEYS, TESTS: KEYS[AUTHOR]}).bundle(), trust) == ("silexium.key-reused", "10.3")
    assert verdict(Draft(keys={**KEYS, SERVER: KEYS[AUTHOR]}).bundle(), trust) == ("silexium.key-reused", "10.4")


def test_an_attestation_in_anothers_place_is_refused() -> None:
    bundle = Draft().bundle()
    first, second, third = bundle.attestations
    assert verdict(replace(bundle, attestations=(first, first, third))) == ("silexium.attestation", "10.3")
    assert verdict(replace(bundle, attestations=(second, first, third))) == ("silexium.attestation", "10.2")


def claim(role: Role, **changes: object) -> Bundle:
    def change(value: Claim) -> Claim:
        return replace(value, **changes)  # type: ignore[arg-type]  # fields by name

    return Draft(claims={role: change}).bundle()


@pytest.mark.parametrize(
    ("bundle", "check"),
    [
        (claim(AUTHOR, manifest_hash=H), "10.2"),
        (claim(AUTHOR, src_index_hash=H), "10.2"),
        (claim(AUTHOR, source_artifact_hash=H), "10.2"),
        (claim(AUTHOR, package=PackageName("other")), "10.2"),
        (claim(AUTHOR, version=ReleaseId.parse("x@9.9.9").version), "10.2"),
        (claim(AUTHOR, license="none"), "10.2"),
        (claim(TESTS, manifest_hash=H), "10.3"),
        (claim(TESTS, author_attestation_hash=H), "10.3"),
        (claim(SERVER, manifest_hash=H), "10.4"),
        (claim(SERVER, author_attestation_hash=H), "10.4"),
        (claim(SERVER, tests_attestation_hash=H), "10.4"),
        (claim(SERVER, artifact_hashes=(H,)), "10.4"),
        (claim(SERVER, artifact_hashes=(digest(TGZ), digest(TGZ))), "10.4"),
    ],
)
def test_an_attestation_of_something_else_is_refused(bundle: Bundle, check: str) -> None:
    assert verdict(bundle) == ("silexium.claim", check)


def test_the_server_attests_every_artifact() -> None:
    binary = Artifact("binary", 5, H, "https://example.org/x", "linux", "x86_64")
    passed(Draft(manifest=manifest(artifacts=[binary])).bundle())
    left_out = Draft(
        manifest=manifest(artifacts=[binary]),
        claims={SERVER: lambda value: replace(value, artifact_hashes=(digest(TGZ),))},  # type: ignore[call-arg]  # server
    )
    assert verdict(left_out.bundle()) == ("silexium.claim", "10.4")


def test_failed_tests_are_refused() -> None:
    assert verdict(claim(TESTS, passed=False)) == ("silexium.tests-failed", "10.3")


def test_the_manifest_of_another_release_or_channel_is_refused() -> None:
    bundle = Draft().bundle()
    assert verdict(bundle, release=ReleaseId.parse("hello@2.0.0")) == ("silexium.release", "10.1")
    assert verdict(bundle, policy(channels=frozenset({"beta"}))) == ("silexium.channel", "10.1")
    passed(bundle, policy(channels=frozenset({"beta", "stable"})))


def test_a_changed_manifest_is_refused_even_if_it_says_the_same() -> None:
    bundle = Draft().bundle()
    assert verdict(replace(bundle, manifest=bundle.manifest + b"\n")) == ("silexium.manifest", "10.1")
    other = manifest(channel="beta").data
    assert verdict(replace(bundle, manifest=other)) == ("silexium.claim", "10.2")


# --- TSA or OTS proof is missing or invalid ------------------------------------------------------------------------


def only(role: Role, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Role, list[bytes]], list[bytes]]:
    return lambda each, items: change(items) if each is role else items


@pytest.mark.parametrize("role", [AUTHOR, TESTS, SERVER])
def test_a_missing_time_stamp_is_refused(role: Role) -> None:
    assert verdict(Draft(tokens=only(role, lambda _: [])).bundle()) == ("silexium.tsa-missing", "10.5")
    assert verdict(Draft(proofs=only(role, lambda _: [])).bundle()) == ("silexium.ots-missing", "10.6")


def test_stamps_for_fewer_attestations_are_refused() -> None:
    bundle = Draft().bundle()
    verification = ReleaseVerification(policy(), RELEASE, now=NOW)
    verification.manifest(bundle.manifest)
    verification.author(bundle.attestations[0])
    verification.tests(bundle.attestations[1])
    verification.server(bundle.attestations[2])
    with pytest.raises(ProofRejected) as error:
        verification.time_stamps(bundle.stamps[:2])
    assert error.value.reason == "silexium.tsa-missing"


def test_the_stamp_of_another_attestation_is_refused() -> None:
    bundle = Draft().bundle()
    a, b, c = bundle.stamps
    swapped = (replace(a, tsa=b.tsa), b, c)
    assert verdict(replace(bundle, stamps=swapped)) == ("silexium.tsa-imprint", "10.5")
    swapped = (replace(a, ots=b.ots), b, c)
    assert verdict(replace(bundle, stamps=swapped)) == ("silexium.ots-digest", "10.6")


def test_a_stamp_of_the_payload_alone_is_refused() -> None:
    """Who steals an expired key could sign an old, already stamped payload: the signature must be under the stamp."""
    bundle = Draft().bundle()
    members = wire.parse(bundle.attestations[0], max_bytes=10**6)
    payload = wire.canonical(members["payload"])
    stamps = (replace(bundle.stamps[0], tsa=(authorities()[0].stamp(payload, STAMPED),)), *bundle.stamps[1:])
    assert verdict(replace(bundle, stamps=stamps)) == ("silexium.tsa-imprint", "10.5")


def test_an_invalid_token_is_refused_even_beside_a_good_one() -> None:
    garbage = Draft(tokens=only(TESTS, lambda tokens: [*tokens, b"garbage"]))
    assert verdict(garbage.bundle()) == ("silexium.tsa", "10.5")
    other = Draft(tokens=only(TESTS, lambda tokens: [*tokens, authorities()[1].stamp(b"other", STAMPED)]))
    assert verdict(other.bundle()) == ("silexium.tsa-imprint", "10.5")


def test_a_blake3_digest_passed_off_as_sha512_is_refused() -> None:
    bundle = Draft().bundle()
    token = authorities()[0].stamp(bundle.attestations[0], STAMPED, algorithm="sha256")
    stamps = (replace(bundle.stamps[0], tsa=(token,)), *bundle.stamps[1:])
    assert verdict(replace(bundle, stamps=stamps)) == ("silexium.tsa-imprint", "10.5")


def test_an_untrusted_authority_does_not_count() -> None:
    stranger = Authority(certify("tsa0", root_authority("root0")))
    assert verdict(Draft(stampers=[stranger]).bundle()) == ("silexium.tsa-untrusted", "10.5")
    passed(Draft(stampers=[stranger, authorities()[0]]).bundle())


def test_a_distrusted_authority_does_not_count() -> None:
    tsas = (replace(trusted_tsas()[0], distrust_after=STAMPED - 1),)
    assert verdict(Draft().bundle(), policy(time=time_policy(tsas=tsas))) == ("silexium.tsa-window", "10.5")


TWO_OF_THREE = policy(time=time_policy(tsas=trusted_tsas(3), tsa_threshold=2))


def test_k_of_n_authorities() -> None:
    passed(Draft(stampers=authorities()[:2]).bundle(), TWO_OF_THREE)
    assert verdict(Draft().bundle(), TWO_OF_THREE) == ("silexium.tsa-quorum", "10.5")
    stranger = Authority(certify("tsa0", root_authority("root0")))
    assert verdict(Draft(stampers=[stranger]).bundle(), TWO_OF_THREE) == ("silexium.tsa-quorum", "10.5")


def test_one_authority_that_stamps_twice_counts_once() -> None:
    twice = Draft(stampers=[authorities()[0], replace(authorities()[0], accuracy=2)])
    assert verdict(twice.bundle(), TWO_OF_THREE) == ("silexium.tsa-quorum", "10.5")


def test_one_key_certified_by_two_roots_counts_once() -> None:
    """Two trusted roots that both certify one machine are one opinion."""
    roots = [root_authority("a"), root_authority("b")]
    first = certify("one", roots[0])
    second = certify("one", roots[1], key=first.key)
    tsas = tuple(replace(trusted_tsas()[0], name=f"t{n}", root=root.der) for n, root in enumerate(roots))
    trust = policy(time=time_policy(tsas=tsas, tsa_threshold=2))
    assert verdict(Draft(stampers=[Authority(first), Authority(second)]).bundle(), trust) == (
        "silexium.tsa-quorum",
        "10.5",
    )


def test_a_policy_that_counts_one_root_twice_is_refused() -> None:
    tsa = trusted_tsas()[0]
    leaf = authorities()[0].leaf.der
    for pair in (
        (tsa, replace(tsa, name="again")),
        (tsa, replace(tsa, name="again", leaf=leaf)),
        (replace(tsa, leaf=leaf), replace(tsa, name="again")),
        (replace(tsa, leaf=leaf), replace(tsa, name="again", leaf=leaf)),
        (tsa, replace(trusted_tsas(2)[1], name="tsa0")),
    ):
        with pytest.raises(UsageFault):
            TimePolicy(pair)


@pytest.mark.parametrize("threshold", [0, 2])
def test_a_policy_without_a_possible_quorum_is_refused(threshold: int) -> None:
    with pytest.raises(UsageFault):
        TimePolicy(trusted_tsas(1), tsa_threshold=threshold)


def test_a_backdating_authority_is_outvoted() -> None:
    """With k = 2 the proven time is the second earliest: one liar cannot make an expired key good again."""
    bundle = Draft(stampers=authorities()[:2]).bundle()

    def backdate(role_data: bytes, stamps: Stamps) -> Stamps:
        early = authorities()[2].stamp(role_data, CREATED - 400)
        return Stamps((early, stamps.tsa[0]), stamps.ots)

    stamps = tuple(backdate(data, stamp) for data, stamp in zip(bundle.attestations, bundle.stamps, strict=True))
    verification = ReleaseVerification(TWO_OF_THREE, RELEASE, now=NOW)
    verification.manifest(bundle.manifest)
    verification.author(bundle.attestations[0])
    verification.tests(bundle.attestations[1])
    verification.server(bundle.attestations[2])
    trusted = verification.time_stamps(stamps)
    assert {time.stamped for time in trusted.times} == {STAMPED + 1}


def pending(data: bytes) -> bytes:
    return write_ots(data, [], PendingAttestation(data, "https://calendar.example"))


def test_a_pending_proof_is_not_a_proof() -> None:
    bundle = Draft().bundle()
    promise = pending(hashlib.sha256(bundle.attestations[2]).digest())
    stamps = (*bundle.stamps[:2], replace(bundle.stamps[2], ots=(promise,)))
    assert verdict(replace(bundle, stamps=stamps)) == ("silexium.ots-pending", "10.6")


def test_a_promise_beside_a_complete_proof_does_no_harm() -> None:
    def also(role: Role, proofs: list[bytes]) -> list[bytes]:
        data = proofs[0]
        return [pending(data[33:65]), data] if role is AUTHOR else proofs

    passed(Draft(proofs=also).bundle())


def test_a_block_that_nobody_mined_is_refused() -> None:
    bundle = Draft().bundle()
    invented = hashlib.sha256(bundle.attestations[0]).digest()
    proof = write_ots(invented, [], BitcoinAttestation(invented, 1))
    stamps = (replace(bundle.stamps[0], ots=(proof,)), *bundle.stamps[1:])
    assert verdict(replace(bundle, stamps=stamps)) == ("silexium.header-root", "10.6")


def test_invented_headers_are_refused() -> None:
    bundle = Draft().bundle()
    assert bundle.headers is not None
    stem = bundle.headers.data[:-4]
    worthless = next(
        stem + bytes([nonce]) * 4
        for nonce in range(256)
        if hashlib.sha256(hashlib.sha256(stem[80:] + bytes([nonce]) * 4).digest()).digest()[-1] > 0x7F
    )
    assert verdict(replace(bundle, headers=HeaderRun(0, worthless))) == ("silexium.header-work", "10.6")
    assert verdict(replace(bundle, headers=HeaderRun(0, bytes(80)))) == ("silexium.header-pin", "10.6")
    assert verdict(replace(bundle, headers=HeaderRun(1, bundle.headers.data[80:]))) == ("silexium.header-pin", "10.6")
    assert verdict(replace(bundle, headers=None)) == ("silexium.header-missing", "10.6")


def test_headers_of_another_history_do_not_confirm() -> None:
    bundle = Draft().bundle()
    other = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=NOW)
    other.extend(mine_header(other, bytes(32), BLOCK_TIME), now=NOW)
    assert verdict(replace(bundle, headers=None), chains=[other]) == ("silexium.header-root", "10.6")


def test_regtest_counts_only_where_the_policy_names_it() -> None:
    draft = Draft()
    bundle = draft.bundle()
    mainnet = policy(time=time_policy(network=MAINNET))
    assert verdict(replace(bundle, headers=None), mainnet, chains=[draft.chain]) == ("silexium.network", "10.6")
    assert verdict(bundle, mainnet) == ("silexium.header-pin", "10.6")


def test_cheap_headers_in_a_bundle_do_not_count_where_work_does() -> None:
    """Six blocks on an old checkpoint are affordable: headers that come with the proof count only when pinned."""
    network = replace(REGTEST, name="costly", retargets=True)
    bundle = Draft().bundle()
    assert bundle.headers is not None
    block = hashlib.sha256(hashlib.sha256(bundle.headers.data[80:]).digest()).digest()
    assert verdict(bundle, policy(time=time_policy(network=network))) == ("silexium.header-confirmations", "10.6")
    passed(bundle, policy(time=time_policy(network=network, pins=((1, block),))))


def test_a_bundles_headers_do_not_stand_in_the_way_of_better_ones() -> None:
    draft = Draft()
    bundle = draft.bundle()
    passed(replace(bundle, headers=HeaderRun(5, bytes(160))), chains=[draft.chain])


# --- Time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draft",
    [
        Draft(created={AUTHOR: STAMPED + limits.CLOCK_SKEW_SECONDS + 2}),  # stamped before it was made
        Draft(block_time=STAMPED - limits.BLOCK_TIME_SKEW_SECONDS - 1),  # confirmed before it was stamped
        Draft(created={TESTS: CREATED - limits.CLOCK_SKEW_SECONDS - 1}),  # older than what it is about
    ],
)
def test_times_that_contradict_each_other_are_refused(draft: Draft) -> None:
    assert verdict(draft.bundle()) == ("silexium.time-order", "10.7")


def test_a_backdated_stamp_is_exposed_by_its_block() -> None:
    lag = limits.OTS_LAG_SECONDS
    late = Draft(stamped=STAMPED - lag - 4000, created={role: CREATED - lag - 4000 for role in Role})
    assert verdict(late.bundle()) == ("silexium.time-order", "10.7")


def test_an_expired_key_is_refused() -> None:
    trust = policy(keys=keyring(tests={"not_after": STAMPED}))  # the stamp's accuracy puts it one second later
    assert verdict(Draft().bundle(), trust) == ("silexium.key-expired", "10.7")
    passed(Draft().bundle(), policy(keys=keyring(tests={"not_after": STAMPED + 1})))


def test_a_key_that_is_not_yet_in_force_is_refused() -> None:
    trust = policy(keys=keyring(server={"not_before": CREATED + 1}))
    assert verdict(Draft().bundle(), trust) == ("silexium.key-expired", "10.7")


def test_a_revoked_key_is_refused_from_its_revocation_on() -> None:
    trust = policy(keys=keyring(author={"revoked_at": BLOCK_TIME}))
    assert verdict(Draft().bundle(), trust) == ("silexium.key-revoked", "10.7")
    passed(Draft().bundle(), policy(keys=keyring(author={"revoked_at": BLOCK_TIME + 1})))


def test_a_stamp_from_the_future_is_refused() -> None:
    assert verdict(Draft().bundle(), now=STAMPED - limits.CLOCK_SKEW_SECONDS - 1) == ("silexium.future", "10.5")


# --- Log proofs are invalid or inconsistent ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["manifest", "attestation", "tsa", "ots", "release"])
def test_an_entry_about_something_else_is_refused(part: str) -> None:
    def change(entry: LogEntry) -> LogEntry:
        release, manifest_hash, attestations, proofs = (
            entry.release,
            entry.manifest_hash,
            entry.attestations,
            entry.proofs,
        )
        if part == "manifest":
            manifest_hash = H
        elif part == "attestation":
            attestations = (*attestations[:2], H)
        elif part == "release":
            release = ReleaseId.parse("hello@1.0.1")
        else:
            proofs = (*proofs[:2], replace(proofs[2], **{part: (H,)}))
        return LogEntry.build(release, manifest_hash, attestations, proofs)

    assert verdict(Draft(entry=change).bundle()) == ("silexium.entry-mismatch", "10.8")


def test_a_stamp_that_the_log_did_not_commit_to_is_refused() -> None:
    """A token is malleable: the log names its exact bytes."""
    bundle = Draft().bundle()
    fresh = authorities()[0].stamp(bundle.attestations[0], STAMPED + 5)
    stamps = (replace(bundle.stamps[0], tsa=(fresh,)), *bundle.stamps[1:])
    assert verdict(replace(bundle, stamps=stamps)) == ("silexium.entry-mismatch", "10.8")


def test_a_stamp_listed_twice_is_refused() -> None:
    bundle = Draft().bundle()
    first = bundle.stamps[0]
    stamps = (replace(first, tsa=first.tsa * 2), *bundle.stamps[1:])
    assert verdict(replace(bundle, stamps=stamps)) == ("silexium.entry", "10.8")


def test_a_head_by_another_log_is_refused() -> None:
    bundle = Draft().bundle()
    elsewhere = bundle.sth | {"origin": "other.example"}
    assert verdict(replace(bundle, sth=elsewhere)) == ("silexium.head-log", "10.9")
    forged = SignedTreeHead.sign(Draft().log.head().head, LOGGED, private(77)).members()
    assert verdict(replace(bundle, sth=forged)) == ("silexium.head-signature", "10.9")
    assert verdict(replace(bundle, sth=None)) == ("silexium.head-log", "10.9")


def test_a_head_without_its_witnesses_is_refused() -> None:
    trust = policy(logs=(TrustedLog(LOG, quorum(2)),))
    passed(Draft(witnesses=2).bundle(), trust)
    assert verdict(Draft(witnesses=1).bundle(), trust) == ("silexium.witness-quorum", "10.9")
    bundle = Draft(witnesses=2).bundle()
    repeated = replace(bundle, cosignatures=(bundle.cosignatures[0],) * 2)
    assert verdict(repeated, trust) == ("silexium.witness-quorum", "10.9")


def test_a_cosignature_of_another_head_is_refused() -> None:
    trust = policy(logs=(TrustedLog(LOG, quorum(1)),))
    stolen = Draft(witnesses=1, log=MemoryLog(20)).bundle().cosignatures
    assert verdict(replace(Draft().bundle(), cosignatures=stolen), trust) == ("silexium.witness", "10.9")


def test_a_witness_whose_key_is_lost_is_replaced_in_the_policy() -> None:
    rotated = Quorum(1, (NamedKey(WITNESSES[0].name, private(55).public),))
    assert verdict(Draft(witnesses=1).bundle(), policy(logs=(TrustedLog(LOG, rotated),))) == (
        "silexium.witness-quorum",
        "10.9",
    )


def test_a_log_cannot_be_its_own_witness() -> None:
    with pytest.raises(UsageFault):
        TrustedLog(LOG, Quorum(1, (NamedKey("me.example", LOG.key),)))


def test_a_head_that_is_too_old_is_refused() -> None:
    trust = policy(logs=(TrustedLog(LOG, max_head_age=NOW - LOGGED - 1),))
    assert verdict(Draft().bundle(), trust) == ("silexium.stale", "10.9")
    passed(Draft().bundle(), policy(logs=(TrustedLog(LOG, max_head_age=NOW - LOGGED),)))


def test_a_cosignature_from_the_future_is_refused() -> None:
    trust = policy(logs=(TrustedLog(LOG, quorum(1)),))
    late = Draft(witnesses=1, logged=NOW + limits.CLOCK_SKEW_SECONDS - 4)  # the witness signs five seconds later
    assert verdict(late.bundle(), trust) == ("silexium.future", "10.9")


def test_a_head_older_than_its_entrys_stamps_is_refused() -> None:
    early = Draft(logged=BLOCK_TIME - limits.BLOCK_TIME_SKEW_SECONDS - 1)
    assert verdict(early.bundle()) == ("silexium.time-order", "10.9")


def test_an_entry_that_is_not_in_the_log_is_refused() -> None:
    """A promise of inclusion is none: the entry's leaf must be under the head."""
    bundle = Draft().bundle()
    without = MemoryLog(16)
    promised = replace(bundle, sth=without.head().members(), inclusion=without.inclusion(10, 16))
    assert verdict(promised) == ("silexium.inclusion", "10.10")


@pytest.mark.parametrize("defect", ["index", "size", "hash", "short", "long"])
def test_a_wrong_inclusion_proof_is_refused(defect: str) -> None:
    bundle = Draft().bundle()
    proof = bundle.inclusion
    changed = {
        "index": lambda: replace(proof, index=proof.index + 1),
        "size": lambda: replace(proof, size=proof.size - 1),
        "hash": lambda: replace(proof, hashes=(bytes(32), *proof.hashes[1:])),
        "short": lambda: replace(proof, hashes=proof.hashes[:-1]),
        "long": lambda: replace(proof, hashes=(*proof.hashes, bytes(32))),
    }[defect]()
    assert verdict(replace(bundle, inclusion=changed)) == ("silexium.inclusion", "10.10")


def test_a_split_view_is_refused_and_proven() -> None:
    ours, theirs = MemoryLog(16), Draft()
    bundle = theirs.bundle()
    error = refused(bundle, memory=LogMemory(ours.head()))
    assert (error.reason, error.evidence["check"]) == ("silexium.fork", "10.11")
    conflict = error.evidence["conflict"]
    assert isinstance(conflict, HeadConflict)
    stopped = LogMemory(ours.head(), conflict=conflict)
    assert verdict(bundle, memory=stopped) == ("silexium.fork", "10.11")


def test_a_forked_log_is_refused_by_its_own_consistency_proof() -> None:
    seen = MemoryLog(11)  # its last entry is not the one that the bundle's log has there
    draft = Draft()
    bundle = draft.bundle()
    assert verdict(bundle, memory=LogMemory(seen.head()), proof=draft.log.consistency(11, 16)) == (
        "silexium.fork",
        "10.11",
    )


def test_growth_must_be_proven() -> None:
    draft = Draft()
    bundle = draft.bundle()
    memory = LogMemory(draft.log.head(7, at=LOGGED - 5))
    assert verdict(bundle, memory=memory) == ("silexium.consistency", "10.11")
    assert passed(bundle, memory=memory, proof=draft.log.consistency(7, 16)).memory is not None


def test_a_rolled_back_log_is_refused() -> None:
    draft = Draft()
    bundle = draft.bundle()
    grown = MemoryLog(0)
    grown.hashes = [*draft.log.hashes, *MemoryLog(40).hashes[20:]]
    memory = LogMemory(grown.head(at=LOGGED + 100))
    assert verdict(bundle, memory=memory) == ("silexium.rollback", "10.11")
    passed(bundle, memory=memory, proof=grown.consistency(16, len(grown.hashes)))


def test_a_clock_behind_the_log_is_refused() -> None:
    draft = Draft()
    bundle = draft.bundle()
    memory = LogMemory(draft.log.head(at=NOW + limits.CLOCK_SKEW_SECONDS + 1))
    assert verdict(bundle, memory=memory) == ("silexium.clock", "10.11")


def test_a_head_from_the_future_is_refused() -> None:
    late = Draft(logged=NOW + limits.CLOCK_SKEW_SECONDS + 1)
    assert verdict(late.bundle()) == ("silexium.future", "10.11")


def test_a_second_entry_for_one_version_is_refused() -> None:
    draft = Draft()
    bundle = draft.bundle()
    passed(bundle, known_entry=draft.logged_entry.digest)
    error = refused(bundle, known_entry=H)
    assert (error.reason, error.evidence["known"]) == ("silexium.second-entry", str(H))


# --- Any artifact hash mismatch; SRC mismatch ----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "data"), [(len(TGZ) + 1, TGZ), (len(TGZ), TGZ[::-1])])
def test_another_artifact_is_refused(size: int, data: bytes) -> None:
    verification = through(Draft().bundle())
    with pytest.raises(ProofRejected) as error:
        verification.artifact(size, digest(data))
    assert (error.value.reason, error.value.evidence["check"]) == ("silexium.artifact", "10.12")
    assert verification.completed == 11


def test_the_tree_of_another_release_is_refused() -> None:
    """SRC fits its tree, but it is not the SRC that the author attested."""
    verification = through(Draft(manifest=manifest(src=SRC + SRC)).bundle())
    verification.artifact(len(TGZ), digest(TGZ))
    with pytest.raises(ProofRejected) as error:
        verification.src(SRC, SIZES, DIGESTS)
    assert (error.value.reason, error.value.evidence["check"]) == ("silexium.src", "10.13")


@pytest.mark.parametrize(
    ("src", "sizes", "digests"),
    [
        (SRC + b"\n", SIZES, DIGESTS),
        (SRC[:-1] + b"x", SIZES, DIGESTS),
        (SRC, SIZES | {"README": 7}, DIGESTS),
        (SRC, SIZES, DIGESTS | {"README": H}),
        (SRC, SIZES | {"more": 1}, DIGESTS | {"more": H}),
        (SRC, SIZES, {"README": DIGESTS["README"]}),
    ],
)
def test_another_source_tree_is_refused(src: bytes, sizes: dict[str, int], digests: dict[str, Blake3Digest]) -> None:
    verification = through(Draft().bundle())
    verification.artifact(len(TGZ), digest(TGZ))
    with pytest.raises(ProofRejected) as error:
        verification.src(src, sizes, digests)
    assert (error.value.reason, error.value.evidence["check"]) == ("silexium.src", "10.13")


# --- Log spam: what would fill memory is refused by its size -------------------------------------------------------


def test_oversized_documents_are_refused_unread() -> None:
    bundle = Draft().bundle()
    huge = replace(bundle, attestations=(b" " * (limits.ATTESTATION_BYTES + 1), *bundle.attestations[1:]))
    assert verdict(huge) == ("silexium.attestation", "10.2")
    with pytest.raises(ProofRejected) as error:
        parse_bundle(b" " * (limits.BUNDLE_BYTES + 1))
    assert error.value.reason == "silexium.bundle"


def test_a_node_of_the_tree_cannot_pass_as_an_entry() -> None:
    draft = Draft()
    bundle = draft.bundle()
    leaves = [BLAKE3_TREE.leaf(entry_hash) for entry_hash in draft.log.hashes]
    assert BLAKE3_TREE.node(*leaves[:2]) != BLAKE3_TREE.leaf(b"".join(leaves[:2]))
    assert verdict(replace(bundle, inclusion=replace(bundle.inclusion, size=8, index=5))) == (
        "silexium.inclusion",
        "10.10",
    )
