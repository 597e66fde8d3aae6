"""What the mirror answers to each of its paths (:data:`.routes.ROUTES` names the methods of :class:`Answers`).

Everything that a release's records sign never changes: it has a strong ETag made of the signed hash, and may be kept by
caches for ever. docs/specification/mirror.md.
"""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import trio
from blake3 import blake3

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.http.entity import Entity, Fields, respond
from libreseed.adapters.http.guards import Scope, Send
from libreseed.auraseal.part import part_files
from libreseed.auraseal.tgz_parts import TgzComponents
from libreseed.dht.records import parse_index
from libreseed.errors import ContentRejected, LibreSeedError, NotFound, TransportFault
from libreseed.ids import PackageName, ReleaseId
from libreseed.repair.grid import ChunkGrid

from .bodies import CopyFile, ZipBody, opened
from .copies import Copy
from .library import Holding, Library
from .listings import copy_health, integrity_manifest, release_list
from .openapi import openapi_document
from .routes import LEAST_COHERENCE, Match, query_value
from .zips import zip_layout

__all__ = ["Answers"]

_FOR_EVER: Fields = (("cache-control", "public, max-age=31536000, immutable"),)
_FOR_MINUTES: Fields = (("cache-control", "public, max-age=300"),)
_NOT_AT_ALL: Fields = (("cache-control", "no-store"),)
_BYTES = "application/octet-stream"
_JSON = "application/json"
_CACHED_COMPONENTS = 8  # of about 1.3 MB each


