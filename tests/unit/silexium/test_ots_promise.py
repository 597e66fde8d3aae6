"""From a calendar's promise to one linear proof: a real calendar's answer, and what is dropped on the way."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pytest

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.bitcoin_headers import REGTEST, HeaderChain, mine_header
from libreseed.silexium.embedded_calendar import aggregate, anchor
from libreseed.silexium.ots import (
    BitcoinAttestation,
    PendingAttestation,
    parse_ots,
    parse_timestamp,
    write_timestamp,
)
from libreseed.silexium.ots_promise import confirmed, join, open_promise, promised, submission

DIGEST, NONCE = hashlib.sha256(b"an attestation").digest(), bytes(16)
SENT = submission(DIGEST, NONCE)
URI = "https://calendar.example"
# What alice.btc.calendar.opentimestamps.org promised in 2016 (the reference client's example incomplete.txt.ots).
REAL = bytes.fromhex(
    "004f70656e54696d657374616d7073000050726f6f6600bf89e2e884e89294010805c4f616a8e5310d19d938cfd769864d7f4ccdc2ca8b"
    "479b10af83564b097af9f010e754bf93806a7ebaa680ef7bd0114bf408f010b573e8850cfd9e63d1f043fbb6fc250e08f10457cfa5c4f0"
    "086fb1ac8d4e4eb0e70083dfe30d2ef90c8e2e2d68747470733a2f2f616c6963652e6274632e63616c656e6461722e6f70656e74696d65"
    "7374616d70732e6f7267"
)


@dataclass
class Mined:
    """A regtest chain whose blocks have the roots that are asked for."""

    chain: HeaderChain

    @classmethod
    def over(cls, *roots: bytes) -> Mined:
        chain = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=2**32)
        for number, root in enumerate(roots, 1):
            chain.extend(mine_header(chain, root, 1296688602 + 600 * number), now=2**32)
        return cls(chain)


def forked(*branches: bytes) -> bytes:
    """Branches of one message, as the format joins them."""
    return b"".join(b"\xff" + branch for branch in branches[:-1]) + branches[-1]


def promise_of(commitment: bytes = SENT) -> bytes:
    return write_timestamp(SENT, [], PendingAttestation(commitment, URI))


def test_a_real_calendars_answer_gives_the_file_that_the_reference_client_made_of_it() -> None:
    digest, nonce = REAL[33:65], REAL[67:83]
    assert REAL[65:67] == b"\xf0\x10" and REAL[83:84] == b"\x08"
    answer = REAL[84:]
    made = open_promise(digest, nonce, answer, lambda uri: uri == "https://alice.btc.calendar.opentimestamps.org")
    assert made == REAL
    assert len(promised(made, digest).commitment) == 4 + 32 + 8


def test_a_promise_that_is_kept_at_once_is_a_proof() -> None:
    answer = forked(promise_of(), write_timestamp(SENT, [("sha256", b"")], BitcoinAttestation(_sha(SENT), 7)))
    proof = open_promise(DIGEST, NONCE, answer, lambda uri: True)
    assert [block.height for block in parse_ots(proof, DIGEST).bitcoin] == [7]
    assert not parse_ots(proof, DIGEST).pending


def test_of_several_promises_the_one_that_can_be_redeemed_is_taken() -> None:
    elsewhere = write_timestamp(SENT, [("sha256", b"")], PendingAttestation(_sha(SENT), "https://elsewhere.example"))
    proof = open_promise(DIGEST, NONCE, forked(elsewhere, promise_of()), lambda uri: uri == URI)
    assert promised(proof, DIGEST) == PendingAttestation(SENT, URI)
    assert len(parse_ots(proof, DIGEST).paths) == 1
    with pytest.raises(ProofRejected) as refusal:
        open_promise(DIGEST, NONCE, elsewhere, lambda uri: uri == URI)
    assert refusal.value.reason == "silexium.calendar"
    assert refusal.value.evidence["uris"] == ["https://elsewhere.example"]


def test_the_earliest_block_that_the_headers_confirm_is_the_proof() -> None:
    one, two = _sha(SENT), _sha(_sha(SENT))
    hashed, twice = [("sha256", b"")], [("sha256", b""), ("sha256", b"")]
    answer = forked(
        write_timestamp(SENT, twice, BitcoinAttestation(two, 2)),
        write_timestamp(SENT, hashed, BitcoinAttestation(one, 1)),
        promise_of(),
    )
    proofs = join(open_promise(DIGEST, NONCE, promise_of(), lambda uri: True), DIGEST, answer)
    assert [parse_ots(proof, DIGEST).bitcoin[0].height for proof in proofs] == [1, 2]
    orphaned = Mined.over(bytes(32), two).chain
    with pytest.raises(ProofRejected) as refusal:
        confirmed(proofs[0], DIGEST, orphaned)
    assert refusal.value.reason == "silexium.header-root"
    assert confirmed(proofs[1], DIGEST, orphaned)[1] == 2


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_a_round_of_several_digests_shares_one_commitment(count: int) -> None:
    digests = [hashlib.sha256(b"%d" % number).digest() for number in range(count)]
    nonces = [bytes([number]) * 16 for number in range(count)]
    taken = aggregate(digests, nonces, uri=URI, key=bytes(32), now=1_790_000_000)
    for digest, answer in zip(digests, taken.answers, strict=True):
        (path,) = parse_timestamp(answer, digest)
        assert path.end == PendingAttestation(taken.commitment, URI)
    chain = Mined.over().chain
    mined = anchor(digests, chain, now=1296688602 + 600)
    chain.extend(mined.header, now=2**32)
    for digest, rest in mined.timestamps:
        (path,) = parse_timestamp(rest, digest)
        assert isinstance(path.end, BitcoinAttestation)
        assert chain.attested_time(1, path.end.merkle_root) == 1296688602 + 600


def test_no_more_blocks_than_a_bundle_may_hold_are_tried() -> None:
    blocks = [write_timestamp(SENT, [], BitcoinAttestation(SENT, height)) for height in range(100, 0, -1)]
    proofs = join(open_promise(DIGEST, NONCE, promise_of(), lambda uri: True), DIGEST, forked(*blocks))
    assert len(proofs) == limits.STAMPS_PER_KIND
    assert parse_ots(proofs[0], DIGEST).bitcoin[0].height == 1


def test_a_proof_that_grows_beyond_its_bound_is_refused() -> None:
    promise = open_promise(DIGEST, NONCE, promise_of(), lambda uri: True)
    steps = [("append", bytes(4000)), ("sha256", b"")] * 4
    message = SENT
    for name, argument in steps:
        message = message + argument if name == "append" else _sha(message)
    answer = write_timestamp(SENT, steps, BitcoinAttestation(message, 1))
    assert len(answer) <= limits.OTS_BYTES
    join(promise, DIGEST, answer)
    long = write_timestamp(SENT, [*steps, ("append", bytes(310)), ("sha256", b"")], _end(message + bytes(310)))
    assert len(long) <= limits.OTS_BYTES
    with pytest.raises(ProofRejected) as refusal:
        join(promise, DIGEST, long)
    assert refusal.value.reason == "silexium.ots"


def _end(message: bytes) -> BitcoinAttestation:
    return BitcoinAttestation(_sha(message), 1)


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
