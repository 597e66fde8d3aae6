"""Attacks on log, time and signatures that comparable systems have known (docs/threat-model.md, 4.5), at the resolver.

As in ``test_rejection_policy``, only the proofs can stop the release. Here those lie who may: the log, its mirrors,
time stamp authorities, calendars, holders of keys, and this machine's own clock.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from libreseed import limits, wire
from libreseed.errors import LibreSeedError
from libreseed.ids import Blake3Digest, PackageName, ReleaseId
from libreseed.keys.ed25519 import PrivateKey, Signature
from libreseed.resolve.policy import Policy
from libreseed.resolve.request import Request
from libreseed.silexium.bitcoin_headers import MAINNET
from libreseed.silexium.bundle import Bundle, HeaderRun
from libreseed.silexium.instants import format_instant
from libreseed.silexium.log_memory import HeadConflict
from libreseed.silexium.ots import BitcoinAttestation, PendingAttestation, write_ots
from libreseed.silexium.quorum import Quorum
from libreseed.silexium.tree_head import NamedKey, SignedTreeHead
from libreseed.silexium.trust_policy import TrustedLog
from tests.proof_support import Desk, Role, draft, export, put_bundle, put_content
from tests.resolver_support import Sample, assert_installed, make_sample, rejects
from tests.silexium_support import (
    BLOCK_TIME,
    CREATED,
    KEYS,
    LOG,
    LOGGED,
    NOW,
    STAMPED,
    WITNESSES,
    Draft,
    MemoryLog,
    authorities,
    keyring,
    policy,
    private,
    quorum,
    roots,
    time_policy,
    trusted_tsas,
)
from tests.tsa_support import Authority, certify

AUTHOR, TESTS, SERVER = Role.AUTHOR, Role.TESTS, Role.SERVER


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 60_000)


@pytest.fixture
def desk(tmp_path: Path, sample: Sample) -> Desk:
    return Desk(sample, tmp_path)


async def refused(
    desk: Desk, bundle: Bundle | bytes | None, reason: str, check: str | None, *sources: Path
) -> LibreSeedError:
    """Refused for ``reason`` in ``check``, and nothing is installed."""
    with rejects(reason, step=10) as errors:
        await desk.resolve(bundle, sources)
    assert errors[0].evidence.get("check") == check
    assert desk.installed() == []
    return errors[0]


def evidence(desk: Desk) -> dict[str, object]:
    """The one finding that was written down."""
    [path] = (desk.store / "silexium" / "evidence").iterdir()
    return dict(json.loads(path.read_text()))


# --- split view, equivocation ----------------------------------------------------------------------------------------


async def test_a_split_view_is_kept_as_evidence_and_stops_every_later_install(desk: Desk, sample: Sample) -> None:
    """Two heads of one size: proof for anybody. No later answer of that log counts, however good (G8)."""
    desk.remember(MemoryLog(16))
    making = draft(sample)
    bundle = making.bundle()
    error = await refused(desk, bundle, "silexium.fork", "10.11")
    found = evidence(desk)
    assert {"first", "second", "nodes", "how_to_check", "key"} <= found.keys()
    assert (found["what"], found["log"], found["noticed"]) == ("silexium.fork", LOG.name, format_instant(NOW))
    assert any("the evidence is in" in line for line in error.details)

    honest = MemoryLog(16)  # the log that was seen first goes on as if nothing had been
    honest.append(making.logged_entry.digest.raw)
    again = replace(bundle, sth=honest.head().members(), inclusion=honest.inclusion(16, 17))
    await refused(desk, again, "silexium.fork", "10.11", export(honest, desk.base / "honest"))
    assert len(list((desk.store / "silexium" / "evidence").iterdir())) == 1


@pytest.mark.parametrize("seen", [11, 8])  # 8: a power of two, whose root is in no consistency proof
async def test_a_forked_log_is_refused_by_its_own_tiles(desk: Desk, sample: Sample, seen: int) -> None:
    other = MemoryLog(seen)
    other.hashes[seen - 1] = hashlib.sha256(b"shown to others").digest()
    desk.remember(other)
    making = draft(sample)
    bundle = making.bundle()
    mirror = export(making.log, desk.base / "mirror", bundle)
    await refused(desk, None, "silexium.fork", "10.11", mirror)
    assert evidence(desk)["nodes"]


async def test_no_honest_mirror_talks_a_fork_away(desk: Desk, sample: Sample) -> None:
    making, seen = draft(sample), MemoryLog(16)
    bundle = making.bundle()
    desk.remember(seen)
    seen.append(making.logged_entry.digest.raw)
    sound = replace(bundle, sth=seen.head().members(), inclusion=seen.inclusion(16, 17))
    honest = export(seen, desk.base / "honest", sound)
    await refused(desk, None, "silexium.fork", "10.11", put_bundle(bundle, desk.base / "forked"), honest)


class _OtherLog(MemoryLog):
    """A second log, with a key of its own."""

    KEY = private(44)
    NAME = NamedKey("other.example/silexium-b3", private(44).public)

    def head(self, size: int | None = None, *, at: int = LOGGED, key: PrivateKey = KEY) -> SignedTreeHead:
        head = super().head(size, at=at).head
        return SignedTreeHead.sign(replace(head, origin=self.NAME.name), at, key)


async def test_another_log_is_believed_beside_one_that_has_forked(desk: Desk, sample: Sample) -> None:
    """What rests on the forked log is refused; a second log that the policy trusts has a word of its own."""
    desk.policy = policy(logs=(TrustedLog(LOG), TrustedLog(_OtherLog.NAME)))
    desk.remember(MemoryLog(16))
    forked = put_bundle(draft(sample).bundle(), desk.base / "forked")
    other = put_bundle(draft(sample, log=_OtherLog()).bundle(), desk.base / "other")
    await refused(desk, None, "silexium.fork", "10.11", put_bundle(draft(sample).bundle(), desk.base / "x"), forked)
    outcome = await desk.resolve(None, [forked, other])
    assert outcome.proofs["log"] == _OtherLog.NAME.name
    assert "[silexium.fork]" in str(outcome.sources["passed_over"])


async def test_a_release_that_is_installed_is_not_given_out_once_its_log_has_forked(desk: Desk, sample: Sample) -> None:
    making = draft(sample)
    outcome = await desk.resolve(making.bundle())
    assert (await desk.resolve()).already
    conflict = HeadConflict(making.log.head(), MemoryLog(16).head())
    desk.memory.keep_conflict(LOG, conflict, {"noticed": format_instant(NOW)})
    with rejects("silexium.fork", step=10):
        await desk.resolve()
    assert_installed(sample, outcome.path)  # nothing is taken away behind the user's back


async def test_a_head_without_its_quorum_of_witnesses_installs_nothing(desk: Desk, sample: Sample) -> None:
    desk.policy = policy(logs=(TrustedLog(LOG, quorum(2)),))
    await refused(desk, draft(sample, witnesses=1).bundle(), "silexium.witness-quorum", "10.9")
    assert (await desk.resolve(draft(sample, witnesses=2).bundle())).silexium == "proven"


# --- rollback of the log (a database put back) ------------------------------------------------------------------------


def _grown(making: Draft, more: int = 20) -> MemoryLog:
    """The log after more entries."""
    log = MemoryLog(0)
    log.hashes = [*making.log.hashes, *(hashlib.sha256(b"more %d" % n).digest() for n in range(more))]
    return log


async def test_a_mirror_with_an_old_head_is_refused_unless_it_is_shown_to_be_a_beginning(
    desk: Desk, sample: Sample
) -> None:
    making = draft(sample)
    bundle = making.bundle()
    grown = _grown(making)
    desk.remember(grown, at=LOGGED + 100)
    old = export(making.log, desk.base / "old", bundle)
    await refused(desk, None, "silexium.rollback", "10.11", old)
    current = export(grown, desk.base / "current", bundle)
    outcome = await desk.resolve(None, [old, current])
    assert outcome.sources["proofs"] == str(current)
    assert "silexium.rollback" in str(outcome.sources["passed_over"])


async def test_yesterdays_backup_of_a_log_is_refused(desk: Desk, sample: Sample) -> None:
    """The log is put back to where it was, and then goes on: what it had shown since is not in it any more."""
    backup = draft(sample)
    bundle = backup.bundle()  # 16 entries
    grown = _grown(backup)
    desk.remember(grown, at=LOGGED + 100)
    await refused(desk, None, "silexium.rollback", "10.11", export(backup.log, desk.base / "backup", bundle))

    other = _grown(backup, 40)
    other.hashes[16:] = [hashlib.sha256(b"after the backup %d" % n).digest() for n in range(40)]
    sound = replace(bundle, sth=other.head(at=LOGGED + 200).members(), inclusion=other.inclusion(10, 56))
    await refused(desk, None, "silexium.fork", "10.11", export(other, desk.base / "again", sound))


async def test_a_mirror_that_holds_back_what_is_new_is_found_by_its_age(desk: Desk, sample: Sample) -> None:
    desk.policy = policy(logs=(TrustedLog(LOG, max_head_age=NOW - LOGGED - 1),))
    await refused(desk, draft(sample).bundle(), "silexium.stale", "10.9")


# --- mirrors that forge, cut off, or have nothing ---------------------------------------------------------------------


async def test_a_mirror_with_a_forged_entry_is_named_and_the_next_one_asked(desk: Desk, sample: Sample) -> None:
    bundle = draft(sample).bundle()
    entry = wire.parse(bundle.entry, max_bytes=10**6)
    forged = replace(bundle, entry=wire.canonical(entry | {"manifest_hash": str(Blake3Digest(bytes(32)))}))
    liar = put_bundle(forged, desk.base / "liar")
    error = await refused(desk, None, "silexium.entry-mismatch", "10.8", liar)
    assert error.evidence["source"] == str(liar)
    outcome = await desk.resolve(None, [liar, put_bundle(bundle, desk.base / "honest")])
    assert outcome.sources["proofs"] == str(desk.base / "honest")
    assert str(liar) in str(outcome.sources["passed_over"])


async def test_a_truncated_tile_is_refused(desk: Desk, sample: Sample) -> None:
    making = draft(sample)
    mirror = export(making.log, desk.base / "mirror", making.bundle())
    mirror = export(making.log, desk.base / "mirror")
    tile = mirror / "tile/0/000.p/16"
    whole = tile.read_bytes()
    desk.remember(making.log, 7, at=STAMPED)
    for cut in (whole[:-32], whole[:-1], b""):
        tile.write_bytes(cut)
        await refused(desk, None, "silexium.tile", "10.11", mirror)
    tile.write_bytes(whole)
    assert (await desk.resolve(None, [mirror])).silexium == "proven"


async def test_a_tile_with_other_hashes_proves_nothing_against_the_log(desk: Desk, sample: Sample) -> None:
    """Any mirror can send garbage: that head is refused, no conflict is noted, and an honest mirror is believed."""
    making = draft(sample)
    mirror = export(making.log, desk.base / "mirror", making.bundle())
    mirror = export(making.log, desk.base / "mirror")
    tile = mirror / "tile/0/000.p/16"
    whole = tile.read_bytes()
    desk.remember(making.log, 7, at=STAMPED)
    tile.write_bytes(bytes(len(whole)))
    await refused(desk, None, "silexium.consistency", "10.11", mirror)
    assert not (desk.store / "silexium" / "evidence").exists()
    tile.write_bytes(whole)
    assert (await desk.resolve(None, [mirror])).silexium == "proven"


async def test_a_log_that_has_grown_since_still_proves_an_older_head(desk: Desk, sample: Sample) -> None:
    """A static mirror keeps only its newest partial tiles: wider than those that the bundle's head asks for."""
    making = draft(sample)
    bundle = making.bundle()
    desk.remember(making.log, 7, at=STAMPED)
    mirror = export(_grown(making), desk.base / "mirror", bundle)
    assert not (mirror / "tile/0/000.p/16").exists()
    assert (await desk.resolve(None, [mirror])).silexium == "proven"
    memory = desk.recall().memory
    assert memory is not None
    assert memory.head.size == 16