class Answers:
    """Handlers of one mirror; ``metrics`` gives the text of ``/metrics``, ``health`` the object of ``/health``."""

    def __init__(
        self, library: Library, *, metrics: Callable[[], str], health: Callable[[], dict[str, object]]
    ) -> None:
        self._library = library
        self._metrics = metrics
        self._health = health
        self._building = trio.Lock()
        self._components: OrderedDict[tuple[str, int], list[bytes]] = OrderedDict()
        self._listings: dict[str, tuple[int, bytes]] = {}
        self._openapi = openapi_document()

    async def answer(self, found: Match, scope: Scope, send: Send) -> None:
        """Answer by the handler that the route names; raises LibreSeedError before anything was sent."""
        await getattr(self, found.route.handler)(found.values, scope, send)

    # --- files of a release ------------------------------------------------------------------------------------------

    async def package(self, values: Any, scope: Scope, send: Send) -> None:
        """The .tgz, of a whole copy."""
        holding = await self._whole(values["release"], scope)
        async with self._file(holding, ".tgz") as file:
            copy = _copy(holding)
            await respond(
                scope, send, Entity(file.size, _tag(copy, ".tgz"), "application/gzip", file, _named(copy, "tgz"))
            )

    async def package_zip(self, values: Any, scope: Scope, send: Send) -> None:
        """The package zip, made while it is sent."""
        holding = await self._whole(values["release"], scope)
        manifest, layout = zip_layout(_copy(holding))
        async with self._file(holding, ".tgz") as file:
            copy = _copy(holding)
            body = ZipBody(layout, manifest, file)
            await respond(
                scope, send, Entity(layout.size, _tag(copy, ".zip"), "application/zip", body, _named(copy, "zip"))
            )

    async def components(self, values: Any, scope: Scope, send: Send) -> None:
        """The integrity manifest of the package zip, by itself."""
        manifest, _ = zip_layout(_copy(await self._whole(values["release"], scope)))
        await respond(scope, send, Entity.of_bytes(manifest, _tag_of(manifest), _JSON, _FOR_EVER))

    async def part(self, values: Any, scope: Scope, send: Send) -> None:
        """A part file, made of the component's chunks."""
        component = values.get("componentPath")
        if component is None:
            component = query_value(scope["query_string"], "component") or 0
        holding = await self._library.find(values["release"])
        files = await self._part_files(holding, component)
        if values["part"] >= len(files):
            raise NotFound("mirror.absent", f"component {component} has {len(files)} parts")
        etag = _tag(_copy(holding), f".{component}.{values['part']}")
        await respond(scope, send, Entity.of_bytes(files[values["part"]], etag, _BYTES, _FOR_EVER))

    async def chunks(self, values: Any, scope: Scope, send: Send) -> None:
        """The chunk map."""
        await self._send_file(values["release"], ".chunks", scope, send)

    async def parity(self, values: Any, scope: Scope, send: Send) -> None:
        """The parity file."""
        await self._send_file(values["release"], ".parity", scope, send)

    async def seed(self, values: Any, scope: Scope, send: Send) -> None:
        """A file of the torrent, as a web seed gives it."""
        release: ReleaseId = values["release"]
        suffix = values["file"].removeprefix(str(release))
        if suffix not in (".tgz", ".chunks", ".parity"):
            raise NotFound("mirror.absent", "that is not a file of the release")
        await self._send_file(release, suffix, scope, send)

    async def minimal(self, values: Any, scope: Scope, send: Send) -> None:
        """The minimal manifest."""
        await self._send_small(values["release"], ".minimal.json", scope, send)

    async def dht_record(self, values: Any, scope: Scope, send: Send) -> None:
        """The DHT record."""
        await self._send_small(values["release"], ".dht.json", scope, send)

    async def bundle(self, values: Any, scope: Scope, send: Send) -> None:
        """The Silexium bundle."""
        await self._send_small(values["release"], ".silexium.json", scope, send)

    async def torrent(self, values: Any, scope: Scope, send: Send) -> None:
        """The torrent."""
        await self._send_file(values["release"], ".torrent", scope, send)

    async def index(self, values: Any, scope: Scope, send: Send) -> None:
        """The release index of a name, signed by the publisher of a release of that name that is here."""
        name: PackageName = values["name"]
        data = await trio.to_thread.run_sync(self._read_index, self._library.store / f"{name}.index.dht.json", name)
        await respond(scope, send, Entity.of_bytes(data, _tag_of(data), _JSON, _FOR_MINUTES))

    # --- what there is -----------------------------------------------------------------------------------------------

    async def copy_health(self, values: Any, scope: Scope, send: Send) -> None:
        """What of a copy is verified."""
        holding = await self._library.find(values["release"])
        await _send_json(scope, send, copy_health(holding), _NOT_AT_ALL)

    async def releases(self, values: Any, scope: Scope, send: Send) -> None:
        """All releases."""
        await self._listing("releases", release_list, scope, send)

    async def integrity(self, values: Any, scope: Scope, send: Send) -> None:
        """The integrity manifest."""
        await self._listing("integrity", integrity_manifest, scope, send)

    async def health(self, values: Any, scope: Scope, send: Send) -> None:
        """The mirror's own state."""
        await _send_json(scope, send, self._health(), _NOT_AT_ALL)

    async def metrics(self, values: Any, scope: Scope, send: Send) -> None:
        """The same for Prometheus."""
        data = self._metrics().encode()
        media_type = "text/plain; version=0.0.4; charset=utf-8"
        await respond(scope, send, Entity.of_bytes(data, _tag_of(data), media_type, _NOT_AT_ALL))

    async def openapi(self, values: Any, scope: Scope, send: Send) -> None:
        """The interface."""
        await respond(scope, send, Entity.of_bytes(self._openapi, _tag_of(self._openapi), _JSON, _FOR_MINUTES))

    # --- parts of the above ------------------------------------------------------------------------------------------

    async def _whole(self, release: ReleaseId, scope: Scope) -> Holding:
        """A holding that is as coherent as the request wants, after healing if need be (``mirror.damaged`` if not)."""
        wanted = query_value(scope["query_string"], "coherence") or LEAST_COHERENCE
        holding = await self._library.find(release)
        if not _coherent(_copy(holding), wanted):
            await self._library.retry(holding)
            if not _coherent(_copy(holding), wanted):
                message = f"the copy of {release} has coherence {_copy(holding).coherence} and cannot be healed"
                raise TransportFault("mirror.damaged", message)
        return holding

    def _file(self, holding: Holding, suffix: str) -> AbstractAsyncContextManager[CopyFile]:
        return opened(self._library, holding, suffix, lambda copy: _size(copy, suffix))

    async def _send_file(self, release: ReleaseId, suffix: str, scope: Scope, send: Send) -> None:
        holding = await self._library.find(release)
        async with self._file(holding, suffix) as file:
            copy = _copy(holding)
            media_type = "application/x-bittorrent" if suffix == ".torrent" else _BYTES
            await respond(scope, send, Entity(file.size, _tag(copy, suffix), media_type, file, _FOR_EVER))

    async def _send_small(self, release: ReleaseId, suffix: str, scope: Scope, send: Send) -> None:
        """A document that was judged, and with it how large it is."""
        async with self._file(await self._library.find(release), suffix) as file:
            data = await file.read(0, file.size)
        await respond(scope, send, Entity.of_bytes(data, _tag_of(data), _JSON, _FOR_MINUTES))

    async def _part_files(self, holding: Holding, component: int) -> list[bytes]:
        """One component is read and cut at a time: whoever waits for that holds nothing, and finds what others made."""
        key = (_copy(holding).minimal.infohash.hex, component)
        if key not in self._components:
            async with self._building:
                if key not in self._components:
                    self._components[key] = await self._cut(holding, component)
                    if len(self._components) > _CACHED_COMPONENTS:
                        self._components.popitem(last=False)
        self._components.move_to_end(key)
        return self._components[key]

    async def _cut(self, holding: Holding, component: int) -> list[bytes]:
        copy = _copy(holding)
        try:
            parts = TgzComponents(await self._library.chunk_map(copy))
        except ContentRejected as error:
            raise NotFound("mirror.absent", f"{copy.minimal.release} is too large for parts") from error
        if component >= parts.count:
            raise NotFound("mirror.absent", f"{copy.minimal.release} has {parts.count} components")
        offset, length = parts.span(component)
        async with self._file(holding, ".tgz") as file:
            file.prepare([(offset, offset + length)])
            data = await file.read(offset, offset + length)
        return await trio.to_thread.run_sync(lambda: part_files(parts.build(component, data)))

    def _read_index(self, path: Path, name: PackageName) -> bytes:
        with contextlib.suppress(NotFound):
            return self._signed_index(read_bounded(path, limits.INDEX_RECORD_BYTES), name)
        raise NotFound("mirror.absent", f"there is no index of {name} that a publisher of it signed")

    def _signed_index(self, data: bytes, name: PackageName) -> bytes:
        held = [one.copy.minimal for one in list(self._library.holdings.values()) if one.copy is not None]
        for publisher in {minimal.pubkey for minimal in held if minimal.name == name}:
            try:
                parse_index(data, publisher)
            except LibreSeedError:
                continue
            return data
        raise NotFound("mirror.absent", f"nobody of {name} signed it")

    async def _listing(self, name: str, make: Callable[[Library], bytes], scope: Scope, send: Send) -> None:
        changes = self._library.changes
        if self._listings.get(name, (-1, b""))[0] != changes:
            self._listings[name] = (changes, await trio.to_thread.run_sync(make, self._library))
        data = self._listings[name][1]
        await respond(scope, send, Entity.of_bytes(data, _tag_of(data), _JSON, _FOR_MINUTES))


