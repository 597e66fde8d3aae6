"""The strict rejection policy (Silexium seed, section 10), line by line, through the resolver.

The release's content is in the store, complete and good, and its publisher is trusted: only the proofs can stop it.
Each test breaks exactly one of them, sees exactly its reason and the number of its check, and nothing is installed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from libreseed import wire
from libreseed.errors import LibreSeedError
from libreseed.silexium.bundle import Bundle
from libreseed.silexium.ots import PendingAttestation, write_ots
from tests.archive_forge import KEY as FORGER
from tests.archive_forge import Forge, entry, gz
from tests.proof_support import Desk, Role, draft, release_manifest
from tests.resolver_support import Sample, assert_installed, forge_sample, make_sample, rejects
from tests.silexium_support import KEYS, STAMPED, Draft, MemoryLog, authorities, private

AUTHOR, TESTS, SERVER = Role.AUTHOR, Role.TESTS, Role.SERVER
CHECKS = {AUTHOR: "10.2", TESTS: "10.3", SERVER: "10.4"}
EVERY_ROLE = pytest.mark.parametrize("role", list(Role))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 60_000)


@pytest.fixture
def desk(tmp_path: Path, sample: Sample) -> Desk:
    return Desk(sample, tmp_path)


async def refused(desk: Desk, bundle: Bundle | bytes, reason: str, check: str | None) -> LibreSeedError:
    """The proofs are refused for ``reason`` in ``check``; nothing is installed, and the same release with good proofs
    is installed at once."""
    with rejects(reason, step=10) as errors:
        await desk.resolve(bundle)
    assert errors[0].evidence.get("check") == check
    assert errors[0].exit_code == 40
    assert desk.installed() == []
    return errors[0]


async def test_good_proofs_install(desk: Desk) -> None:
    outcome = await desk.resolve(draft(desk.sample).bundle())
    assert outcome.silexium == "proven"
    assert [row["check"] for row in outcome.checks] == [f"10.{n}" for n in range(1, 14)]
    assert {row["verdict"] for row in outcome.checks} == {"passed"}
    assert outcome.summary().endswith("; proven by the log log.example/silexium-b3")
    assert_installed(desk.sample, outcome.path)
    again = await desk.resolve()  # its receipt says that it is proven
    assert (again.already, again.silexium, again.proofs) == (True, "proven", outcome.proofs)


# --- any signature is missing or invalid -----------------------------------------------------------------------------


def _other_signature(data: bytes) -> bytes:
    members = wire.parse(data, max_bytes=10**6)
    return wire.canonical(members | {"signature": str(KEYS[Role(members["role"])].sign(b"something else"))})


def _no_signature(data: bytes) -> bytes:
    members = wire.parse(data, max_bytes=10**6)
    return wire.canonical({name: value for name, value in members.items() if name != "signature"})


@EVERY_ROLE
async def test_an_invalid_signature_installs_nothing(desk: Desk, role: Role) -> None:
    bundle = draft(desk.sample, attested={role: _other_signature}).bundle()
    await refused(desk, bundle, "silexium.signature", CHECKS[role])


@EVERY_ROLE
async def test_a_missing_signature_installs_nothing(desk: Desk, role: Role) -> None:
    bundle = draft(desk.sample, attested={role: _no_signature}).bundle()
    await refused(desk, bundle, "silexium.attestation", CHECKS[role])


@EVERY_ROLE
async def test_a_missing_attestation_installs_nothing(desk: Desk, role: Role) -> None:
    members = wire.parse(draft(desk.sample).bundle().data, max_bytes=10**6)
    del members["attestations"][role]
    await refused(desk, wire.canonical(members), "silexium.bundle", None)


@EVERY_ROLE
async def test_the_signature_of_a_stranger_installs_nothing(desk: Desk, role: Role) -> None:
    bundle = draft(desk.sample, keys={**KEYS, role: private(99)}).bundle()
    await refused(desk, bundle, "silexium.key-unknown", CHECKS[role])


# --- a TSA or OTS proof is missing or invalid ------------------------------------------------------------------------


def _of(role: Role, items: list[bytes]) -> Callable[[Role, list[bytes]], list[bytes]]:
    return lambda each, given: items if each is role else given


@EVERY_ROLE
async def test_a_missing_time_stamp_installs_nothing(desk: Desk, role: Role) -> None:
    bundle = draft(desk.sample, tokens=_of(role, [])).bundle()
    await refused(desk, bundle, "silexium.tsa-missing", "10.5")


@EVERY_ROLE
async def test_an_invalid_time_stamp_installs_nothing(desk: Desk, role: Role) -> None:
    other = authorities()[0].stamp(b"something else", STAMPED)
    await refused(desk, draft(desk.sample, tokens=_of(role, [other])).bundle(), "silexium.tsa-imprint", "10.5")
    await refused(desk, draft(desk.sample, tokens=_of(role, [b"junk"])).bundle(), "silexium.tsa", "10.5")


@EVERY_ROLE
async def test_a_missing_bitcoin_proof_installs_nothing(desk: Desk, role: Role) -> None:
    bundle = draft(desk.sample, proofs=_of(role, [])).bundle()
    await refused(desk, bundle, "silexium.ots-missing", "10.6")


@EVERY_ROLE
async def test_an_invalid_bitcoin_proof_installs_nothing(desk: Desk, role: Role) -> None:
    digest = hashlib.sha256(b"something else").digest()
    promise = write_ots(digest, [], PendingAttestation(digest, "https://calendar.example"))
    await refused(desk, draft(desk.sample, proofs=_of(role, [promise])).bundle(), "silexium.ots-digest", "10.6")
    await refused(desk, draft(desk.sample, proofs=_of(role, [b"junk"])).bundle(), "silexium.ots", "10.6")


# --- log proofs are invalid or inconsistent --------------------------------------------------------------------------


async def test_an_entry_that_is_not_in_the_log_installs_nothing(desk: Desk) -> None:
    without = MemoryLog(16)
    promised = replace(draft(desk.sample).bundle(), sth=without.head().members(), inclusion=without.inclusion(10, 16))
    await refused(desk, promised, "silexium.inclusion", "10.10")


async def test_a_wrong_inclusion_proof_installs_nothing(desk: Desk) -> None:
    bundle = draft(desk.sample).bundle()
    wrong = replace(bundle.inclusion, hashes=(bytes(32), *bundle.inclusion.hashes[1:]))
    await refused(desk, replace(bundle, inclusion=wrong), "silexium.inclusion", "10.10")


async def test_a_head_that_the_log_did_not_sign_installs_nothing(desk: Desk) -> None:
    bundle = draft(desk.sample).bundle()
    assert isinstance(bundle.sth, dict)
    await refused(desk, replace(bundle, sth=bundle.sth | {"timestamp": 1}), "silexium.head-signature", "10.9")


async def test_growth_that_nobody_proves_installs_nothing(desk: Desk) -> None:
    making = draft(desk.sample)
    bundle = making.bundle()
    desk.remember(making.log, 7, at=STAMPED)
    await refused(desk, bundle, "silexium.consistency", "10.11")


async def test_a_log_that_is_inconsistent_with_the_one_seen_installs_nothing(desk: Desk) -> None:
    desk.remember(MemoryLog(16))
    await refused(desk, draft(desk.sample).bundle(), "silexium.fork", "10.11")


# --- any artifact hash mismatch; SRC mismatch ------------------------------------------------------------------------


async def test_an_archive_that_was_not_attested_installs_nothing(desk: Desk, sample: Sample) -> None:
    """The publisher's own signature is good: it is the proofs that are about another .tgz."""
    other = release_manifest(sample, tgz=sample.files.tgz.read_bytes()[:-1] + b"\1")
    await refused(desk, draft(sample, manifest=other).bundle(), "silexium.artifact", "10.12")


async def test_sources_that_were_not_attested_install_nothing(desk: Desk, sample: Sample) -> None:
    other = release_manifest(sample, src=b"another tree\n")
    await refused(desk, draft(sample, manifest=other).bundle(), "silexium.src", "10.13")


# --- any symlink or hardlink detected --------------------------------------------------------------------------------


@pytest.mark.parametrize(("typeflag", "reason"), [(b"2", "archive.symlink"), (b"1", "archive.hardlink")])
async def test_a_link_installs_nothing_however_well_it_is_proven(tmp_path: Path, typeflag: bytes, reason: str) -> None:
    forge = Forge(name="sample")
    tar = forge.with_entry("a", entry("a", b"", typeflag=typeflag, link=b"/etc/passwd"))
    hostile = forge_sample(tmp_path / "hostile", gz(tar), key=FORGER)
    desk = Desk(hostile, tmp_path)
    proofs = Draft(manifest=release_manifest(hostile, src=b""))
    with rejects(reason):
        await desk.resolve(proofs.bundle())
    assert desk.installed() == []
