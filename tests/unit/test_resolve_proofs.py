"""Step 10 in the resolver's own terms: the policy's table, receipts, the engine's seam, what is remembered."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio
import trio.testing

from libreseed import limits
from libreseed.adapters.resolving.policy_file import read_policy
from libreseed.adapters.silexium.proofs.proof_collector import ProofCollector
from libreseed.adapters.silexium.proofs.proof_source import FolderSource
from libreseed.adapters.silexium.proofs.trust_memory import Remembered, TrustMemory
from libreseed.errors import LibreSeedError, LocalFault, ProofRejected, TransportFault, UsageFault
from libreseed.ids import Blake3Digest, PackageName, ReleaseId
from libreseed.keys.ed25519 import PrivateKey
from libreseed.resolve.engine import ExtractedSource, FoundRecord, Resolution
from libreseed.resolve.policy import Policy, parse_policy
from libreseed.resolve.proofs import (
    attested_basis,
    check_rows,
    proven_author,
    proven_facts,
    require_choice,
    required_growth,
)
from libreseed.resolve.receipt import Receipt, parse_receipt
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.keyring import Role
from libreseed.silexium.log_memory import HeadConflict, LogMemory
from libreseed.silexium.verification import ReleaseVerification
from tests.proof_support import export, put_bundle, write_policy
from tests.silexium_support import (
    DIGESTS,
    KEYS,
    LOG,
    LOGGED,
    NOW,
    RELEASE,
    SIZES,
    SRC,
    TGZ,
    Draft,
    MemoryLog,
    digest,
    keyring,
    policy,
)
from tests.unit.test_resolve_values import minimal

H = Blake3Digest(bytes(32))
OTHER = PrivateKey(b"\x63" * 32)
OTHER_RELEASE = ReleaseId.parse("other@1.0.0")
AUTHOR = KEYS[Role.AUTHOR].public


def proven(release: ReleaseId = RELEASE) -> ReleaseVerification:
    """A release whose documents hold."""
    verification = ReleaseVerification(policy(), release, now=NOW)
    verify_bundle(verification, parse_bundle(Draft().bundle().data))
    return verification


# --- policy ----------------------------------------------------------------------------------------------------------


def test_the_silexium_table_says_whom_to_believe_and_where_to_ask(tmp_path: Path) -> None:
    path = write_policy(tmp_path / "p.json", demand="required", sources=["https://x", "log", "/srv/log"], headers=["h"])
    found = read_policy(path)
    assert found.silexium is not None
    assert [log.identity for log in found.silexium.logs] == [LOG]
    assert found.silexium_waivable is False
    assert found.sources == ("https://x", str(tmp_path / "log"), "/srv/log")
    assert found.headers == (str(tmp_path / "h"),)


def test_a_table_that_names_nobody_is_only_a_demand() -> None:
    for members in ({"silexium": "required"}, {"silexium": {"demand": "required"}}):
        found = parse_policy(members)
        assert (found.silexium, found.silexium_waivable) == (None, False)
    assert parse_policy({"silexium": {"sources": ["https://x"]}}).silexium_waivable is True


@pytest.mark.parametrize(
    "table",
    [
        {"demand": "off"},
        {"demand": True},
        {"sources": "https://x"},
        {"sources": [""]},
        {"sources": [1]},
        {"sources": ["x"] * (limits.PROOF_SOURCES + 1)},
        {"headers": {}},
        {"keys": []},
        {"logs": [], "keys": [], "time": {"tsas": []}},
        {"surprise": 1},
        {"min-age-seconds": -1},
        {"min-age-seconds": 1.5},
        {"min-age-seconds": limits.MIN_AGE_SECONDS + 1},
    ],
)
def test_a_table_that_is_not_understood_is_an_error(table: dict[str, object]) -> None:
    with pytest.raises(UsageFault) as error:
        parse_policy({"silexium": table})
    assert (error.value.reason, error.value.exit_code) == ("config.policy", 3)


def test_silexium_is_required_unless_it_is_waived() -> None:
    asked, waived = Request(RELEASE), Request(RELEASE, without_silexium=True)
    require_choice(asked, Policy(silexium=policy()))
    require_choice(waived, Policy())
    for request, demand, reason in (
        (asked, Policy(), "silexium.unavailable"),
        (asked, Policy(silexium_waivable=False), "silexium.unavailable"),
        (waived, Policy(silexium=policy(), silexium_waivable=False), "silexium.required"),
    ):
        with pytest.raises(LibreSeedError) as error:
            require_choice(request, demand)
        assert (error.value.reason, error.value.exit_code) == (reason, 40)


# --- the engine's seam -----------------------------------------------------------------------------------------------


def begun(basis: TrustBasis | None = None) -> Resolution:
    machine = Resolution(Request(RELEASE), Policy(silexium=policy()))
    machine.begin(basis, {})
    return machine


def test_no_record_is_taken_before_the_documents_hold() -> None:
    machine = begun(TrustBasis((AUTHOR,), "pin"))
    with pytest.raises(ProofRejected) as error:
        machine.record(FoundRecord(AUTHOR, b"", 1, "dht"))
    assert (error.value.reason, error.value.step, machine.completed) == ("silexium.unavailable", 2, 1)


def test_the_proven_author_is_believed_only_where_nobody_else_was_to_be() -> None:
    unpinned = begun()
    assert unpinned.attested(proven(), {}).basis == TrustBasis((AUTHOR,), "silexium")
    pinned = begun(TrustBasis((OTHER.public,), "pin"))
    assert pinned.attested(proven(), {}).basis == TrustBasis((OTHER.public,), "pin")


@pytest.mark.parametrize("wrong", ["early", "late", "other release", "incomplete", "more"])
def test_proofs_are_taken_in_their_place_only(wrong: str) -> None:
    machine, verification = begun(), proven()
    if wrong == "early":
        machine = Resolution(Request(RELEASE), Policy(silexium=policy()))
    elif wrong == "late":
        machine.attested(proven(), {})
        machine.record(FoundRecord(AUTHOR, b"", 1, "dht"))
    elif wrong == "other release":
        machine = Resolution(Request(ReleaseId.parse("hello@1.0.1")), Policy(silexium=policy()))
        machine.begin(None, {})
    elif wrong == "incomplete":
        verification = ReleaseVerification(policy(), RELEASE, now=NOW)
    else:
        verification.artifact(len(TGZ), digest(TGZ))
    with pytest.raises(AssertionError):
        machine.attested(verification, {})


@pytest.mark.parametrize(
    ("change", "reason", "check"),
    [
        ({"size": len(TGZ) + 1}, "silexium.artifact", "10.12"),
        ({"blake3": H}, "silexium.artifact", "10.12"),
        ({"src": SRC + b"x"}, "silexium.src", "10.13"),
        ({"digests": {**DIGESTS, "README": H}}, "silexium.src", "10.13"),
        ({"sizes": {**SIZES, "README": 7}}, "silexium.src", "10.13"),
    ],
)
def test_step_10_takes_artifact_and_sources(change: dict[str, object], reason: str, check: str) -> None:
    source = ExtractedSource(len(TGZ), digest(TGZ), SRC, SIZES, DIGESTS)
    good, bad = begun(), begun()
    for machine in (good, bad):
        machine.attested(proven(), {})
        machine._completed = 9  # steps 2 to 9 are other tests' matter
    assert good.silexium_step(source).silexium == "proven"
    with pytest.raises(ProofRejected) as error:
        bad.silexium_step(replace(source, **change))  # type: ignore[arg-type]  # fields by name
    assert (error.value.reason, error.value.evidence["check"], error.value.step) == (reason, check, 10)
    assert (bad.completed, bad.trusted.silexium) == (9, "")


def test_step_10_is_not_passed_by_a_demand_without_proofs() -> None:
    machine = begun()
    machine._completed = 9
    assert machine.trusted.proofs is None
    with pytest.raises(ProofRejected) as error:
        machine.silexium_step()
    assert error.value.reason == "silexium.unavailable"


# --- receipts --------------------------------------------------------------------------------------------------------


def test_a_receipt_keeps_what_was_proven() -> None:
    facts = proven_facts(proven())
    receipt = Receipt(minimal(), "/x", 5, "silexium", "proven", facts)
    again = parse_receipt(receipt.data)
    assert again == receipt
    assert (again.proofs["log"], again.proofs["tree_size"], again.proofs["network"]) == (LOG.name, 16, "regtest")
    assert set(again.proofs["signers"]) == {"author", "tests", "server"}
    assert again.proofs["checks"] == [f"10.{number}" for number in range(1, 12)]
    assert b'"proofs"' not in Receipt(minimal(), "/x", 5, "pin", "not checked").data
    with pytest.raises(LocalFault):
        parse_receipt(receipt.data.replace(b'"proofs":{', b'"proofs":[{', 1))


def test_an_author_is_believed_of_what_is_installed_as_long_as_the_policy_names_him() -> None:
    name = minimal().name
    receipt = Receipt(minimal(key=KEYS[Role.AUTHOR]), "/x", 5, "silexium", "proven")
    for changes, believed in (
        ({}, True),
        ({"packages": frozenset({name})}, True),
        ({"packages": frozenset({PackageName("other")})}, False),
        ({"public": OTHER.public}, False),
    ):
        demand = Policy(silexium=policy(keys=keyring(author=changes)))
        assert (attested_basis(receipt, demand) is not None) is believed
    assert attested_basis(replace(receipt, trust="pin"), Policy(silexium=policy())) is None
    assert attested_basis(receipt, Policy()) is None


def test_rows_say_number_verdict_and_inputs() -> None:
    verification = proven()
    assert proven_author(verification, Policy(silexium=policy())) == AUTHOR
    rows = check_rows(verification.checks)
    assert [row["check"] for row in rows] == [f"10.{number}" for number in range(1, 12)]
    assert json.loads(json.dumps(rows)) == rows
    assert all(set(row) == {"check", "name", "verdict", "inputs"} for row in rows)


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_which_growth_must_be_proven() -> None:
    log = MemoryLog(20)
    memory = LogMemory(log.head(12), (log.head(5),))
    assert required_growth(None, log.head(9)) is None
    assert required_growth(memory, log.head(12)) is None
    assert required_growth(memory, log.head(5)) is None
    assert required_growth(memory, log.head(20)) == (12, 20)
    assert required_growth(memory, log.head(9)) == (9, 12)
    assert required_growth(LogMemory(log.head(0)), log.head(9)) is None
    other = MemoryLog(12)
    other.hashes[0] = bytes(32)
    forked = replace(memory, conflict=HeadConflict(log.head(12), other.head(12)))
    assert required_growth(forked, log.head(20)) is None


def test_a_memory_survives_and_rises(tmp_path: Path) -> None:
    store, log = TrustMemory(tmp_path), MemoryLog(20)
    fresh = store.recall(LOG, RELEASE)
    assert (fresh.memory, fresh.entry) == (None, None)
    assert store.keep(fresh, LogMemory(log.head(10)), RELEASE, H)
    known = TrustMemory(tmp_path).recall(LOG, RELEASE)
    assert known.memory == LogMemory(log.head(10))
    assert known.entry == H
    assert TrustMemory(tmp_path).recall(LOG, ReleaseId.parse("other@1.0.0")).entry is None


def test_two_that_learn_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    """A head that one process has accepted is not forgotten because another one read before it and writes after."""
    log = MemoryLog(20)
    one, two = TrustMemory(tmp_path), TrustMemory(tmp_path)
    before = [memory.recall(LOG, RELEASE) for memory in (one, two)]
    assert two.keep(before[1], LogMemory(log.head(20)), RELEASE, H)
    assert not one.keep(before[0], LogMemory(log.head(10)), RELEASE, H)
    known = one.recall(LOG, RELEASE)
    assert known.memory is not None
    assert known.memory.head.size == 20


def test_only_one_of_many_writers_wins(tmp_path: Path) -> None:
    log, wins = MemoryLog(40), list[int]()
    memories = [TrustMemory(tmp_path) for _ in range(8)]
    known = [memory.recall(LOG, RELEASE) for memory in memories]

    def keep(number: int) -> None:
        if memories[number].keep(known[number], LogMemory(log.head(10 + number)), RELEASE, H):
            wins.append(number)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = wins
    memory = memories[0].recall(LOG, RELEASE).memory
    assert memory is not None
    assert memory.head.size == 10 + winner


def test_evidence_is_readable_and_stays(tmp_path: Path) -> None:
    log, other = MemoryLog(12), MemoryLog(12)
    other.hashes[3] = bytes(32)
    conflict = HeadConflict(log.head(), other.head())
    store = TrustMemory(tmp_path)
    first = store.keep_conflict(LOG, conflict, {"noticed": "2026-01-01T00:00:00Z", "source": "a"})
    again = store.keep_conflict(LOG, conflict, {"noticed": "2026-01-02T00:00:00Z", "source": "b"})
    assert first == again
    found = json.loads(first.read_text())
    assert (found["noticed"], found["first"], found["key"]) == (
        "2026-01-01T00:00:00Z",
        log.head().members(),
        str(LOG.key),
    )
    assert store.conflict(LOG) == conflict
    memory = store.recall(LOG, RELEASE).memory
    assert memory is not None
    assert memory.head == log.head()


def test_one_second_entry_is_one_finding_however_the_log_grows(tmp_path: Path) -> None:
    store, told = TrustMemory(tmp_path), {"known": str(H), "second": "{}", "release": str(RELEASE)}
    log = MemoryLog(20)
    paths = {
        store.keep_second_entry(LOG, {**told, "sth": log.head(size).members(), "noticed": str(size)})
        for size in range(10, 20)
    }
    assert len(paths) == 1
    assert store.keep_second_entry(LOG, {**told, "second": "[]"}) not in paths


def test_what_is_remembered_of_another_log_does_not_count(tmp_path: Path) -> None:
    store, log = TrustMemory(tmp_path), MemoryLog(10)
    assert store.keep(store.recall(LOG, RELEASE), LogMemory(log.head(at=LOGGED)), RELEASE, H)
    elsewhere = replace(LOG, name="other.example/silexium-b3")
    assert store.recall(elsewhere, RELEASE).memory is None
    changed = replace(LOG, key=OTHER.public)  # the log's key was changed under its old name
    with pytest.raises(ProofRejected) as error:
        store.recall(changed, RELEASE)
    assert error.value.reason == "silexium.head-signature"
    told = "\n".join(error.value.details)
    assert "another key" in told
    assert str(tmp_path / "silexium" / "logs") in told  # what is to be moved away, if that is the decision


# --- who is asked ----------------------------------------------------------------------------------------------------


@dataclass
class Fake:
    """A source that answers as it is told, or never."""

    name: str
    answer: bytes | None = None
    hangs: bool = False
    asked: list[str] = field(default_factory=list)

    async def get(self, path: str, most: int) -> bytes | None:
        self.asked.append(path)
        if self.hangs:
            await trio.sleep_forever()
        return self.answer


async def test_a_source_that_never_answers_is_left(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    said = list[str]()
    collector = ProofCollector(policy(), RELEASE, TrustMemory(tmp_path), NOW, told=said.append)
    mute, empty = Fake("mute", hangs=True), Fake("empty")
    with pytest.raises(ProofRejected) as error:
        await collector.collect([mute, empty])
    assert error.value.reason == "silexium.unlogged"
    assert [line.partition(":")[0] for line in error.value.details] == ["empty", "mute"]  # as they came to an end
    assert "[http.timeout]" in error.value.details[1]
    assert said == [], "the refusal says it, once"
    assert trio.current_time() < 2 * limits.PROOF_SOURCE_SECONDS
    with pytest.raises(TransportFault) as unreachable:
        await collector.collect([mute])
    assert (unreachable.value.reason, unreachable.value.exit_code) == ("silexium.unreachable", 11)
    assert empty.asked == ["bundle/hello@1.0.0", "packages/hello@1.0.0/silexium.json"]


async def test_a_slow_source_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tarpit in the first place: the next source is asked beside it, and its proofs are taken."""
    monkeypatch.setattr(limits, "PROOF_HEDGE_SECONDS", 0.05)
    mute, honest = Fake("mute", hangs=True), put_bundle(Draft().bundle(), tmp_path / "log", str(RELEASE))
    said = list[str]()
    collector = ProofCollector(policy(), RELEASE, TrustMemory(tmp_path), NOW, told=said.append)
    with trio.fail_after(30):
        proven = await collector.collect([mute, FolderSource(honest)])
    assert proven.source == str(honest)
    assert proven.passed_over == ("mute: had not answered yet",) == tuple(said)
    assert mute.asked


