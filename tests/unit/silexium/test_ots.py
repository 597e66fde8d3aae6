"""OpenTimestamps: a real mainnet proof, the reference library as oracle, and proofs that must not count."""

from __future__ import annotations

import hashlib
import random

import pytest
from opentimestamps.core.notary import BitcoinBlockHeaderAttestation
from opentimestamps.core.notary import PendingAttestation as LibraryPending
from opentimestamps.core.op import OpAppend, OpPrepend, OpSHA256
from opentimestamps.core.serialize import BytesDeserializationContext, BytesSerializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp, make_merkle_tree

from libreseed import limits
from libreseed.errors import ProofRejected
from libreseed.silexium.bitcoin_headers import MAINNET, REGTEST, HeaderChain, mine_header
from libreseed.silexium.ots import (
    _MAGIC,
    BitcoinAttestation,
    PendingAttestation,
    attested_block,
    parse_ots,
    write_ots,
)
from libreseed.silexium.ripemd160 import ripemd160
from tests.unit.silexium.test_bitcoin_headers import BLOCK_358391, NOW, PIN
from tests.vectors_support import FOLDER

HELLO = (FOLDER / "ots" / "hello-world.txt").read_bytes()
HELLO_OTS = (FOLDER / "ots" / "hello-world.txt.ots").read_bytes()
HELLO_DIGEST = hashlib.sha256(HELLO).digest()
DIGEST = hashlib.sha256(b"attestation").digest()
PENDING = PendingAttestation(DIGEST, "http://127.0.0.1:1")


def reason(data: bytes, digest: bytes = DIGEST) -> str:
    with pytest.raises(ProofRejected) as error:
        parse_ots(data, digest)
    return error.value.reason


def test_a_real_mainnet_proof_holds_against_the_real_header() -> None:
    proof = parse_ots(HELLO_OTS, HELLO_DIGEST)
    chain = HeaderChain.read(MAINNET, 358391, BLOCK_358391, now=NOW, pins=[PIN])
    assert attested_block(proof, [chain]) == (1432827678, 358391)
    assert proof.bitcoin[0].merkle_root.hex() == "007ee445d23ad061af4a36b809501fab1ac4f2d7e7a739817dd0cbb7ec661b8a"


def test_a_real_proof_needs_its_header() -> None:
    proof = parse_ots(HELLO_OTS, HELLO_DIGEST)
    for chains in ([], [HeaderChain.read(MAINNET, 0, MAINNET.genesis, now=NOW)]):
        with pytest.raises(ProofRejected) as error:
            attested_block(proof, chains)
        assert error.value.reason == "silexium.header-missing"


def test_a_proof_for_other_bytes_is_refused() -> None:
    assert reason(HELLO_OTS, DIGEST) == "silexium.ots-digest"


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 200, 4096])
def test_ripemd160_agrees_with_another_implementation(size: int) -> None:
    from Cryptodome.Hash import RIPEMD160

    data = random.Random(size).randbytes(size)
    assert ripemd160(data) == RIPEMD160.new(data).digest()


def test_ripemd160_gives_its_designers_digests() -> None:
    assert ripemd160(b"").hex() == "9c1185a5c5e9fc54612808977ee8f548b2258d31"
    assert ripemd160(b"message digest").hex() == "5d0689ef49d2fae572b881b123a85ffa21595f36"


def stamped(height: int = 1) -> tuple[bytes, HeaderChain]:
    """A complete proof of DIGEST and the regtest chain that confirms it."""
    chain = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=NOW)
    root = hashlib.sha256(DIGEST + b"nonce").digest()
    for n in range(1, height + 1):
        chain.extend(mine_header(chain, root if n == height else bytes(32), NOW + n - height), now=NOW)
    proof = write_ots(DIGEST, [("append", b"nonce"), ("sha256", b"")], BitcoinAttestation(root, height))
    return proof, chain


def test_a_complete_proof_gives_the_blocks_time() -> None:
    data, chain = stamped(300)
    assert attested_block(parse_ots(data, DIGEST), [chain]) == (NOW, 300)


def test_what_we_write_the_reference_library_reads() -> None:
    data, chain = stamped(300)
    detached = DetachedTimestampFile.deserialize(BytesDeserializationContext(data))
    assert detached.file_digest == DIGEST
    (attestation,) = list(detached.timestamp.all_attestations())
    assert attestation[1].height == 300
    assert attestation[0] == chain.data[300 * 80 + 36 : 300 * 80 + 68]


def library_proof(forks: int) -> bytes:
    """A proof as the reference library merges it: several branches, Bitcoin and pending attestations."""
    detached = DetachedTimestampFile(OpSHA256(), Timestamp(DIGEST))
    tips = [detached.timestamp.ops.add(OpAppend(bytes([n + 1]))).ops.add(OpSHA256()) for n in range(forks)]
    for n, tip in enumerate(tips):
        tip.attestations.add(LibraryPending(f"https://calendar{n}.example"))
    top = make_merkle_tree(tips).ops.add(OpPrepend(b"x")).ops.add(OpSHA256())
    top.attestations.add(BitcoinBlockHeaderAttestation(7))
    context = BytesSerializationContext()
    detached.serialize(context)
    return bytes(context.getbytes())


@pytest.mark.parametrize("forks", [1, 2, 3, 8])
def test_we_read_what_the_reference_library_merges(forks: int) -> None:
    proof = parse_ots(library_proof(forks), DIGEST)
    assert {pending.uri for pending in proof.pending} == {f"https://calendar{n}.example" for n in range(forks)}
    assert {claim.height for claim in proof.bitcoin} == {7}
    assert len({claim.merkle_root for claim in proof.bitcoin}) == 1