def _copy(holding: Holding) -> Copy:
    if holding.copy is None:
        raise NotFound("mirror.absent", f"{holding.release} is not shown any longer")
    return holding.copy


def _coherent(copy: Copy, wanted: Fraction) -> bool:
    found = copy.coherence
    return copy.whole and found.verified * wanted.denominator >= found.parts * wanted.numerator


def _size(copy: Copy, suffix: str) -> int:
    if suffix == ".tgz":
        return copy.minimal.size
    grid = ChunkGrid(copy.minimal.size)
    if suffix == ".parity":
        return grid.parity_bytes(copy.note.m)
    if suffix == ".chunks":
        return grid.map_bytes(copy.note.m)
    return int(copy.note.stamps[suffix].partition(":")[0])


def _tag(copy: Copy, suffix: str) -> str:
    """A strong ETag: everything about a release follows from the SHA-256 of its .tgz and its chunk map."""
    return f'"{copy.minimal.infohash.hex[:32]}{copy.minimal.chunks.hex[:16]}{suffix}"'


def _tag_of(data: bytes) -> str:
    return f'"{blake3(data).hexdigest()[:48]}"'


def _named(copy: Copy, ending: str) -> Fields:
    return (*_FOR_EVER, ("content-disposition", f'attachment; filename="{copy.minimal.release}.{ending}"'))


async def _send_json(scope: Scope, send: Send, value: object, fields: Fields) -> None:
    data = json.dumps(value, sort_keys=True).encode() + b"\n"
    await respond(scope, send, Entity.of_bytes(data, _tag_of(data), _JSON, fields))
