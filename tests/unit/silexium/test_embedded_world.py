"""The embedded authorities: what they issue verifies, survives restarts, and says that it proves nothing."""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from libreseed.adapters.silexium.stamps.embedded import EmbeddedWorld, embedded_world
from libreseed.errors import LocalFault, Malformed, ProofRejected
from libreseed.silexium.ots import PendingAttestation, parse_ots, parse_timestamp, write_ots
from libreseed.silexium.stamps import TimePolicy, anchored_at, stamped_at
from libreseed.silexium.trust_policy import parse_silexium_policy
from tests.silexium_support import LOG, NOW

MESSAGE = b"the bytes of an attestation"


def make(folder: Path, now: int = NOW) -> EmbeddedWorld:
    return embedded_world(folder / "world", clock=lambda: now)


def time_policy(world: EmbeddedWorld) -> TimePolicy:
    log = {"origin": LOG.name, "key": str(LOG.key)}
    return parse_silexium_policy({"keys": [], "logs": [log], "time": world.time_table()}).time


def test_stamps_verify_under_the_policy_that_names_the_world(tmp_path: Path) -> None:
    world = make(tmp_path)
    policy = time_policy(world)
    (stamp,) = stamped_at([world.token(MESSAGE)], MESSAGE, policy, now=NOW)
    assert (stamp.tsa, stamp.time) == ("embedded", NOW + 1)  # its accuracy is a second
    assert anchored_at([world.proof(MESSAGE)], MESSAGE, policy, [world.chain()]) == (NOW, 1)


def test_two_worlds_do_not_believe_each_other(tmp_path: Path) -> None:
    one, other = make(tmp_path / "a"), make(tmp_path / "b")
    with pytest.raises(ProofRejected) as refusal:
        stamped_at([one.token(MESSAGE)], MESSAGE, time_policy(other), now=NOW)
    assert refusal.value.reason == "silexium.tsa-untrusted"


def test_what_was_promised_outlives_a_restart(tmp_path: Path) -> None:
    digest = hashlib.sha256(MESSAGE).digest()
    world = make(tmp_path)
    (path,) = parse_timestamp(world.submit(digest), digest)
    assert isinstance(path.end, PendingAttestation)
    again = make(tmp_path, NOW + 60)
    assert again.root_pem == world.root_pem
    rest = again.timestamp(path.end.commitment)
    assert rest is not None
    (anchored,) = parse_timestamp(rest, path.end.commitment)
    proof = write_ots(digest, (*path.steps, *anchored.steps), anchored.end)  # type: ignore[arg-type]  # a block
    assert anchored_at([proof], MESSAGE, time_policy(again), [make(tmp_path).chain()]) == (NOW + 60, 1)


def test_a_waiting_commitment_is_no_proof_until_a_block_is_mined(tmp_path: Path) -> None:
    world = make(tmp_path)
    world.mines = False
    digest = hashlib.sha256(MESSAGE).digest()
    (path,) = parse_timestamp(world.submit(digest), digest)
    assert isinstance(path.end, PendingAttestation)
    assert world.timestamp(path.end.commitment) is None
    pending = write_ots(digest, path.steps, path.end)
    with pytest.raises(ProofRejected) as refusal:
        anchored_at([pending], MESSAGE, time_policy(world), [world.chain()])
    assert refusal.value.reason == "silexium.ots-pending"
    assert parse_ots(pending, digest).pending[0].uri == world.uri
    assert world.mine() == 1
    assert world.timestamp(path.end.commitment) is not None


def test_one_block_confirms_all_that_waits(tmp_path: Path) -> None:
    world = make(tmp_path)
    messages = [b"message %d" % number for number in range(7)]
    promised = []
    for message in messages:
        digest = hashlib.sha256(message).digest()
        (path,) = parse_timestamp(world.submit(digest), digest)
        assert isinstance(path.end, PendingAttestation)
        promised.append((digest, path.steps, path.end.commitment))
    assert world.mine() == 1
    assert world.mine() is None
    for message, (digest, steps, commitment) in zip(messages, promised, strict=True):
        (rest,) = parse_timestamp(world.timestamp(commitment) or b"", commitment)
        proof = write_ots(digest, (*steps, *rest.steps), rest.end)  # type: ignore[arg-type]  # a block
        assert anchored_at([proof], message, time_policy(world), [world.chain()])[1] == 1


def test_a_clock_that_stands_still_does_not_stop_the_chain(tmp_path: Path) -> None:
    world = make(tmp_path)
    for number in range(20):
        world.proof(b"message %d" % number)
    chain = world.chain()
    assert chain.tip == 20


def test_nobody_makes_the_calendar_promise_what_it_never_committed_to(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        make(tmp_path).timestamp(bytes(44))


@pytest.mark.parametrize("size", [0, 19, 65, 1000])
def test_a_digest_of_another_length_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(Malformed) as refusal:
        make(tmp_path).submit(bytes(size))
    assert refusal.value.reason == "encoding.range"


def test_secrets_are_the_owners_alone_and_the_root_key_is_nowhere(tmp_path: Path) -> None:
    world = make(tmp_path)
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
    for name in ("tsa.key", "calendar.key"):
        assert stat.S_IMODE((world.folder / name).stat().st_mode) == 0o600
    keys = [path.name for path in world.folder.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert keys == ["tsa.key"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("tsa.key", "storage.embedded"), ("tsa.pem", "storage.embedded"), ("calendar.db", "storage.database")],
)
def test_a_damaged_world_is_an_error_and_not_a_new_one(tmp_path: Path, name: str, reason: str) -> None:
    folder = make(tmp_path).folder
    for file in folder.glob("calendar.db-*"):
        file.unlink()
    (folder / name).write_bytes(b"damaged " * 1024)
    with pytest.raises(LocalFault) as refusal:
        make(tmp_path)
    assert refusal.value.reason == reason


def test_many_at_once_and_several_processes_worth_of_worlds_make_one_chain(tmp_path: Path) -> None:
    """Two openings of one folder share nothing in memory, as two processes would."""
    worlds = [make(tmp_path), make(tmp_path)]
    messages = [b"message %d" % number for number in range(24)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(worlds[number % 2].proof, message) for number, message in enumerate(messages)]
        proofs = [job.result() for job in jobs]
    policy, chain = time_policy(worlds[0]), make(tmp_path).chain()
    heights = [
        anchored_at([proof], message, policy, [chain])[1] for proof, message in zip(proofs, messages, strict=True)
    ]
    assert set(heights) == set(range(1, chain.tip + 1))


def test_two_that_make_one_world_at_once_end_up_in_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        worlds = [job.result() for job in [pool.submit(make, tmp_path) for _ in range(4)]]
    assert len({world.root_pem for world in worlds}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_what_a_kill_left_half_made_is_removed_with_its_key(tmp_path: Path) -> None:
    half = tmp_path / ".libreseed-staging-0123456789abcdef"
    half.mkdir()
    (half / "tsa.key").write_bytes(b"a key that nobody knows of")
    make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_an_address_that_promises_cannot_name_is_not_taken(tmp_path: Path) -> None:
    world = make(tmp_path)
    world.reachable_at("http://127.0.0.1:8440/embedded/")
    assert world.uri == "http://127.0.0.1:8440/embedded/"
    world.reachable_at("http://[::1]:8440/embedded")
    assert world.uri == "http://127.0.0.1:8440/embedded/"
    assert parse_ots(world.proof(MESSAGE), hashlib.sha256(MESSAGE).digest()).bitcoin