def test_no_mutation_makes_another_block_or_another_error() -> None:
    """Where the reader accepts a changed proof, the reference library reads the same claims."""
    randomness = random.Random(11)
    good = library_proof(3)
    accepted = 0
    for _ in range(3000):
        data = bytearray(good)
        at = randomness.randrange(len(_MAGIC), len(data))
        data[at : at + randomness.randint(0, 2)] = randomness.randbytes(randomness.randint(0, 2))
        try:
            proof = parse_ots(bytes(data), DIGEST)
        except ProofRejected:
            continue
        accepted += 1
        detached = DetachedTimestampFile.deserialize(BytesDeserializationContext(bytes(data)))
        expected = {
            (message, item.height)
            for message, item in detached.timestamp.all_attestations()
            if isinstance(item, BitcoinBlockHeaderAttestation)
        }
        assert {(claim.merkle_root, claim.height) for claim in proof.bitcoin} == expected
    assert accepted > 20


def test_a_pending_proof_is_no_proof() -> None:
    data = write_ots(DIGEST, [], PENDING)
    proof = parse_ots(data, DIGEST)
    assert proof.pending == (PENDING,)
    with pytest.raises(ProofRejected) as error:
        attested_block(proof, [stamped()[1]])
    assert error.value.reason == "silexium.ots-pending"


def test_a_block_with_another_root_does_not_confirm() -> None:
    _, chain = stamped()
    root = hashlib.sha256(DIGEST).digest()
    data = write_ots(DIGEST, [("sha256", b"")], BitcoinAttestation(root, 1))
    with pytest.raises(ProofRejected) as error:
        attested_block(parse_ots(data, DIGEST), [chain])
    assert error.value.reason == "silexium.header-root"


def test_attestations_of_other_chains_count_for_nothing() -> None:
    litecoin = bytes.fromhex("06869a0d73d71b45")
    data = _MAGIC + b"\x01\x08" + DIGEST + b"\x00" + litecoin + b"\x01\x05"
    proof = parse_ots(data, DIGEST)
    assert (proof.bitcoin, proof.pending, [item.tag for item in proof.other]) == ((), (), [litecoin])
    with pytest.raises(ProofRejected) as error:
        attested_block(proof, [stamped()[1]])
    assert error.value.reason == "silexium.ots-pending"


_HEAD = _MAGIC + b"\x01\x08" + DIGEST
_END = b"\x00" + bytes.fromhex("0588960d73d71901") + b"\x01\x01"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        _MAGIC,
        _HEAD,
        _HEAD[:-1],
        _MAGIC + b"\x02\x08" + DIGEST + _END,
        _MAGIC + b"\x01\x02" + DIGEST[:20] + _END,  # sha1 of the file
        _MAGIC + b"\x01\x03" + DIGEST[:20] + _END,  # ripemd160 of the file
        _HEAD + b"\x02" + _END,  # sha1
        _HEAD + b"\x67" + _END,  # keccak256
        _HEAD + b"\xf2" + _END,  # reverse
        _HEAD + b"\xf3" + _END,  # hexlify
        _HEAD + b"\xf0\x00" + _END,  # append nothing
        _HEAD + b"\xf0\x81\x00x" + _END,  # a length that is not in its shortest form
        _HEAD + b"\xf0\x81\x20" + bytes(4097) + _END,
        _HEAD + b"\xf0\x80\x20" + bytes(4096) + _END,  # longer than a message may be
        _HEAD + b"\xf0\x80\x20" + bytes(4096) + b"\x08" + _END,  # the same, hashed away afterwards
        _HEAD + b"\x00" + bytes.fromhex("0588960d73d71901") + b"\x02\x01\x00",  # behind the height
        _HEAD + b"\x00" + bytes.fromhex("0588960d73d71901") + b"\x05\xff\xff\xff\xff\x7f",
        _HEAD + b"\xf0\x01x" + _END,  # a root of 33 bytes
        _HEAD + b"\x00" + bytes.fromhex("83dfe30d2ef90c8e") + b"\x05\x04a b?",
        _HEAD + _END + b"\x00",
        _HEAD + b"\xff" + _END,
        _HEAD + b"\x08" * 600 + _END,
        _HEAD + b"\xff\x08" * 300 + _END,
        _HEAD + b"\xf0" + b"\xff" * 1000,
        _HEAD + _END + bytes(limits.OTS_BYTES),
    ],
    ids=lambda data: f"{len(data)}-{data[-24:].hex()}",
)
def test_a_malformed_proof_is_refused(data: bytes) -> None:
    assert reason(data) == "silexium.ots"


def test_a_huge_proof_is_refused_unread() -> None:
    with pytest.raises(ProofRejected, match="at most"):
        parse_ots(_HEAD + _END + bytes(limits.OTS_BYTES), DIGEST)


def test_the_genesis_block_has_a_height() -> None:
    data = write_ots(DIGEST, [], BitcoinAttestation(DIGEST, 0))
    assert parse_ots(data, DIGEST).bitcoin == (BitcoinAttestation(DIGEST, 0),)


def test_a_writer_that_is_asked_for_a_false_proof_refuses() -> None:
    with pytest.raises(ProofRejected):
        write_ots(DIGEST, [("append", b"x")], BitcoinAttestation(bytes(32), 1))