async def test_nobody_has_proofs(desk: Desk) -> None:
    places = [desk.base / "empty", desk.base / "none"]
    for place in places:
        place.mkdir()
    error = await refused(desk, None, "silexium.unlogged", None, *places)
    assert len(error.details) == 2


async def test_no_place_to_ask_is_said_with_what_to_do(desk: Desk) -> None:
    with rejects("silexium.unavailable", step=1) as errors:
        await desk.resolve(None)
    [error] = errors
    assert desk.installed() == []
    assert all(any(flag in line for line in error.details) for flag in ("--bundle", "--policy", "--no-silexium"))


# --- what is in the log, and how often --------------------------------------------------------------------------------


async def test_a_second_entry_for_one_version_installs_nothing(desk: Desk, sample: Sample) -> None:
    """Both are in the log, both fully attested: a version is one thing. The entries are kept as evidence."""
    first = draft(sample)
    bundle = first.bundle()
    outcome = await desk.resolve(bundle)
    desk.uninstall(outcome)
    second = draft(sample, created=dict.fromkeys(Role, CREATED + 1), log=first.log)
    again = second.bundle()
    mirror = export(second.log, desk.base / "mirror", again)
    await refused(desk, None, "silexium.second-entry", "10.11", mirror)
    found = evidence(desk)
    assert found["known"] == str(first.logged_entry.digest)
    assert found["second"] == second.logged_entry.data.decode()


