"""What LibreSeed keeps in the DHT: the manifest record of a release and the index of a publisher's releases.

``name@version.dht.json`` holds salt, sequence number and BEP 44 signature of the item whose value is the minimal
manifest: whoever has both files can put the item again, with no key. ``name.index.dht.json`` carries its value as well.
Both are canonical JSON and closed sets. Parsers raise :class:`RecordRejected` (``dhtrecord.*``, ``index.*``) only.

It does not judge a minimal manifest (:mod:`libreseed.package.minimal`) or a publisher's trust, and touches no network.
Specification: ``docs/specification/dht.md``, "Records".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from libreseed import bencode, limits, wire
from libreseed.dht.items import SignedItem, sign_item
from libreseed.errors import Malformed, RecordRejected
from libreseed.ids import PackageName, PublicKey, ReleaseId, Signature, Version
from libreseed.keys.ed25519 import PrivateKey

if TYPE_CHECKING:
    from libreseed.package.minimal import MinimalManifest

__all__ = [
    "ReleaseIndex",
    "build_dht_record",
    "build_index",
    "check_belongs_to",
    "index_from_item",
    "index_salt",
    "manifest_salt",
    "minimal_from_item",
    "name_discovery_target",
    "newest_first",
    "parse_dht_record",
    "parse_index",
]

INDEX_PROTOCOL = "libreseed-index-v1"


def manifest_salt(release: ReleaseId) -> bytes:
    """``m:name@version``; a longer text than 64 bytes becomes ``m:`` and 31 bytes of its SHA-256 in hex."""
    return _fitting("m:", str(release))


def index_salt(name: PackageName) -> bytes:
    """``i:name``, shortened like :func:`manifest_salt` where a name has 63 or 64 characters."""
    return _fitting("i:", str(name))


def name_discovery_target(name: PackageName) -> bytes:
    """20 bytes under which the holders of records for ``name`` announce themselves (DESIGN 3.8, name discovery)."""
    digest = hashlib.sha256(b"libreseed:name-index:" + str(name).encode()).digest()
    return hashlib.sha1(digest, usedforsecurity=False).digest()


def build_dht_record(minimal: MinimalManifest, key: PrivateKey) -> bytes:
    """The bytes of ``name@version.dht.json``: the packager signs the item once, for every later re-put."""
    item = sign_item(key, manifest_salt(minimal.release), minimal.timestamp, bencode.encode(minimal.data))
    return wire.canonical({"salt": item.salt.decode(), "seq": item.seq, "sig": str(item.signature)})


def parse_dht_record(data: bytes, minimal: MinimalManifest) -> SignedItem:
    """The item that ``data`` and its minimal manifest make up; raises :class:`RecordRejected` (``dhtrecord.*``)."""
    try:
        fields = wire.require_members(wire.parse(data, max_bytes=limits.DHT_RECORD_BYTES), ("salt", "seq", "sig"))
        signature = Signature.parse(fields["sig"])
        salt, seq = _salt_and_seq(fields)
        if salt != manifest_salt(minimal.release):
            raise RecordRejected("dhtrecord.salt", f"the salt {fields['salt']!r:.80} is not that of {minimal.release}")
        if seq != minimal.timestamp:
            raise RecordRejected("dhtrecord.seq", f"seq {seq} where the manifest's timestamp is {minimal.timestamp}")
        return SignedItem(minimal.pubkey, salt, seq, bencode.encode(minimal.data), signature)
    except Malformed as error:
        raise _as_record(error, "dhtrecord") from error


def minimal_from_item(item: SignedItem) -> MinimalManifest:
    """The minimal manifest that a manifest record carries, bound to the item's key, salt and sequence number.

    Raises :class:`RecordRejected`: ``dhtrecord.*`` where the item is wrong, ``minimal.*`` where the manifest is.
    """
    from libreseed.package.minimal import parse_minimal

    minimal = parse_minimal(_text_value(item, "dhtrecord"))
    if minimal.pubkey != item.pubkey:
        raise RecordRejected("dhtrecord.key", "the manifest names another key than the one that signed the DHT item")
    if item.salt != manifest_salt(minimal.release):
        raise RecordRejected("dhtrecord.salt", f"a manifest of {minimal.release} under another release's salt")
    if item.seq != minimal.timestamp:
        raise RecordRejected("dhtrecord.seq", f"seq {item.seq} where the manifest's timestamp is {minimal.timestamp}")
    return minimal


@dataclass(frozen=True, slots=True)
class ReleaseIndex:
    """Which versions of ``name`` one publisher offers, newest first; ``item`` is the signed proof of it."""

    name: PackageName
    versions: tuple[Version, ...]
    item: SignedItem

    @property
    def pubkey(self) -> PublicKey:
        """The publisher."""
        return self.item.pubkey

    @property
    def newest(self) -> Version:
        """The first version that is no pre-release, or the first one where all are."""
        return next(
            (version for version in self.versions if "-" not in version.text.partition("+")[0]), self.versions[0]
        )


def build_index(
    name: PackageName, minimals: Iterable[MinimalManifest], key: PrivateKey, *, seq: int | None = None
) -> bytes:
    """The bytes of ``name.index.dht.json``: all versions of ``minimals`` that fit 1000 bytes, newest first.

    ``seq`` defaults to the newest timestamp among them; a changed list with the same newest release needs a higher one.
    Raises :class:`RecordRejected` (``index.name``, ``index.key``, ``index.versions``) for manifests that do not belong.
    """
    chosen = list(minimals)
    for minimal in chosen:
        if minimal.release.name != name:
            raise RecordRejected("index.name", f"{minimal.release} is no release of {name}")
        if minimal.pubkey != key.public:
            raise RecordRejected("index.key", f"{minimal.release} was signed by another key than the index")
    versions = newest_first({minimal.release.version for minimal in chosen})
    if not versions:
        raise RecordRejected("index.versions", "an index names at least one version")
    value = _index_value(name, versions)
    while len(value) > limits.ITEM_VALUE_BYTES and len(versions) > 1:
        versions = versions[:-1]
        value = _index_value(name, versions)
    if seq is None:
        seq = max(minimal.timestamp for minimal in chosen)
    item = sign_item(key, index_salt(name), seq, value)
    text: bytes = bencode.decode(value, max_bytes=limits.ITEM_VALUE_BYTES)
    return wire.canonical(
        {"salt": item.salt.decode(), "seq": item.seq, "sig": str(item.signature), "v": text.decode("ascii")}
    )


def parse_index(data: bytes, pubkey: PublicKey) -> ReleaseIndex:
    """Read ``name.index.dht.json`` of the publisher ``pubkey``; raises :class:`RecordRejected` (``index.*``)."""
    try:
        fields = wire.require_members(
            wire.parse(data, max_bytes=limits.INDEX_RECORD_BYTES), ("salt", "seq", "sig", "v")
        )
        signature = Signature.parse(fields["sig"])
        salt, seq = _salt_and_seq(fields)
        if not isinstance(fields["v"], str):
            raise Malformed("encoding.type", "v is a text")
        value = bencode.encode(fields["v"].encode("utf-8"))
        item = SignedItem(pubkey, salt, seq, value, signature)
    except Malformed as error:
        raise _as_record(error, "index") from error
    return index_from_item(item)


def index_from_item(item: SignedItem) -> ReleaseIndex:
    """Read the index that ``item`` carries; raises :class:`RecordRejected` (``index.*``)."""
    try:
        document = wire.parse(_text_value(item, "index"), max_bytes=limits.ITEM_VALUE_BYTES)
        fields = wire.require_members(document, ("name", "protocol", "versions"))
        name = PackageName(fields["name"])
        if fields["protocol"] != INDEX_PROTOCOL or not isinstance(fields["versions"], list):
            raise Malformed("encoding.type", f"protocol is {INDEX_PROTOCOL!r} and versions an array")
        versions = tuple(Version(text) for text in fields["versions"])
    except Malformed as error:
        raise _as_record(error, "index") from error
    if item.salt != index_salt(name):
        raise RecordRejected("index.name", f"an index of {name} under another name's salt")
    if not versions or len(set(versions)) != len(versions) or versions != newest_first(set(versions)):
        raise RecordRejected(
            "index.versions", "versions are unique and ordered newest first, and there is at least one"
        )
    return ReleaseIndex(name, versions, item)


def check_belongs_to(item: SignedItem, name: PackageName) -> None:
    """Demand that ``item`` is a manifest record or an index of ``name``; raises :class:`RecordRejected`."""
    if item.salt == index_salt(name):
        index_from_item(item)
        return
    release = minimal_from_item(item).release
    if release.name != name:
        raise RecordRejected("dhtrecord.salt", f"a record of {release} in an answer about {name}")


def _fitting(prefix: str, text: str) -> bytes:
    salt = (prefix + text).encode("ascii")
    if len(salt) <= limits.ITEM_SALT_BYTES:
        return salt
    return prefix.encode() + hashlib.sha256(salt).digest()[:31].hex().encode()


def _salt_and_seq(fields: dict[str, wire.JsonValue]) -> tuple[bytes, int]:
    salt, seq = fields["salt"], fields["seq"]
    if not isinstance(salt, str) or not salt.isascii():
        raise Malformed("encoding.type", "salt is an ASCII text")
    if isinstance(seq, bool) or not isinstance(seq, int):
        raise Malformed("encoding.type", "seq is an integer")
    return salt.encode("ascii"), seq


def _text_value(item: SignedItem, area: str) -> bytes:
    text = bencode.decode(item.value, max_bytes=limits.ITEM_VALUE_BYTES)
    if not isinstance(text, bytes):
        raise RecordRejected(f"{area}.type", "the item's value is not a bencoded string")
    return text


def _index_value(name: PackageName, versions: tuple[Version, ...]) -> bytes:
    fields = {"name": str(name), "protocol": INDEX_PROTOCOL, "versions": [str(version) for version in versions]}
    return bencode.encode(wire.canonical(fields))


def newest_first(versions: set[Version]) -> tuple[Version, ...]:
    """By SemVer precedence, falling; versions that differ in build metadata only are ordered by their text."""
    from semantic_version import Version as Precedence

    def order(version: Version) -> tuple[object, str]:
        return Precedence(version.text).precedence_key, version.text

    return tuple(sorted(versions, key=order, reverse=True))


def _as_record(error: Malformed, area: str) -> RecordRejected:
    fault = error.reason.rpartition(".")[2]
    reason = f"{area}.signature" if error.reason == "signature.invalid" else f"{area}.{fault}"
    return RecordRejected(reason, error.message, evidence=error.evidence)
