"""The store of block headers: only verified ones, whatever a source feeds, a crash leaves or a disk loses."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest

from libreseed.adapters.silexium.stamps import header_store
from libreseed.adapters.silexium.stamps.header_store import HeaderStore
from libreseed.errors import LocalFault, ProofRejected
from libreseed.silexium.bitcoin_headers import HEADER_BYTES, MAINNET, REGTEST, HeaderChain, Network
from libreseed.silexium.ots import attested_block, parse_ots
from tests.unit.silexium.test_bitcoin_headers import BLOCK_358391, NOW, PIN
from tests.vectors_support import FOLDER

START, GAP = 1296688602, 600
# Difficulty is computed anew every 16 blocks and comes out the same when blocks come every 600 seconds.
RETARGETING = replace(REGTEST, name="scaled", retargets=True, interval=16, timespan=15 * GAP, confirmations=3)


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def mine(previous: bytes, time: int, root: bytes = bytes(32)) -> bytes:
    stem = (4).to_bytes(4, "little") + sha256d(previous) + root + time.to_bytes(4, "little") + previous[72:76]
    nonce = 0
    while sha256d(stem + nonce.to_bytes(4, "little"))[31] > 0x7F:
        nonce += 1
    return stem + nonce.to_bytes(4, "little")


def mined(length: int, *, on: bytes = REGTEST.genesis, salt: int = 0) -> bytes:
    """``on`` and ``length`` more headers; another ``salt`` makes another branch."""
    data = bytearray(on)
    for _ in range(length):
        previous = bytes(data[-HEADER_BYTES:])
        height = len(data) // HEADER_BYTES
        root = hashlib.sha256(b"%d %d" % (height, salt)).digest()
        data += mine(previous, START + GAP * height, root)
    return bytes(data)


def root_of(data: bytes, height: int) -> bytes:
    return data[height * HEADER_BYTES + 36 : height * HEADER_BYTES + 68]


def add(store: HeaderStore, data: bytes, **options: int) -> int:
    return store.add(io.BytesIO(data), now=NOW, **options)


def refused(store: HeaderStore, data: bytes, reason: str, **options: int) -> None:
    """``data`` is refused for ``reason``, and what was at hand is untouched, also on the disk."""
    before = store.record
    with pytest.raises(ProofRejected) as refusal:
        add(store, data, **options)
    assert refusal.value.reason == reason
    assert store.record == before == HeaderStore(store.folder, store.network).record


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_store, "_BATCH", 32)


def test_headers_are_kept_and_attest_after_a_restart(tmp_path: Path) -> None:
    data = mined(20)
    assert add(HeaderStore(tmp_path, REGTEST), data) == 21
    store = HeaderStore(tmp_path, REGTEST)
    assert (store.record.tip, store.record.count) == (20, 21)
    assert store.record.work == HeaderChain.read(REGTEST, 0, data, now=NOW).work
    assert store.attested_time(7, root_of(data, 7)) == START + GAP * 7
    assert (tmp_path / "headers-regtest.bin").read_bytes() == data


@pytest.mark.parametrize("network", [REGTEST, RETARGETING])
def test_batch_by_batch_gives_what_the_whole_chain_gives(tmp_path: Path, network: Network, small_batches: None) -> None:
    data = mined(150)
    store = HeaderStore(tmp_path, network)
    for start, end in ((0, 40), (40, 41), (30, 90), (0, 151)):  # overlapping runs add what is new
        add(store, data[start * HEADER_BYTES : end * HEADER_BYTES])
    assert (tmp_path / f"headers-{network.name}.bin").read_bytes() == data
    assert store.record.work == HeaderChain.read(network, 0, data, now=NOW).work
    assert add(store, data) == 0


def test_the_rules_are_kept_across_batches(tmp_path: Path, small_batches: None) -> None:
    store = HeaderStore(tmp_path, RETARGETING)
    data = mined(70)
    add(store, data)
    last = data[-HEADER_BYTES:]
    early = mine(last, START + GAP * 60)  # not after the median of the eleven before
    refused(store, early, "silexium.header-time")
    ahead = mine(last, NOW + 7201)
    refused(store, ahead, "silexium.header-time")


def test_a_wrong_difficulty_at_a_retarget_is_refused(tmp_path: Path, small_batches: None) -> None:
    store = HeaderStore(tmp_path, RETARGETING)
    data = mined(79)
    add(store, data)
    header = bytearray(mine(data[-HEADER_BYTES:], START + GAP * 80))
    for nonce in range(1000):
        header[72:76] = (0x207FFFFE).to_bytes(4, "little")
        header[76:80] = nonce.to_bytes(4, "little")
        if int.from_bytes(sha256d(bytes(header)), "little") <= 0x7FFFFE << 232:
            break
    refused(store, bytes(header), "silexium.header-bits")


def test_confirmations_are_counted_to_the_stores_end(tmp_path: Path) -> None:
    data = mined(20)
    store = HeaderStore(tmp_path, RETARGETING)
    add(store, data)
    assert store.attested_time(18, root_of(data, 18)) == START + GAP * 18
    for height, root, reason in (
        (19, root_of(data, 19), "silexium.header-confirmations"),
        (18, bytes(32), "silexium.header-root"),
        (21, bytes(32), "silexium.header-missing"),
    ):
        with pytest.raises(ProofRejected) as refusal:
            store.attested_time(height, root)
        assert refusal.value.reason == reason


def test_headers_that_link_to_nothing_are_refused(tmp_path: Path) -> None:
    store = HeaderStore(tmp_path, REGTEST)
    add(store, mined(20))
    refused(store, mined(30, salt=1)[25 * HEADER_BYTES :], "silexium.header-link")


@pytest.mark.parametrize("cut", [1, 79, 81])
def test_a_run_that_ends_within_a_header_is_refused(tmp_path: Path, cut: int) -> None:
    refused(HeaderStore(tmp_path, REGTEST), mined(20)[:-cut], "silexium.header")


def test_another_genesis_block_is_refused(tmp_path: Path) -> None:
    refused(HeaderStore(tmp_path, MAINNET), REGTEST.genesis, "silexium.header-pin")


def test_a_weaker_branch_is_refused_and_a_stronger_one_replaces_ours(tmp_path: Path) -> None:
    data = mined(20)
    fork = data[: 11 * HEADER_BYTES]
    store = HeaderStore(tmp_path, REGTEST)
    add(store, data)
    for length in (5, 10):
        refused(store, mined(length, on=fork, salt=1), "silexium.header-branch")
    longer = mined(11, on=fork, salt=1)
    assert add(store, longer) == 11
    assert (tmp_path / "headers-regtest.bin").read_bytes() == longer
    assert HeaderStore(tmp_path, REGTEST).record.tip == 21
    with pytest.raises(ProofRejected) as refusal:
        store.attested_time(15, root_of(data, 15))
    assert refusal.value.reason == "silexium.header-root"


def test_a_branch_is_weighed_whole_wherever_a_batch_ends(tmp_path: Path, small_batches: None) -> None:
    data = mined(40)
    store = HeaderStore(tmp_path, REGTEST)
    add(store, data)
    stronger = mined(15, on=data[: 31 * HEADER_BYTES], salt=1)  # its first new header is the last one of a batch
    assert add(store, stronger) == 15
    assert store.record.tip == 45


def test_no_branch_leaves_the_chain_below_a_pinned_header(tmp_path: Path) -> None:
    data = mined(20)
    pin = (12, sha256d(data[12 * HEADER_BYTES : 13 * HEADER_BYTES]))
    store = HeaderStore(tmp_path, REGTEST, [pin])
    add(store, data)
    assert store.settled == 12
    with pytest.raises(ProofRejected) as refusal:
        add(store, mined(50, on=data[: 11 * HEADER_BYTES], salt=1))
    assert refusal.value.reason == "silexium.header-pin"
    assert (tmp_path / "headers-regtest.bin").read_bytes() == data


def test_a_pin_that_comes_later_exposes_the_wrong_chain_at_hand(tmp_path: Path) -> None:
    add(HeaderStore(tmp_path, REGTEST), mined(20, salt=1))
    right = mined(20)
    pin = (12, sha256d(right[12 * HEADER_BYTES : 13 * HEADER_BYTES]))
    with pytest.raises(ProofRejected) as refusal:
        HeaderStore(tmp_path, REGTEST, [pin])
    assert refusal.value.reason == "silexium.header-pin"


def test_what_a_crash_left_behind_the_record_is_overwritten(tmp_path: Path) -> None:
    data = mined(20)
    add(HeaderStore(tmp_path, REGTEST), data[: 11 * HEADER_BYTES])
    with (tmp_path / "headers-regtest.bin").open("ab") as file:
        file.write(b"half a header that was never counted")
    store = HeaderStore(tmp_path, REGTEST)
    assert store.record.tip == 10
    assert add(store, data) == 10
    assert (tmp_path / "headers-regtest.bin").read_bytes() == data


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "record", "record-number"])
def test_a_damaged_store_is_an_error_and_not_an_empty_one(tmp_path: Path, damage: str) -> None:
    add(HeaderStore(tmp_path, REGTEST), mined(20))
    data, record = tmp_path / "headers-regtest.bin", tmp_path / "headers-regtest.json"
    if damage == "flip":
        content = bytearray(data.read_bytes())
        content[100] ^= 1
        data.write_bytes(content)
    elif damage == "cut":
        data.write_bytes(data.read_bytes()[:-1])
    elif damage == "remove":
        data.unlink()
    elif damage == "record":
        record.write_bytes(b"{}")
    else:
        record.write_bytes(record.read_bytes().replace(b'"count": 21', b'"count": 20'))
    with pytest.raises(LocalFault) as refusal:
        HeaderStore(tmp_path, REGTEST)
    assert refusal.value.reason == "storage.headers"


def test_another_process_sees_what_was_added(tmp_path: Path) -> None:
    data = mined(20)
    reader, writer = HeaderStore(tmp_path, REGTEST), HeaderStore(tmp_path, REGTEST)
    add(writer, data[: 11 * HEADER_BYTES])
    assert reader.attested_time(10, root_of(data, 10)) == START + GAP * 10
    add(writer, data)
    assert reader.attested_time(20, root_of(data, 20)) == START + GAP * 20


def test_a_store_may_begin_shortly_before_a_pinned_header_and_nowhere_else(tmp_path: Path) -> None:
    data = mined(30)
    pin = (20, sha256d(data[20 * HEADER_BYTES : 21 * HEADER_BYTES]))
    store = HeaderStore(tmp_path, REGTEST, [pin])
    add(store, data[16 * HEADER_BYTES :], base=16)
    assert (store.record.base, store.record.tip) == (16, 30)
    assert store.attested_time(17, root_of(data, 17)) == START + GAP * 17
    refused(HeaderStore(tmp_path / "nowhere", REGTEST), data[16 * HEADER_BYTES :], "silexium.header-pin", base=16)


def test_a_real_proof_is_confirmed_by_the_real_header_in_the_store(tmp_path: Path) -> None:
    store = HeaderStore(tmp_path, MAINNET, [PIN])
    add(store, BLOCK_358391, base=358391)
    message = (FOLDER / "ots" / "hello-world.txt").read_bytes()
    proof = parse_ots((FOLDER / "ots" / "hello-world.txt.ots").read_bytes(), hashlib.sha256(message).digest())
    assert attested_block(proof, [store]) == (1432827678, 358391)