async def test_an_inner_node_of_the_tree_cannot_pass_as_an_entry(desk: Desk, sample: Sample) -> None:
    bundle = draft(sample).bundle()
    node = replace(bundle.inclusion, index=5, hashes=bundle.inclusion.hashes[1:])
    await refused(desk, replace(bundle, inclusion=node), "silexium.inclusion", "10.10")


async def test_a_promise_of_inclusion_is_none(desk: Desk, sample: Sample) -> None:
    """The log signed a head, and says that the entry will be in the next one."""
    bundle = draft(sample).bundle()
    before = MemoryLog(10)
    promised = replace(bundle, sth=before.head().members())
    await refused(desk, promised, "silexium.inclusion", "10.10")


async def test_a_bundle_without_end_is_not_read(desk: Desk) -> None:
    await refused(desk, b"{" + b" " * limits.BUNDLE_BYTES, "silexium.bundle", None)


# --- authorities and calendars that lie -------------------------------------------------------------------------------


def _stamped(bundle: Bundle, token: bytes) -> Bundle:
    return replace(bundle, stamps=(replace(bundle.stamps[0], tsa=(token,)), *bundle.stamps[1:]))


async def test_another_certificate_in_place_of_the_one_that_signed_installs_nothing(desk: Desk, sample: Sample) -> None:
    bundle = draft(sample).bundle()
    tsa = authorities()[0]
    twin = certify("tsa0", roots()[0], key=tsa.leaf.key, serial=tsa.leaf.certificate.serial_number)
    wrong = tsa.stamp(bundle.attestations[0], STAMPED, certificates=[twin.der])
    await refused(desk, _stamped(bundle, wrong), "silexium.tsa-certificate", "10.5")


