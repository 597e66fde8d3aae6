"""Every DHT node belongs to the attacker: it answers with whatever it can get signed, and buys nothing but a refusal.

A node cannot forge an item (its signature is checked when it is made). It can hand out other items than those asked
for, those of a publisher who signed nonsense or whose key was stolen, or nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from libreseed import bencode, limits
from libreseed.dht.items import SignedItem, sign_item
from libreseed.dht.records import manifest_salt
from libreseed.ids import PublicKey, ReleaseId, Version
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.minimal import MinimalManifest
from tests.archive_forge import KEY, Forge, gz
from tests.attacks.attack_support import RELEASE, LyingDht, ask
from tests.resolver_support import leftovers, rejects

MALLORY = PrivateKey(b"\x66" * 32)
SALT = manifest_salt(RELEASE)
DAY_MS = limits.CLOCK_AHEAD_MS


def minimal(*, key: PrivateKey = KEY, version: str = "1.0.0", timestamp: int = 1000) -> MinimalManifest:
    forge = Forge(version=version, timestamp=timestamp, key=key)
    return forge.minimal(gz(forge.tar))


def item(data: bytes, *, seq: int = 1000, key: PrivateKey = KEY, salt: bytes = SALT) -> SignedItem:
    return sign_item(key, salt, seq, bencode.encode(data))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def in_two_days() -> SignedItem:
    at = now_ms() + 2 * DAY_MS
    return item(minimal(timestamp=at).data, seq=at)


LIES = {
    "another publisher's record": (
        lambda: item(minimal(key=MALLORY).data, key=MALLORY),
        ("trust.other-publisher", 21, 2),
    ),
    "another publisher's record under the right key": (
        lambda: item(minimal(key=MALLORY).data),
        ("minimal.other-key", 20, 3),
    ),
    "the record of another version": (
        lambda: item(minimal(version="0.9.0").data, salt=manifest_salt(ReleaseId(RELEASE.name, Version("0.9.0")))),
        ("minimal.other-release", 20, 3),
    ),
    "an old record under a new sequence number": (
        lambda: item(minimal().data, seq=2000),
        ("minimal.other-seq", 20, 3),
    ),
    "fast-forward: the last sequence number there is": (
        lambda: item(minimal().data, seq=limits.ITEM_SEQ),
        ("minimal.other-seq", 20, 3),
    ),
    "a record from the day after tomorrow": (in_two_days, ("minimal.ahead", 22, 3)),
    "a value that is no text": (
        lambda: sign_item(KEY, SALT, 1000, bencode.encode({b"a": 1})),
        ("dhtrecord.type", 20, 2),
    ),
    "a value that is no manifest": (lambda: item(b"hello"), ("minimal.not-json", 20, 3)),
    "a manifest with one changed byte, signed as an item": (
        lambda: item(minimal().data.replace(b'"size":', b'"size":1')),
        ("minimal.binding", 20, 3),
    ),
    "nothing at all": (lambda: None, ("notfound.record", 10, 2)),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_is_refused_for_its_own_reason_and_leaves_nothing(lie: str, tmp_path: Path) -> None:
    make, (reason, exit_code, step) = LIES[lie]
    dht = LyingDht(make())
    with rejects(reason, step=step) as caught:
        await ask(dht, tmp_path, KEY.public)
    assert caught[0].exit_code == exit_code
    assert dht.asked == [SALT]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("claimants", [0, 1, 3])
async def test_a_squatted_name_is_never_trusted_by_itself(claimants: int, tmp_path: Path) -> None:
    """Whoever comes first, or most often, is listed for the user to choose; exit 21 leaves no pin behind."""
    squatters = [PrivateKey(bytes([0x70 + number]) * 32) for number in range(claimants)]
    claims = [item(minimal(key=key).data, key=key) for key in squatters]
    junk = item(b"not a manifest", key=MALLORY)
    elsewhere = item(minimal(key=MALLORY).data, key=MALLORY, salt=b"m:other@1.0.0")
    with rejects("trust.unknown-publisher" if claimants else "notfound.record") as caught:
        await ask(LyingDht(named=[junk, elsewhere, *claims, *claims]), tmp_path, None)
    if claimants:
        assert caught[0].evidence["publishers"] == [str(key.public) for key in squatters]
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "trust.json").exists()


async def test_by_name_only_the_trusted_publishers_newest_record_counts(tmp_path: Path) -> None:
    """Name discovery asks strangers: their own records, however new, do not stand in for the publisher's."""
    newer = item(minimal(key=MALLORY, timestamp=9000).data, seq=9000, key=MALLORY)
    broken = item(minimal(timestamp=2000).data, seq=3000)  # the publisher's, so it is this one that is judged
    with rejects("minimal.other-seq", step=3):
        await ask(LyingDht(named=[newer, item(minimal().data), broken]), tmp_path, KEY.public)
    assert leftovers(tmp_path) == []


async def test_a_key_of_small_order_signs_nothing(tmp_path: Path) -> None:
    """A point of small order "verifies" everything in lax implementations: such an item cannot even be made."""
    from libreseed.errors import Malformed
    from libreseed.ids import Signature

    for weak in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(Malformed) as caught:
            SignedItem(PublicKey(weak), SALT, 1000, bencode.encode(minimal().data), Signature(weak + bytes(32)))
        assert caught.value.reason == "signature.invalid"
