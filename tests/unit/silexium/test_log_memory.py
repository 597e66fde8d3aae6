"""What a client remembers of a log: forks, rollbacks, clocks, and a witness that keeps one history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libreseed import limits, wire
from libreseed.errors import LibreSeedError, Malformed, ProofRejected
from libreseed.ids import Blake3Digest
from libreseed.keys.ed25519 import PrivateKey
from libreseed.silexium.log_memory import (
    ConsistencyProof,
    HeadConflict,
    LogMemory,
    parse_conflict,
    parse_consistency,
    parse_memory,
    receive_head,
)
from libreseed.silexium.log_proofs import consistency_proof, prefix_proof
from libreseed.silexium.merkle import tree_root
from libreseed.silexium.tree_head import NamedKey, SignedTreeHead, TreeHead
from libreseed.silexium.witness import next_cosigned
from tests.unit.silexium.test_merkle import entry, nodes_of

KEY = PrivateKey(bytes([1]) * 32)
LOG = NamedKey("log.example/b3", KEY.public)
T0 = 1_800_000_000


class Log:
    """A log in memory; ``fork`` shares the first ``size`` entries and goes on differently."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries
        self.read = nodes_of(entries)

    def fork(self, size: int) -> Log:
        return Log(self.entries[:size] + [entry(10**6 + n) for n in range(len(self.entries) - size)])

    def head(self, size: int, at: int | None = None) -> SignedTreeHead:
        root = Blake3Digest(tree_root(self.entries[:size]))
        return SignedTreeHead.sign(TreeHead(LOG.name, size, root), T0 + size if at is None else at, KEY)

    def proof(self, old: int, new: int) -> ConsistencyProof:
        return ConsistencyProof(old, new, tuple(consistency_proof(self.read, old, new)))


TRUE = Log([entry(n) for n in range(64)])
NOW = T0 + 1000


def refused(call: object, *arguments: object, **options: object) -> LibreSeedError:
    with pytest.raises(ProofRejected) as error:
        call(*arguments, **options)  # type: ignore[operator]  # one of the functions under test
    return error.value


def test_a_log_that_grows_is_followed() -> None:
    memory = receive_head(None, TRUE.head(5), now=NOW)
    memory = receive_head(memory, TRUE.head(20), now=NOW, proof=TRUE.proof(5, 20))
    memory = receive_head(memory, TRUE.head(64), now=NOW, proof=TRUE.proof(20, 64))
    assert memory.head == TRUE.head(64)
    assert [sth.size for sth in memory.trail] == [20, 5]
    assert parse_memory(wire.canonical(memory.members()), LOG) == memory


def test_the_same_head_again_needs_no_proof_and_keeps_the_newer_time() -> None:
    memory = LogMemory(TRUE.head(5))
    assert receive_head(memory, TRUE.head(5), now=NOW) == memory
    assert receive_head(memory, TRUE.head(5, T0 + 500), now=NOW).head.timestamp == T0 + 500
    assert receive_head(memory, TRUE.head(5, T0), now=NOW) == memory


@pytest.mark.parametrize(
    "proof", [None, TRUE.proof(4, 64), TRUE.proof(5, 63), ConsistencyProof(5, 64, ()), TRUE.fork(9).proof(5, 64)]
)
def test_growth_without_its_proof_is_refused(proof: ConsistencyProof | None) -> None:
    memory = LogMemory(TRUE.head(5))
    error = refused(receive_head, memory, TRUE.head(64), now=NOW, proof=proof)
    assert error.reason == "silexium.consistency"
    assert error.evidence["small"] == TRUE.head(5).members()


def test_two_roots_of_one_size_are_a_fork() -> None:
    memory = LogMemory(TRUE.head(64))
    error = refused(receive_head, memory, TRUE.fork(60).head(64), now=NOW)
    assert error.reason == "silexium.fork"
    conflict = error.evidence["conflict"]
    assert conflict == HeadConflict(TRUE.head(64), TRUE.fork(60).head(64))


def test_a_second_root_for_a_size_seen_long_ago_is_a_fork() -> None:
    memory = receive_head(LogMemory(TRUE.head(20)), TRUE.head(64), now=NOW, proof=TRUE.proof(20, 64))
    assert refused(receive_head, memory, TRUE.fork(3).head(20), now=NOW).reason == "silexium.fork"


def test_a_fork_proves_itself_when_the_log_answers_for_its_new_history() -> None:
    fork = TRUE.fork(10)
    error = refused(receive_head, LogMemory(TRUE.head(21)), fork.head(64), now=NOW, proof=fork.proof(21, 64))
    assert error.reason == "silexium.fork"
    conflict = error.evidence["conflict"]
    assert isinstance(conflict, HeadConflict)
    assert parse_conflict(wire.parse(wire.canonical(conflict.members()), max_bytes=10**5), LOG) == conflict