async def test_an_authority_whose_certificate_has_expired_makes_no_new_stamps(desk: Desk, sample: Sample) -> None:
    """Its old stamps go on counting: what matters is whether the certificate was good when it stamped."""
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    for ends, good in ((STAMPED - 60, False), (STAMPED + 60, True)):
        until = dt.datetime.fromtimestamp(ends, dt.UTC)
        authority = Authority(certify("tsa0", roots()[0], valid=(start, until)))
        bundle = draft(sample, stampers=[authority]).bundle()
        if good:
            assert (await desk.resolve(bundle)).silexium == "proven"
        else:
            await refused(desk, bundle, "silexium.tsa-untrusted", "10.5")


async def test_an_authority_that_is_no_longer_trusted_does_not_count(desk: Desk, sample: Sample) -> None:
    tsas = (replace(trusted_tsas()[0], distrust_after=STAMPED - 1),)
    desk.policy = policy(time=time_policy(tsas=tsas))
    await refused(desk, draft(sample).bundle(), "silexium.tsa-window", "10.5")


async def test_one_of_two_authorities_is_too_few(desk: Desk, sample: Sample) -> None:
    desk.policy = policy(time=time_policy(tsas=trusted_tsas(3), tsa_threshold=2))
    await refused(desk, draft(sample).bundle(), "silexium.tsa-quorum", "10.5")
    twice = [authorities()[0], replace(authorities()[0], accuracy=2)]
    await refused(desk, draft(sample, stampers=twice).bundle(), "silexium.tsa-quorum", "10.5")
    assert (await desk.resolve(draft(sample, stampers=authorities()[:2]).bundle())).silexium == "proven"


async def test_a_backdated_stamp_is_exposed_by_its_block(desk: Desk, sample: Sample) -> None:
    early = STAMPED - limits.OTS_LAG_SECONDS - 4000
    making = draft(sample, stamped=early, created=dict.fromkeys(Role, early - 60))
    await refused(desk, making.bundle(), "silexium.time-order", "10.7")


async def test_a_calendar_that_withholds_its_proof_installs_nothing(desk: Desk, sample: Sample) -> None:
    bundle = draft(sample).bundle()
    digest = hashlib.sha256(bundle.attestations[2]).digest()
    promise = write_ots(digest, [], PendingAttestation(digest, "https://calendar.example"))
    stamps = (*bundle.stamps[:2], replace(bundle.stamps[2], ots=(promise,)))
    await refused(desk, replace(bundle, stamps=stamps), "silexium.ots-pending", "10.6")


