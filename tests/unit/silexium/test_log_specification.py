"""The worked example and the named tests of ``docs/specification/silexium-log.md``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blake3 import blake3

from libreseed.ids import Blake3Digest
from libreseed.silexium.log_path import write_bodies
from libreseed.silexium.log_proofs import consistency_proof
from libreseed.silexium.merkle import BLAKE3_TREE, CompactRange
from libreseed.silexium.tree_head import Checkpoint, Cosignature, SignedTreeHead, TreeHead
from libreseed.silexium.witness_wire import AddCheckpoint, origin_id
from tests.silexium_support import LOG, LOG_KEY, WITNESS_KEYS

TESTS = Path(__file__).parents[2]
DOCUMENT = (TESTS.parent / "docs" / "specification" / "silexium-log.md").read_text("utf-8")


def example() -> dict[str, str]:
    entries = [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    hashes = [blake3(entry).digest() for entry in entries]
    nodes: dict[tuple[int, int], bytes] = {}
    log = CompactRange()
    log.extend(hashes, lambda level, index, node: nodes.__setitem__((level, index), node))
    head = TreeHead(LOG.name, 3, Blake3Digest(log.root))
    note = Checkpoint(SignedTreeHead.sign(head, 1790007200, LOG_KEY)).data
    proof = consistency_proof(lambda level, index: nodes[level, index], 2, 3)
    name, key = next(iter(WITNESS_KEYS.items()))
    return {
        **{f"entry {number}": digest.hex() for number, digest in enumerate(hashes)},
        "leaf": BLAKE3_TREE.leaf(hashes[2]).hex(),
        "bundle": write_bodies(entries).hex(),
        "request": AddCheckpoint(2, tuple(proof), note).data.decode(),
        "answer": str(Cosignature.sign(head, name, 1790007300, key).line),
        "origin": origin_id(LOG.name),
    }


@pytest.mark.parametrize("name", sorted(example()))
def test_the_worked_example_is_current(name: str) -> None:
    assert example()[name] in DOCUMENT


def test_every_attack_names_tests_that_exist() -> None:
    section = DOCUMENT.partition("## 12.")[2]
    named = set(re.findall(r"`(test_\w+)`", section))
    sources = "".join(path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))
    assert len(named) > 15 and [name for name in sorted(named) if f"def {name}(" not in sources] == []
