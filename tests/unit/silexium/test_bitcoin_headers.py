"""Block headers: the real ones, the rules one by one, and chains that somebody made up to backdate a stamp."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium import bitcoin_headers
from libreseed.silexium.bitcoin_headers import HEADER_BYTES, MAINNET, REGTEST, HeaderChain, Network, mine_header

# Height 358391, from public fields; its proof of work is what shows that it is right.
BLOCK_358391 = bytes.fromhex(
    "02000000b96394585a281b7e5f438fd1c9ed492645a1fd61cb3802040000000000000000"
    "007ee445d23ad061af4a36b809501fab1ac4f2d7e7a739817dd0cbb7ec661b8a1e376755f58616186272def6"
)
HASH_358391 = "000000000000000003e892881a8cdcdc117c06d444057c98b6f04a9ee75a2319"
PIN = (358391, bytes.fromhex(HASH_358391)[::-1])
NOW = 1_800_000_000
# Mainnet's first block behind the genesis block.
BLOCK_1 = bytes.fromhex(
    "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"
    "982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299"
)


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def regtest(length: int, network: Network = REGTEST) -> HeaderChain:
    chain = HeaderChain.read(network, 0, network.genesis, now=NOW)
    for height in range(1, length):
        chain.extend(mine_header(chain, bytes([height % 256]) * 32, 1296688602 + 600 * height), now=NOW)
    return chain


def refused(call: object, *arguments: object, **options: object) -> str:
    with pytest.raises(ProofRejected) as error:
        call(*arguments, **options)  # type: ignore[operator]  # a method of the chain
    return error.value.reason


def test_the_genesis_blocks_are_the_real_ones() -> None:
    assert sha256d(MAINNET.genesis)[::-1].hex() == "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
    assert sha256d(REGTEST.genesis)[::-1].hex() == "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"


def test_pinned_hashes_are_of_ever_harder_blocks() -> None:
    """A slip of a digit in front would show; one behind could only be found with the headers themselves."""
    heights = [height for height, _ in MAINNET.pins]
    zeros = [256 - int(text, 16).bit_length() for _, text in MAINNET.pins]
    assert heights == sorted(set(heights))
    assert all(len(text) == 64 for _, text in MAINNET.pins)
    assert zeros[0] >= 44 and min(zeros[3:]) >= 76


def test_mainnet_begins_with_its_first_blocks() -> None:
    chain = HeaderChain.read(MAINNET, 0, MAINNET.genesis + BLOCK_1, now=NOW)
    assert (chain.tip, len(chain), chain.data) == (1, 2, MAINNET.genesis + BLOCK_1)
    assert chain.work == 2 * (2**32 + 2**16 + 1)


def test_a_real_block_under_a_pinned_hash_attests_its_root() -> None:
    chain = HeaderChain.read(MAINNET, 358391, BLOCK_358391, now=NOW, pins=[PIN])
    root = bytes.fromhex("007ee445d23ad061af4a36b809501fab1ac4f2d7e7a739817dd0cbb7ec661b8a")
    assert chain.attested_time(358391, root) == 1432827678
    assert refused(chain.attested_time, 358391, bytes(32)) == "silexium.header-root"
    assert refused(chain.attested_time, 358390, root) == "silexium.header-missing"


def test_a_header_that_nothing_pins_proves_nothing() -> None:
    assert refused(HeaderChain.read, MAINNET, 358391, BLOCK_358391, now=NOW) == "silexium.header-pin"


def test_another_header_at_a_pinned_height_is_refused() -> None:
    wrong = (358391, bytes(32))
    assert refused(HeaderChain.read, MAINNET, 358391, BLOCK_358391, now=NOW, pins=[wrong]) == "silexium.header-pin"
    assert refused(HeaderChain.read, REGTEST, 0, MAINNET.genesis, now=NOW) == "silexium.header-pin"


def test_headers_before_a_pinned_one_are_proven_by_their_links() -> None:
    chain = regtest(20)
    tail = chain.data[5 * HEADER_BYTES :]
    pin = (12, sha256d(chain.data[12 * HEADER_BYTES : 13 * HEADER_BYTES]))
    late = HeaderChain.read(REGTEST, 5, tail, now=NOW, pins=[pin])
    assert late.attested_time(5, bytes([5]) * 32) == chain.attested_time(5, bytes([5]) * 32)
    other = regtest(20, replace(REGTEST, genesis=REGTEST.genesis)).data
    assert other == chain.data
    forged = mine_header(chain, bytes(32), 1296688602)
    assert refused(HeaderChain.read, REGTEST, 5, forged + tail[80:], now=NOW, pins=[pin]) == "silexium.header-link"


def test_a_header_without_its_work_is_refused() -> None:
    for at in (0, 40, 76, 79):
        wrong = bytearray(BLOCK_1)
        wrong[at] ^= 1
        reason = refused(HeaderChain.read, MAINNET, 0, MAINNET.genesis + bytes(wrong), now=NOW)
        assert reason == "silexium.header-work"


@pytest.mark.parametrize("bits", [0, 0x1D800001, 0x20FFFFFF, 0xFF000001, 0x217FFFFF])
def test_an_easy_or_odd_target_is_refused(bits: int) -> None:
    chain = regtest(2)
    raw = bytearray(mine_header(chain, bytes(32), NOW))
    raw[72:76] = bits.to_bytes(4, "little")
    assert refused(chain.extend, bytes(raw), now=NOW) == "silexium.header-work"


def test_a_block_that_is_too_easy_for_the_network_is_refused() -> None:
    chain = HeaderChain.read(MAINNET, 0, MAINNET.genesis, now=NOW)
    assert refused(chain.extend, mined(chain, 1231469665, 0x207FFFFF), now=NOW) == "silexium.header-work"


def test_a_run_of_too_many_headers_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BITCOIN_HEADERS", 1)
    assert refused(HeaderChain.read, MAINNET, 0, MAINNET.genesis + BLOCK_1, now=NOW) == "silexium.header"


def test_regtest_never_changes_its_difficulty() -> None:
    chain = regtest(20, replace(REGTEST, interval=4, timespan=4))
    assert chain.tip == 19


def test_a_refused_run_leaves_the_chain_as_it_was() -> None:
    chain = regtest(3)
    before = chain.data
    good = mine_header(chain, bytes(32), NOW)
    assert refused(chain.extend, good + bytes(80), now=NOW) == "silexium.header-link"
    assert (chain.data, chain.tip) == (before, 2)
    chain.extend(good, now=NOW)
    assert chain.tip == 3


@pytest.mark.parametrize("data", [bytes(79), bytes(81), b"x"])
def test_a_part_of_a_header_is_refused(data: bytes) -> None:
    assert refused(regtest(1).extend, data, now=NOW) == "silexium.header"


def test_a_header_from_the_future_is_refused() -> None:
    chain = regtest(2)
    assert refused(chain.extend, mine_header(chain, bytes(32), NOW + 7201), now=NOW) == "silexium.header-time"
    chain.extend(mine_header(chain, bytes(32), NOW + 7200), now=NOW)


def test_time_may_not_go_back_behind_the_median() -> None:
    chain = regtest(12)
    median = 1296688602 + 600 * 6
    assert refused(chain.extend, mine_header(chain, bytes(32), median), now=NOW) == "silexium.header-time"
    chain.extend(mine_header(chain, bytes(32), median + 1), now=NOW)


def test_a_fresh_block_waits_for_its_confirmations() -> None:
    chain = regtest(10, replace(REGTEST, confirmations=6))
    assert refused(chain.attested_time, 5, bytes([5]) * 32) == "silexium.header-confirmations"
    chain.attested_time(4, bytes([4]) * 32)


# (time of a period's first block, of its last, old nBits, new nBits): Bitcoin Core's pow_tests, then the real chain at
# heights 824544, 826560, 828576 and 830592.
@pytest.mark.parametrize(
    ("first", "last", "old", "new"),
    [
        (1261130161, 1262152739, 0x1D00FFFF, 0x1D00D86A),
        (1231006505, 1233061996, 0x1D00FFFF, 0x1D00FFFF),
        (1279008237, 1279297671, 0x1C05A3F4, 0x1C0168FD),
        (1263163443, 1269211443, 0x1C387F6F, 0x1D00E1FD),
        (1703311464, 1704501378, 0x1703E8B3, 0x1703D869),
        (1704501692, 1705760375, 0x1703D869, 0x1704005A),
        (1705761155, 1706888111, 0x1704005A, 0x1703BA5D),
        (1706888526, 1708006020, 0x1703BA5D, 0x170371B1),
    ],
)
def test_the_retarget_rule_is_bitcoin_cores(first: int, last: int, old: int, new: int) -> None:
    chain = HeaderChain(MAINNET)
    chain._buffer = bytearray(bytes(68) + first.to_bytes(4, "little") + bytes(8)) * 2016
    previous = bitcoin_headers._Header(bytes(32), bytes(32), bytes(32), last, old)
    assert chain._required_bits(2016, previous) == new


EASY = replace(REGTEST, retargets=True, interval=16, timespan=16 * 600, confirmations=3)


def mined(chain: HeaderChain, time: int, bits: int) -> bytes:
    stem = bytes(4) + sha256d(chain.data[-80:]) + bytes(32) + time.to_bytes(4, "little") + bits.to_bytes(4, "little")
    nonce = 0
    while int.from_bytes(sha256d(stem + nonce.to_bytes(4, "little")), "little") > bitcoin_headers._target(bits):
        nonce += 1
    return stem + nonce.to_bytes(4, "little")


def test_difficulty_follows_the_rule_and_nothing_else() -> None:
    chain = HeaderChain.read(EASY, 0, EASY.genesis, now=NOW)
    start, bits = 1296688602, 0x207FFFFF
    for height in range(1, 16):
        chain.extend(mined(chain, start + 60 * height, bits), now=NOW)
    easy = mined(chain, start + 960, bits)
    assert refused(chain.extend, easy, now=NOW) == "silexium.header-bits"
    harder = bitcoin_headers._compact(bitcoin_headers._target(bits) // 4)
    chain.extend(mined(chain, start + 960, harder), now=NOW)
    assert refused(chain.extend, mined(chain, start + 1020, bits), now=NOW) == "silexium.header-bits"
    assert chain.work > 16 * 2


def test_a_chain_without_the_start_of_its_period_cannot_be_judged() -> None:
    chain = HeaderChain.read(EASY, 0, EASY.genesis, now=NOW)
    for height in range(1, 16):
        chain.extend(mined(chain, 1296688602 + 600 * height, 0x207FFFFF), now=NOW)
    tail = chain.data[8 * 80 :]
    late = HeaderChain.read(EASY, 8, tail, now=NOW, pins=[(8, sha256d(tail[:80]))])
    next_header = mined(chain, 1296688602 + 9600, 0x207FFFFF)
    with pytest.raises(ProofRejected, match="the headers from 0 are needed"):
        late.extend(next_header, now=NOW)
    # Under a pinned header the links say it all.
    HeaderChain.read(EASY, 8, tail + next_header, now=NOW, pins=[(16, sha256d(next_header))])


@pytest.mark.parametrize("height", [-1, 2**31])
def test_no_chain_starts_outside_the_heights(height: int) -> None:
    assert refused(HeaderChain, MAINNET, height) == "silexium.header"