async def test_a_block_that_nobody_mined_installs_nothing(desk: Desk, sample: Sample) -> None:
    bundle = draft(sample).bundle()
    root = hashlib.sha256(bundle.attestations[0]).digest()
    proof = write_ots(root, [], BitcoinAttestation(root, 1))
    stamps = (replace(bundle.stamps[0], ots=(proof,)), *bundle.stamps[1:])
    await refused(desk, replace(bundle, stamps=stamps), "silexium.header-root", "10.6")
    invented = replace(bundle, headers=HeaderRun(0, bytes(160)))
    await refused(desk, invented, "silexium.header-pin", "10.6")


async def test_a_chain_that_anybody_mines_counts_only_where_the_policy_names_it(desk: Desk, sample: Sample) -> None:
    desk.policy = policy(time=time_policy(network=MAINNET))
    await refused(desk, draft(sample).bundle(), "silexium.header-pin", "10.6")


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_one_key_does_not_stand_for_two_people(desk: Desk, sample: Sample) -> None:
    """Threshold bypass: the policy trusts one key in every role."""
    desk.policy = policy(keys=keyring(author={"roles": frozenset(Role)}))
    for role, check in ((TESTS, "10.3"), (SERVER, "10.4")):
        bundle = draft(sample, keys={**KEYS, role: KEYS[AUTHOR]}).bundle()
        await refused(desk, bundle, "silexium.key-reused", check)


async def test_a_key_does_not_speak_for_another_package_or_role(desk: Desk, sample: Sample) -> None:
    swapped = {**KEYS, AUTHOR: KEYS[TESTS], TESTS: KEYS[AUTHOR]}
    await refused(desk, draft(sample, keys=swapped).bundle(), "silexium.key-role", "10.2")
    desk.policy = policy(keys=keyring(author={"packages": frozenset({PackageName("other")})}))
    await refused(desk, draft(sample).bundle(), "silexium.key-role", "10.2")


async def test_an_expired_or_revoked_key_installs_nothing(desk: Desk, sample: Sample) -> None:
    for change, reason in (({"not_after": STAMPED}, "key-expired"), ({"revoked_at": STAMPED}, "key-revoked")):
        desk.policy = policy(keys=keyring(tests=change))
        await refused(desk, draft(sample).bundle(), f"silexium.{reason}", "10.7")


