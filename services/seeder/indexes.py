"""The release indexes that a seeder keeps alive: signed by publishers, kept as files, re-put verbatim (section 3.8).

One per publisher and name; a higher sequence number replaces, wherever it came from (a file beside a release, or a
newer one met in the DHT), and a lower one never does. ``STATE/indexes/<name>.<key in hex>.index.dht.json``.
"""

from __future__ import annotations

import logging

import trio

from libreseed import bencode, limits, wire
from libreseed.adapters.files.durable import durable_write
from libreseed.adapters.files.oserrors import from_oserror
from libreseed.adapters.release.seed_store import SeedStore
from libreseed.dht.items import SignedItem
from libreseed.dht.records import ReleaseIndex, index_from_item, index_salt, parse_index
from libreseed.errors import LibreSeedError, Malformed, RecordRejected
from libreseed.ids import PackageName, PublicKey

from .announcer import Announcer, Findable

__all__ = ["Indexes"]

_LOG = logging.getLogger("libreseed.seeder")
_SUFFIX = ".index.dht.json"


class Indexes:
    """All indexes that are held; owned by the daemon's event loop."""

    def __init__(self, store: SeedStore, announcer: Announcer) -> None:
        self._folder = store.indexes
        self._announcer = announcer
        self._held: dict[tuple[PackageName, PublicKey], ReleaseIndex] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def load(self) -> None:
        """Read what is kept; a damaged file is removed: its publisher's next index, or the DHT, brings it back."""
        for path in sorted(await trio.to_thread.run_sync(lambda: list(self._folder.glob("*" + _SUFFIX)))):
            try:
                key = PublicKey(bytes.fromhex(path.name.removesuffix(_SUFFIX).rpartition(".")[2]))
                index = parse_index(await trio.to_thread.run_sync(path.read_bytes), key)
            except (LibreSeedError, ValueError) as error:
                _LOG.warning("the stored index %s is damaged and removed: %s", path.name, error)
                path.unlink()
                continue
            self._keep(index)

    async def offer(self, data: bytes, publisher: PublicKey) -> bool:
        """Take an index file of ``publisher`` if it is newer; raises RecordRejected (``index.*``) unless it holds."""
        return await self._take(parse_index(data, publisher))

    async def meet(self, item: SignedItem) -> None:
        """Take a newer edition that the DHT holds; anything else is ignored."""
        try:
            index = index_from_item(item)
        except RecordRejected:
            return  # a manifest record: the publisher has replaced a release, which is theirs to package anew
        if (index.name, index.pubkey) not in self._held:
            return
        try:
            taken = await self._take(index)
        except OSError as error:
            _LOG.warning("%s", from_oserror(error, "keeping a newer index").message)
            return
        if taken:
            _LOG.info("the index of %s was replaced by a newer one from the DHT (seq %d)", index.name, item.seq)

    def drop(self, name: PackageName, publisher: PublicKey) -> None:
        """Forget the index of a name of which no release is held any more."""
        index = self._held.pop((name, publisher), None)
        if index is not None:
            self._announcer.drop(_owner(index))
            (self._folder / _file_name(index)).unlink(missing_ok=True)

    async def _take(self, index: ReleaseIndex) -> bool:
        held = self._held.get((index.name, index.pubkey))
        if held is not None and held.item.seq >= index.item.seq:
            return False
        path = self._folder / _file_name(index)
        await trio.to_thread.run_sync(durable_write, path, _encode(index.item), 0o600)
        self._keep(index)
        return True

    def _keep(self, index: ReleaseIndex) -> None:
        self._held[index.name, index.pubkey] = index
        self._announcer.keep(_owner(index), Findable(index.name, index.item))


def claimed_salt(data: bytes) -> bytes:
    """The salt that an index file claims, unverified: to find out whose it could be; raises RecordRejected."""
    try:
        salt = wire.parse(data, max_bytes=limits.INDEX_RECORD_BYTES).get("salt")
    except (Malformed, AttributeError) as error:
        raise RecordRejected("index.not-json", "not a release index") from error
    return salt.encode() if isinstance(salt, str) else b""


def belongs_to(salt: bytes, name: PackageName) -> bool:
    """Whether an index with ``salt`` would be one of ``name``."""
    return salt == index_salt(name)


def _encode(item: SignedItem) -> bytes:
    text: bytes = bencode.decode(item.value, max_bytes=limits.ITEM_VALUE_BYTES)
    fields = {"salt": item.salt.decode(), "seq": item.seq, "sig": str(item.signature), "v": text.decode("ascii")}
    return wire.canonical(fields)


def _owner(index: ReleaseIndex) -> str:
    return f"index:{index.name}:{index.pubkey.raw.hex()}"


def _file_name(index: ReleaseIndex) -> str:
    return f"{index.name}.{index.pubkey.raw.hex()}{_SUFFIX}"
