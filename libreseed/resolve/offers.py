"""Who offers which versions of a name, out of signed DHT items: manifest records and release indexes (DESIGN 3.8).

Every item proves only that the holder of its key said so; whom to believe is :mod:`libreseed.resolve.trust`'s question.
What does not parse or belongs to another name is left out. Invariant: one :class:`Offer` for each key, versions unique
and newest first. No IO. ``docs/specification/commands.md``, "libreseed search".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from libreseed.dht.items import SignedItem
from libreseed.dht.records import index_from_item, index_salt, minimal_from_item, newest_first
from libreseed.errors import RecordRejected
from libreseed.ids import PackageName, PublicKey, Version

__all__ = ["Offer", "offers_of", "preferred"]


@dataclass(frozen=True, slots=True)
class Offer:
    """What ``publisher`` says of a name. ``indexed``: the publisher's own index names its versions, so that an old one
    that is missing from it is known to be left out on purpose or for want of room."""

    publisher: PublicKey
    versions: tuple[Version, ...]
    indexed: bool

    def newest(self, *, pre: bool = False) -> Version | None:
        """The newest version; a pre-release only with ``pre``."""
        return preferred(self.versions, pre=pre)


def offers_of(name: PackageName, items: Iterable[SignedItem]) -> list[Offer]:
    """One offer for each key that signed anything sound about ``name``, ordered by the key's text.

    An old index may still be about: the one with the highest sequence number of each key counts.
    """
    named: dict[PublicKey, set[Version]] = {}
    indexes: dict[PublicKey, SignedItem] = {}
    for item in items:
        try:
            if item.salt == index_salt(name):
                index_from_item(item)
                if item.pubkey not in indexes or indexes[item.pubkey].seq < item.seq:
                    indexes[item.pubkey] = item
                continue
            release = minimal_from_item(item).release
        except RecordRejected:
            continue
        if release.name == name:
            named.setdefault(item.pubkey, set()).add(release.version)
    for key, item in indexes.items():
        named.setdefault(key, set()).update(index_from_item(item).versions)
    return [Offer(key, newest_first(named[key]), key in indexes) for key in sorted(named, key=str)]


def preferred(versions: Iterable[Version], *, pre: bool = False) -> Version | None:
    """The newest of ``versions``; without ``pre`` the newest that is no pre-release, None if all are."""
    return next((one for one in newest_first(set(versions)) if pre or not _is_pre(one)), None)


def _is_pre(version: Version) -> bool:
    return "-" in version.text.partition("+")[0]