async def test_sources_are_preferred_in_their_order(tmp_path: Path) -> None:
    first, second = (put_bundle(Draft().bundle(), tmp_path / name, str(RELEASE)) for name in "ab")
    other = Fake("c")
    collector = ProofCollector(policy(), RELEASE, TrustMemory(tmp_path), NOW)
    proven = await collector.collect([FolderSource(first), FolderSource(second), other])
    assert (proven.source, proven.passed_over, other.asked) == (str(first), (), [])


async def test_another_process_that_learns_meanwhile_is_listened_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our reading and our writing a larger head arrives: the checks are taken again, and nothing is lost."""
    making = Draft()
    bundle = making.bundle()
    memory, grown = TrustMemory(tmp_path), MemoryLog(0)
    grown.hashes = [*making.log.hashes, *MemoryLog(40).hashes[20:]]
    keep, rounds = TrustMemory.keep, list[int]()

    def interrupted(
        self: TrustMemory, before: Remembered, after: LogMemory, release: ReleaseId, entry: Blake3Digest
    ) -> bool:
        rounds.append(after.head.size)
        if len(rounds) == 1:
            assert keep(self, self.recall(LOG, OTHER_RELEASE), LogMemory(grown.head()), OTHER_RELEASE, H)
        return keep(self, before, after, release, entry)

    monkeypatch.setattr(TrustMemory, "keep", interrupted)
    folder = export(grown, tmp_path / "log")
    source = put_bundle(bundle, folder, str(RELEASE))
    collector = ProofCollector(policy(), RELEASE, memory, NOW)
    proven = await collector.collect([FolderSource(source)])
    assert rounds == [16, 36]
    assert proven.verification.trusted.memory is not None
    known = memory.recall(LOG, RELEASE).memory
    assert known is not None
    assert (known.head.size, [head.size for head in known.trail]) == (36, [16])