def test_a_proven_fork_stops_every_later_head() -> None:
    conflict = HeadConflict(TRUE.head(16), TRUE.fork(3).head(64), tuple(prefix_proof(TRUE.fork(3).read, 16, 64)))
    memory = replace(LogMemory(TRUE.head(16)), conflict=conflict)
    memory = parse_memory(wire.canonical(memory.members()), LOG)
    for sth in (TRUE.head(16), TRUE.head(64), TRUE.fork(3).head(64)):
        error = refused(receive_head, memory, sth, now=NOW, proof=TRUE.proof(16, 64))
        assert error.reason == "silexium.fork"


def test_garbage_from_a_mirror_is_no_evidence_against_the_log() -> None:
    """Otherwise any mirror could stop all installs for good."""
    for hashes in ((bytes(32),) * 6, TRUE.proof(20, 64).hashes[:-1], TRUE.proof(20, 64).hashes[::-1]):
        error = refused(
            receive_head, LogMemory(TRUE.head(20)), TRUE.head(64), now=NOW, proof=ConsistencyProof(20, 64, hashes)
        )
        assert error.reason == "silexium.consistency"
        assert "conflict" not in error.evidence


def test_evidence_that_proves_nothing_cannot_exist() -> None:
    nodes = tuple(prefix_proof(TRUE.read, 5, 64))
    for first, second, hashes in (
        (TRUE.head(5), TRUE.head(64), nodes),
        (TRUE.head(5), TRUE.head(64), ()),
        (TRUE.head(5), TRUE.head(5, T0), ()),
        (TRUE.head(64), TRUE.fork(3).head(5), nodes),
        (TRUE.fork(1).head(5), TRUE.head(64), nodes[:-1]),
    ):
        with pytest.raises(Malformed):
            HeadConflict(first, second, hashes)


def test_a_smaller_head_signed_again_does_not_displace_the_largest() -> None:
    memory = receive_head(LogMemory(TRUE.head(20)), TRUE.head(64), now=NOW, proof=TRUE.proof(20, 64))
    assert receive_head(memory, TRUE.head(20, T0 + 900), now=NOW).head == TRUE.head(64)


def test_an_empty_log_begins_every_log() -> None:
    memory = receive_head(None, TRUE.head(0), now=NOW)
    assert receive_head(memory, TRUE.head(5), now=NOW).head == TRUE.head(5)


def test_the_memory_of_one_log_is_not_asked_about_another() -> None:
    other = PrivateKey(bytes([2]) * 32)
    elsewhere = SignedTreeHead.sign(TreeHead("other.example", 5, TRUE.head(5).root), T0, other)
    with pytest.raises(AssertionError):
        receive_head(LogMemory(TRUE.head(5)), elsewhere, now=NOW)
    with pytest.raises(Malformed):
        HeadConflict(TRUE.fork(1).head(5), elsewhere)


def test_a_rollback_with_a_proof_of_something_else_is_a_rollback() -> None:
    error = refused(receive_head, LogMemory(TRUE.head(64)), TRUE.head(20), now=NOW, proof=TRUE.proof(5, 64))
    assert error.reason == "silexium.rollback"


def test_a_rollback_is_refused() -> None:
    """A database put back from yesterday's backup: it can't show that it begins the log that we saw."""
    assert refused(receive_head, LogMemory(TRUE.head(64)), TRUE.head(20), now=NOW).reason == "silexium.rollback"


def test_an_older_head_is_welcome_with_its_proof_its_trail_or_its_witnesses() -> None:
    memory = LogMemory(TRUE.head(64))
    proven = receive_head(memory, TRUE.head(20), now=NOW, proof=TRUE.proof(20, 64))
    assert (proven.head, proven.trail) == (TRUE.head(64), (TRUE.head(20),))
    assert receive_head(proven, TRUE.head(20), now=NOW) == proven
    witnessed = receive_head(memory, TRUE.head(20), now=NOW, witnessed=True)
    assert witnessed.head == TRUE.head(64)


def test_witnesses_do_not_excuse_a_larger_head_from_its_proof() -> None:
    error = refused(receive_head, LogMemory(TRUE.head(20)), TRUE.head(64), now=NOW, witnessed=True)
    assert error.reason == "silexium.consistency"


def test_the_trail_is_bounded() -> None:
    memory = LogMemory(TRUE.head(1))
    big = Log([entry(n) for n in range(limits.LOG_TRAIL + 40)])
    for size in range(2, limits.LOG_TRAIL + 40):
        memory = receive_head(memory, big.head(size), now=NOW, proof=big.proof(size - 1, size))
    assert len(memory.trail) == limits.LOG_TRAIL
    assert len(wire.canonical(memory.members())) < limits.LOG_MEMORY_BYTES


