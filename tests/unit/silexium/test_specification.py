"""The worked example of ``docs/specification/silexium.md`` is what the code makes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from libreseed.ids import Blake3Digest
from libreseed.silexium.attestation import Attestation, AuthorClaim
from libreseed.silexium.keyring import Role
from libreseed.silexium.log_proofs import inclusion_proof
from libreseed.silexium.merkle import BLAKE3_TREE, CompactRange
from libreseed.silexium.tree_head import Checkpoint, SignedTreeHead, TreeHead
from libreseed.silexium.verification import _ORDER
from tests.silexium_support import CREATED, KEYS, LOG_KEY, LOGGED, Draft, digest

DOCUMENT = Path(__file__).parents[3] / "docs" / "specification" / "silexium.md"


def example() -> dict[str, str]:
    draft = Draft()
    author = draft.attestations()[0]
    claim = Attestation(author, KEYS[Role.AUTHOR].public).claim
    assert isinstance(claim, AuthorClaim)
    entries = [digest(author).raw, digest(b"second").raw, digest(b"third").raw]
    nodes: dict[tuple[int, int], bytes] = {}
    log = CompactRange()
    log.extend(entries, lambda level, index, node: nodes.__setitem__((level, index), node))
    head = SignedTreeHead.sign(TreeHead("log.example/silexium-b3", 3, Blake3Digest(log.root)), LOGGED, LOG_KEY)
    proof = inclusion_proof(lambda level, index: nodes[level, index], 0, 3)
    return {
        "manifest": draft.manifest.data.decode(),
        "manifest hash": str(draft.manifest.digest),
        "attestation": author.decode(),
        "attestation hash": str(digest(author)),
        "leaf": BLAKE3_TREE.leaf(entries[0]).hex(),
        "root": log.root.hex(),
        "proof 0": proof[0].hex(),
        "proof 1": proof[1].hex(),
        "note": Checkpoint(head).data.decode().strip(),
        "signature": str(head.signature),
    }


@pytest.mark.parametrize("name", sorted(example()))
def test_the_worked_example_is_current(name: str) -> None:
    assert CREATED == 1_790_000_000
    value = example()[name]
    assert value in DOCUMENT.read_text(encoding="utf-8"), f"{name}: {value}"


def test_every_check_is_specified_with_its_number() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for turn, name in enumerate(_ORDER, start=1):
        assert f"| 10.{turn} | `{name}` |" in text


def test_every_test_that_the_specification_names_exists() -> None:
    attacks = DOCUMENT.read_text(encoding="utf-8").partition("## 12.")[2]
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", attacks))
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    missing = {name for name in named if f"def {name}(" not in sources}
    assert len(named) > 40
    assert not missing


def test_what_help_does_not_need_is_imported_late() -> None:
    """X.509 and ASN.1 cost 100 ms: only who verifies a stamp pays."""
    code = (
        "import sys, libreseed.silexium.bundle_check, libreseed.silexium.trust_policy;"
        "sys.exit(bool({'cryptography', 'asn1crypto', 'rfc3161_client', 'nacl'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
