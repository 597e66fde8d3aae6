"""The log's tree and its proofs: the vectors, RFC 6962's own figures, a naive model, and what a forger would send."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed.errors import ProofRejected
from libreseed.silexium.log_proofs import (
    consistency_proof,
    inclusion_proof,
    prefix_proof,
    prefix_root,
    verify_consistency,
    verify_inclusion,
)
from libreseed.silexium.merkle import BLAKE3_TREE, SHA256_TREE, CompactRange, ReadNode, TreeHash, tree_root
from tests.vectors_support import Row, dispatch, rows


def entry(index: int) -> bytes:
    return hashlib.shake_256(f"public/log/{index}".encode()).digest(32)


def nodes_of(entries: list[bytes], tree: TreeHash = BLAKE3_TREE) -> ReadNode:
    nodes: dict[tuple[int, int], bytes] = {}
    CompactRange(tree).extend(entries, lambda level, index, digest: nodes.__setitem__((level, index), digest))
    return lambda level, index: nodes[level, index]


def _root(row: Row) -> None:
    assert tree_root(map(entry, range(row["size"]))).hex() == row["root"]


def _leaf(row: Row) -> None:
    assert BLAKE3_TREE.leaf(bytes.fromhex(row["entry"])).hex() == row["leaf"]


def _hashes(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def _inclusion(row: Row) -> None:
    def check() -> None:
        proof, root = _hashes(row["proof"]), bytes.fromhex(row["root"])
        verify_inclusion(row["index"], row["size"], bytes.fromhex(row["entry"]), proof, root)

    if row["expect"] == "accept":
        check()
        read = nodes_of([entry(index) for index in range(row["size"])])
        assert inclusion_proof(read, row["index"], row["size"]) == _hashes(row["proof"])
    else:
        with pytest.raises(ProofRejected) as error:
            check()
        assert error.value.reason == "silexium.inclusion"


def _consistency(row: Row) -> None:
    def check() -> None:
        roots = bytes.fromhex(row["old_root"]), bytes.fromhex(row["new_root"])
        verify_consistency(row["old"], row["new"], *roots, _hashes(row["proof"]))

    if row["expect"] == "accept":
        check()
        read = nodes_of([entry(index) for index in range(row["new"])])
        assert consistency_proof(read, row["old"], row["new"]) == _hashes(row["proof"])
    else:
        with pytest.raises(ProofRejected) as error:
            check()
        assert error.value.reason == "silexium.consistency"


@pytest.mark.parametrize("row", rows("merkle.json"))
def test_merkle_vector(row: Row) -> None:
    dispatch(row, {"root": _root, "leaf": _leaf, "inclusion": _inclusion, "consistency": _consistency})


# The leaves, roots and paths of the Certificate Transparency reference implementation (SHA-256).
_CT_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
_CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_sha256_twin_has_the_roots_of_certificate_transparency() -> None:
    assert [tree_root(_CT_LEAVES[:size], SHA256_TREE).hex() for size in range(9)] == _CT_ROOTS


def test_the_sha256_twin_makes_the_proofs_of_certificate_transparency() -> None:
    read = nodes_of(_CT_LEAVES, SHA256_TREE)
    assert [digest.hex() for digest in inclusion_proof(read, 0, 8, SHA256_TREE)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [digest.hex() for digest in consistency_proof(read, 6, 8, SHA256_TREE)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [digest.hex() for digest in consistency_proof(read, 2, 5, SHA256_TREE)] == [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]


def _naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return BLAKE3_TREE.empty_root
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return BLAKE3_TREE.node(_naive_root(leaves[:split]), _naive_root(leaves[split:]))


ENTRIES = [entry(index) for index in range(70)]
READ = nodes_of(ENTRIES)
ROOTS = [tree_root(ENTRIES[:size]) for size in range(71)]


def test_the_compact_range_agrees_with_the_definition() -> None:
    leaves = [BLAKE3_TREE.leaf(entry_hash) for entry_hash in ENTRIES]
    assert [_naive_root(leaves[:size]) for size in range(71)] == ROOTS


def test_every_proof_of_every_small_log_verifies() -> None:
    for size in range(1, 71):
        for index in range(size):
            verify_inclusion(index, size, ENTRIES[index], inclusion_proof(READ, index, size), ROOTS[size])
        for old in range(1, size + 1):
            verify_consistency(old, size, ROOTS[old], ROOTS[size], consistency_proof(READ, old, size))


def test_a_reloaded_compact_range_appends_like_the_first() -> None:
    for size in (0, 1, 2, 3, 31, 64, 69):
        again = CompactRange.from_nodes(READ, size)
        assert again.root == ROOTS[size]
        again.extend(ENTRIES[size:])
        assert again.root == ROOTS[70]


@pytest.mark.parametrize(("size", "peaks"), [(1, 0), (3, 1), (4, 2), (-1, 0)])
def test_a_compact_range_that_cannot_be_is_refused(size: int, peaks: int) -> None:
    with pytest.raises(ProofRejected):
        CompactRange(BLAKE3_TREE, size, [bytes(32)] * peaks)
    with pytest.raises(ProofRejected):
        CompactRange(BLAKE3_TREE, 3, [bytes(32), bytes(31)])


@given(st.integers(1, 70), st.data())
def test_no_mutated_inclusion_proof_verifies(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(READ, index, size)
    randomness = random.Random(data.draw(st.integers(0, 2**32)))
    kind = data.draw(st.sampled_from(["bit", "drop", "add", "index", "size", "entry"]))
    wrong_index, wrong_size, wrong_entry = index, size, ENTRIES[index]
    if kind == "bit" and proof:
        at = randomness.randrange(len(proof))
        proof[at] = bytes([proof[at][0] ^ 1]) + proof[at][1:]
    elif kind == "drop" and proof:
        del proof[randomness.randrange(len(proof))]
    elif kind == "add":
        proof.insert(randomness.randrange(len(proof) + 1), randomness.randbytes(32))
    elif kind == "index" and size > 1:
        wrong_index = (index + 1) % size
    elif kind == "entry":
        wrong_entry = BLAKE3_TREE.leaf(ENTRIES[index])
    else:
        wrong_size = 71
        index = 70
    with pytest.raises(ProofRejected):
        verify_inclusion(wrong_index, wrong_size, wrong_entry, proof, ROOTS[size] if wrong_size == size else bytes(32))


def test_an_inner_node_cannot_pass_as_an_entry() -> None:
    """Second preimage: the two children of a node, offered as one entry of a log half the size."""
    children = READ(0, 0) + READ(0, 1)
    root_of_two = ROOTS[2]
    with pytest.raises(ProofRejected):
        verify_inclusion(0, 1, children, [], root_of_two)
    assert BLAKE3_TREE.leaf(children) != root_of_two


def test_an_endless_proof_is_refused_before_it_is_hashed() -> None:
    with pytest.raises(ProofRejected, match="more than any proof needs"):
        verify_inclusion(0, 2**40, ENTRIES[0], [bytes(32)] * 10**5, bytes(32))


@pytest.mark.parametrize("old", [1, 2, 3, 4, 6, 32, 33, 63])
def test_a_fork_is_proven_by_the_newer_root_alone(old: int) -> None:
    forked = [*ENTRIES[: old - 1], entry(10**6), *ENTRIES[old:64]]
    fork_root = tree_root(forked)
    nodes = prefix_proof(nodes_of(forked), old, 64)
    assert prefix_root(old, 64, fork_root, nodes) == tree_root(forked[:old]) != ROOTS[old]
    assert prefix_root(old, 64, ROOTS[64], prefix_proof(READ, old, 64)) == ROOTS[old]


def test_garbage_proves_no_fork() -> None:
    nodes = prefix_proof(READ, 5, 64)
    nodes[1] = bytes(32)
    with pytest.raises(ProofRejected, match="do not lead to the newer root"):
        prefix_root(5, 64, ROOTS[64], nodes)


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0)])
def test_no_inclusion_proof_is_made_outside_the_log(index: int, size: int) -> None:
    with pytest.raises(ProofRejected):
        inclusion_proof(READ, index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 5), (6, 5), (-1, 5)])
def test_no_consistency_proof_is_made_from_nothing_or_backwards(old: int, new: int) -> None:
    with pytest.raises(ProofRejected):
        consistency_proof(READ, old, new)


@pytest.mark.parametrize("digest", [bytes(31), bytes(33), "x" * 32, bytearray(32), None])
def test_a_hash_that_is_no_hash_is_named_as_such(digest: object) -> None:
    proof = [digest, *inclusion_proof(READ, 3, 70)[1:]]
    with pytest.raises(ProofRejected, match="32 bytes"):
        verify_inclusion(3, 70, ENTRIES[3], proof, ROOTS[70])  # type: ignore[arg-type]  # what a parser could pass on
    with pytest.raises(ProofRejected, match="32 bytes"):
        verify_consistency(3, 70, ROOTS[3], ROOTS[70], proof)  # type: ignore[arg-type]  # as above