def test_a_clock_that_was_set_back_is_noticed() -> None:
    memory = LogMemory(TRUE.head(5))
    error = refused(receive_head, memory, TRUE.head(5), now=T0 - limits.CLOCK_SKEW_SECONDS)
    assert error.reason == "silexium.clock"


def test_a_head_from_the_future_is_refused() -> None:
    head = TRUE.head(5, NOW + limits.CLOCK_SKEW_SECONDS + 1)
    assert refused(receive_head, None, head, now=NOW).reason == "silexium.future"


def test_a_larger_head_may_not_be_older() -> None:
    memory = LogMemory(TRUE.head(5, NOW))
    error = refused(receive_head, memory, TRUE.head(64), now=NOW, proof=TRUE.proof(5, 64))
    assert error.reason == "silexium.time-order"


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"",
        wire.canonical(LogMemory(TRUE.head(5)).members() | {"extra": 1}),
        wire.canonical(LogMemory(TRUE.head(5)).members() | {"trail": None}),
        wire.canonical(LogMemory(TRUE.head(5)).members() | {"trail": [{}] * (limits.LOG_TRAIL + 1)}),
    ],
)
def test_a_damaged_memory_is_refused(data: bytes) -> None:
    assert refused(parse_memory, data, LOG).reason == "silexium.memory"


def test_a_memory_with_a_forged_head_is_refused() -> None:
    members = LogMemory(TRUE.head(5)).members()
    members["head"]["tree_size"] = 4
    assert refused(parse_memory, wire.canonical(members), LOG).reason == "silexium.head-signature"


def test_consistency_objects_round_trip() -> None:
    proof = TRUE.proof(5, 64)
    assert parse_consistency(proof.members()) == proof
    wrong: list[wire.JsonValue] = [
        proof.members() | {"old_size": -1},
        proof.members() | {"hashes": [str(Blake3Digest(bytes(32)))] * 65},
        proof.members() | {"hashes": [proof.hashes[0].hex()]},
        proof.members() | {"hashes": {}},
        [],
    ]
    for members in wrong:
        assert refused(parse_consistency, members).reason == "silexium.consistency"


def test_a_witness_follows_one_history() -> None:
    memory = next_cosigned(None, TRUE.head(5), ConsistencyProof(0, 5, ()), now=NOW)
    memory = next_cosigned(memory, TRUE.head(64), TRUE.proof(5, 64), now=NOW)
    assert next_cosigned(memory, TRUE.head(64), ConsistencyProof(64, 64, ()), now=NOW).head == TRUE.head(64)


def test_a_witness_refuses_what_does_not_extend_its_last_head() -> None:
    memory = LogMemory(TRUE.head(20))
    fork = TRUE.fork(10)
    cases = [
        (TRUE.head(64), TRUE.proof(5, 64), "silexium.witness-size"),
        (TRUE.head(5), ConsistencyProof(20, 5, ()), "silexium.witness-size"),
        (TRUE.head(64), ConsistencyProof(0, 64, ()), "silexium.witness-size"),
        (TRUE.head(64), TRUE.proof(20, 63), "silexium.witness-size"),
        (TRUE.head(64), ConsistencyProof(20, 64, ()), "silexium.consistency"),
        (TRUE.head(20), ConsistencyProof(20, 20, (bytes(32),)), "silexium.consistency"),
        (fork.head(64), fork.proof(20, 64), "silexium.fork"),
        (fork.head(20), ConsistencyProof(20, 20, ()), "silexium.fork"),
    ]
    for sth, proof, expected in cases:
        error = refused(next_cosigned, memory, sth, proof, now=NOW)
        assert error.reason == expected
        if expected == "silexium.witness-size":
            assert error.evidence["size"] == 20


def test_a_witness_takes_no_proof_from_nothing() -> None:
    error = refused(next_cosigned, None, TRUE.head(5), ConsistencyProof(0, 5, (bytes(32),)), now=NOW)
    assert error.reason == "silexium.consistency"


def _places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for name, item in items for place in [(*path, name), *_places(item, (*path, name))]]


def test_nothing_but_a_refusal_escapes_a_damaged_memory() -> None:
    """Whatever stands at whatever place: it is refused, or it is what the log signed."""
    fork = TRUE.fork(10)
    conflict = HeadConflict(TRUE.head(21), fork.head(64), tuple(prefix_proof(fork.read, 21, 64)))
    good = LogMemory(TRUE.head(64), (TRUE.head(20),), conflict)
    accepted = []
    for place in _places(good.members()):
        for odd in (None, True, -1, 2**50, "", "x", "blake3:" + "0" * 64, [], {}, [{}], {"x": 1}):
            members: wire.JsonValue = wire.parse(wire.canonical(good.members()), max_bytes=10**6)
            inner = members
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = odd
            try:
                parse_memory(wire.canonical(members), LOG)
            except ProofRejected:
                continue
            accepted.append((place, odd))
    assert accepted == [(("trail",), []), (("conflict",), None)]