async def test_a_malleable_signature_installs_nothing(desk: Desk, sample: Sample) -> None:
    """S + L passes a lax verifier, and would give one attestation two hashes."""
    order = 2**252 + 27742317777372353535851937790883648493

    def shift(data: bytes) -> bytes:
        members = wire.parse(data, max_bytes=10**6)
        raw = Signature.parse(members["signature"]).raw
        high = (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")
        return wire.canonical(members | {"signature": "ed25519:" + b64encode(raw[:32] + high).decode()})

    await refused(desk, draft(sample, attested={AUTHOR: shift}).bundle(), "silexium.signature", "10.2")


async def test_a_weaker_algorithm_installs_nothing(desk: Desk, sample: Sample) -> None:
    bundle = draft(sample).bundle()
    weaker = authorities()[0].stamp(bundle.attestations[0], STAMPED, algorithm="sha256")
    await refused(desk, _stamped(bundle, weaker), "silexium.tsa-imprint", "10.5")


# --- clocks -----------------------------------------------------------------------------------------------------------


async def test_a_clock_that_was_set_back_is_noticed(desk: Desk, sample: Sample) -> None:
    """Before the log's latest head nothing can be judged: keys that have expired would be good again."""
    making = draft(sample)
    bundle = making.bundle()
    desk.remember(_grown(making), at=NOW + limits.CLOCK_SKEW_SECONDS + 1)
    await refused(desk, bundle, "silexium.clock", "10.11")


async def test_stamps_and_heads_from_the_future_install_nothing(desk: Desk, sample: Sample) -> None:
    late = draft(sample, logged=NOW + limits.CLOCK_SKEW_SECONDS + 1)
    await refused(desk, late.bundle(), "silexium.future", "10.11")
    desk.now = STAMPED - limits.CLOCK_SKEW_SECONDS - 1
    await refused(desk, draft(sample).bundle(), "silexium.future", "10.5")


# --- witnesses that collude or lose their key -------------------------------------------------------------------------


async def test_witnesses_of_one_group_count_once(desk: Desk, sample: Sample) -> None:
    groups = Quorum(2, (Quorum(1, WITNESSES[:2]), WITNESSES[2]))
    desk.policy = policy(logs=(TrustedLog(LOG, groups),))
    await refused(desk, draft(sample, witnesses=2).bundle(), "silexium.witness-quorum", "10.9")
    assert (await desk.resolve(draft(sample, witnesses=3).bundle())).silexium == "proven"


async def test_a_witness_whose_key_was_replaced_counts_no_more(desk: Desk, sample: Sample) -> None:
    rotated = Quorum(1, (NamedKey(WITNESSES[0].name, private(55).public),))
    desk.policy = policy(logs=(TrustedLog(LOG, rotated),))
    await refused(desk, draft(sample, witnesses=1).bundle(), "silexium.witness-quorum", "10.9")


# --- this machine -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["logs", "entries"])
async def test_a_damaged_memory_is_not_an_empty_one(desk: Desk, sample: Sample, kept: str) -> None:
    bundle = draft(sample).bundle()
    desk.uninstall(await desk.resolve(bundle))
    [path] = (desk.store / "silexium" / kept).iterdir()
    good = path.read_bytes()
    for data in (b"", good[:-1], b"{}", good + b" "):
        path.write_bytes(data)
        with rejects("silexium.memory", step=10):
            await desk.resolve(bundle)
        assert not list((desk.store / "packages").iterdir())
    path.write_bytes(good)
    assert (await desk.resolve(bundle)).silexium == "proven"


async def test_a_log_whose_key_was_changed_must_be_looked_at_by_hand(desk: Desk, sample: Sample) -> None:
    """The policy names another key for a log that was seen under its old one: nobody's mirror is to blame for that."""
    desk.remember(MemoryLog(16))
    changed = private(44)
    desk.policy = policy(logs=(TrustedLog(NamedKey(LOG.name, changed.public)),))

    class Rekeyed(MemoryLog):
        def head(self, size: int | None = None, *, at: int = LOGGED, key: PrivateKey = changed) -> SignedTreeHead:
            return super().head(size, at=at, key=key)

    with rejects("silexium.head-signature", step=10) as errors:
        await desk.resolve(draft(sample, log=Rekeyed()).bundle())
    assert "source" not in errors[0].evidence
    path = Path(str(errors[0].evidence["memory"]))
    assert str(path) in errors[0].details[0]
    path.unlink()  # the decision
    assert (await desk.resolve(draft(sample, log=Rekeyed()).bundle())).silexium == "proven"


# --- what a careful policy adds ---------------------------------------------------------------------------------------


async def test_a_release_that_is_too_young_is_not_installed_yet(desk: Desk, sample: Sample) -> None:
    """Takeovers of a publisher are mostly found out within a day: a policy can wait for that."""
    bundle = draft(sample).bundle()
    age = NOW - BLOCK_TIME
    young = Policy(silexium=desk.policy, min_age_s=age + 1)
    with rejects("silexium.too-young", step=10) as errors:
        await desk.resolve(bundle, policy=young)
    assert errors[0].evidence["attested"] == format_instant(BLOCK_TIME)
    assert desk.installed() == []
    old_enough = Policy(silexium=desk.policy, min_age_s=age)
    assert (await desk.resolve(bundle, policy=old_enough)).silexium == "proven"


async def test_going_without_proofs_after_a_version_that_had_them_is_said(
    desk: Desk, sample: Sample, tmp_path: Path
) -> None:
    await desk.resolve(draft(sample).bundle())
    later = make_sample(tmp_path / "later", 20_000, release=ReleaseId.parse("sample@1.0.1"))
    put_content(later, desk.store)
    request = Request(later.minimal.release, publisher=later.minimal.pubkey, without_silexium=True, offline=True)
    outcome = await desk.resolve(request=request)
    assert len(outcome.warnings) == 2
    assert outcome.warnings[1].startswith("sample@1.0.0 was installed with Silexium's proofs")


@pytest.mark.parametrize("seed", range(40))
async def test_no_flipped_byte_of_a_bundle_installs_or_breaks_anything(desk: Desk, sample: Sample, seed: int) -> None:
    draw, data = random.Random(seed), bytearray(draft(sample).bundle().data)
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    with pytest.raises((LibreSeedError, BaseExceptionGroup)) as caught:
        await desk.resolve(bytes(data))
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    assert isinstance(error, LibreSeedError)
    assert (error.exit_code, error.step) == (40, 10)
    assert desk.installed() == []
