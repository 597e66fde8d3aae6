"""``docs/specification/silexium-time.md``: its worked example is what the code makes, its tests and reasons exist."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from libreseed.reasons import REASONS
from libreseed.silexium.bitcoin_headers import REGTEST, HeaderChain
from libreseed.silexium.embedded_calendar import aggregate, anchor
from libreseed.silexium.ots import attested_block, parse_ots
from libreseed.silexium.ots_promise import join, open_promise, submission
from libreseed.silexium.time_stamp_request import TimeStampRequest
from tests.silexium_support import Draft
from tests.tools import require_program

TESTS = Path(__file__).parents[2]
DOCUMENT = (TESTS.parent / "docs" / "specification" / "silexium-time.md").read_text(encoding="utf-8")
MESSAGE = Draft().attestations()[0]
REQUEST = TimeStampRequest(MESSAGE, 1).encode()


def example() -> dict[str, bytes]:
    digest, nonce = hashlib.sha256(MESSAGE).digest(), bytes([1]) * 16
    sent = submission(digest, nonce)
    calendar = "https://calendar.example"
    promised = aggregate([sent], [bytes([2]) * 16], uri=calendar, key=bytes([3]) * 32, now=1_790_000_100)
    promise = open_promise(digest, nonce, promised.answers[0], lambda uri: uri == calendar)
    chain = HeaderChain.read(REGTEST, 0, REGTEST.genesis, now=1_790_003_600)
    mined = anchor([promised.commitment], chain, now=1_790_003_600)
    ((_, rest),) = mined.timestamps
    (proof,) = join(promise, digest, rest)
    chain.extend(mined.header, now=1_790_003_600)
    assert attested_block(parse_ots(proof, digest), [chain]) == (1_790_003_600, 1)
    return {
        "request": REQUEST,
        "digest": digest,
        "sent": sent,
        "answer": promised.answers[0],
        "commitment": promised.commitment,
        "header": mined.header,
        "rest": rest,
        "proof": proof,
    }


@pytest.mark.parametrize("name", sorted(example()))
def test_the_worked_example_is_current(name: str) -> None:
    value = example()[name].hex()
    assert re.search(rf"(?<![0-9a-f]){value}(?![0-9a-f])", DOCUMENT), f"{name}: {value}"


def test_openssl_reads_the_request_of_the_worked_example(tmp_path: Path) -> None:
    (tmp_path / "query.tsq").write_bytes(REQUEST)
    line = [require_program("openssl"), "ts", "-query", "-in", "query.tsq", "-text"]
    text = subprocess.run(line, cwd=tmp_path, check=True, capture_output=True, timeout=20, text=True).stdout
    assert "Hash Algorithm: sha512" in text and "Nonce: 0x01" in text and "Certificate required: yes" in text


def test_tests_and_reasons_that_are_named_exist() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT.partition("\n| attack |")[2]))
    assert len(named) > 30
    assert [name for name in sorted(named) if f"def {name}(" not in source] == []
    reasons = set(re.findall(r"`((?:silexium|storage)\.[a-z-]+)`", DOCUMENT))
    assert reasons <= REASONS.keys(), reasons - REASONS.keys()
