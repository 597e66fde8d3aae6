"""What the control socket can ask of the daemon, and the answers, which are the JSON that the commands print.

``add PATH``, ``list``, ``status``, ``metrics``, ``scrub [ID]``, ``remove ID``. Numbers are integers: bytes, whole
seconds, bytes per second. docs/operations.md, "Monitoring", says what each means.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import trio

import libreseed
from libreseed import wire
from libreseed.adapters.command.control import Request
from libreseed.adapters.dht.udp import DhtNode
from libreseed.adapters.torrent.torrent import TorrentStatus
from libreseed.dht.upkeep import Duty
from libreseed.errors import LibreSeedError, UsageFault

from .announcer import Announcer
from .config import SeederConfig
from .health import Meter
from .library import Holding, Library, Swarm
from .metrics import metrics_text
from .source import INDEX_SUFFIX, Source, handed_over, locate
from .watch import WatchFolder, note_quarantine

__all__ = ["Parts", "Requests"]

Answer = dict[str, wire.JsonValue]
_STATES = ("broken", "checking", "damaged", "seeding")


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a running daemon."""

    config: SeederConfig
    library: Library
    announcer: Announcer
    swarm: Swarm
    node: DhtNode
    meter: Meter
    watch: WatchFolder | None


class Requests:
    """Answers requests from what the daemon's parts know."""

    def __init__(self, parts: Parts) -> None:
        self._config = parts.config
        self._library = parts.library
        self._announcer = parts.announcer
        self._session, self._door = parts.swarm.session, parts.swarm.door
        self._node = parts.node
        self._meter = parts.meter
        self._watch = parts.watch
        self._began = trio.current_time()
        self._commands: dict[str, Callable[[Request], Awaitable[Answer]]] = {
            "add": self._add,
            "list": self._list,
            "metrics": self._metrics,
            "remove": self._remove,
            "scrub": self._scrub,
            "status": self._status,
        }

    async def __call__(self, request: Request) -> Mapping[str, wire.JsonValue]:
        """Answer ``request``; raises UsageFault ``control.request`` for an unknown one."""
        command = self._commands.get(request.command)
        if command is None:
            raise UsageFault("control.request", f"there is no command {request.command!r:.80}")
        return await command(request)

    async def _add(self, request: Request) -> Answer:
        """``files``: names of the files handed over with the request; without it the daemon reads ``path`` itself."""
        request.only("path", "files")
        path = Path(request.text("path"))
        if not path.is_absolute():
            raise UsageFault("control.request", "the path to add must be absolute")
        known = set(self._library.holdings)
        try:
            if path.name.endswith(INDEX_SUFFIX):
                return {"added": await self._library.add_index(path), "index": path.name}
            source = await trio.to_thread.run_sync(_source, request, path)
            holding = await self._library.add(source)
        except LibreSeedError as error:
            with contextlib.suppress(OSError):  # a full disk must not hide why the release was refused
                await trio.to_thread.run_sync(note_quarantine, self._library.store.quarantine, path, error)
            raise
        return {**await self._describe(holding, {}), "added": holding.key not in known}

    async def _list(self, request: Request) -> Answer:
        request.only()
        lags = self._announcer.lags()
        return {"releases": [await self._describe(one, lags) for _, one in sorted(self._library.holdings.items())]}

    async def metrics(self) -> str:
        """The page for Prometheus."""
        status, listed = await self._status(Request("status", {})), await self._list(Request("list", {}))
        return metrics_text(status, cast("Sequence[Mapping[str, Any]]", listed["releases"]))

    async def _metrics(self, request: Request) -> Answer:
        request.only()
        return {"text": await self.metrics()}

    async def _remove(self, request: Request) -> Answer:
        request.only("id")
        holding = await self._library.remove(request.text("id"))
        return {"id": holding.key, "release": holding.release, "removed": True}

    async def _scrub(self, request: Request) -> Answer:
        """Check one release, or all, now and at full speed."""
        request.only("id")
        one = [self._library.find(request.text("id"))] if "id" in request.arguments else None
        chosen = one or list(self._library.holdings.values())
        healed = self._meter.chunks_healed
        for holding in chosen:
            await self._library.check_for(holding)
        described = [await self._describe(holding, {}) for holding in chosen]
        return {"healed": self._meter.chunks_healed - healed, "releases": described}

    async def _describe(self, holding: Holding, lags: Mapping[str, int]) -> Answer:
        stored, swarm = holding.stored, await _swarm(holding)
        answer: Answer = {
            "down_rate": swarm.down_rate if swarm else 0,
            "fault": holding.fault,
            "folder": str(holding.folder),
            "id": holding.key,
            "lag": lags.get(holding.key, 0),
            "last_put": self._announcer.age_of(Duty(holding.key, "record")),
            "peers": len(swarm.peers) if swarm else 0,
            "pieces": swarm.pieces if swarm else 0,
            "record_nodes": self._announcer.confirmed.get(holding.key, 0),
            "pieces_offered": sum(byte.bit_count() for byte in swarm.have) if swarm else 0,
            "release": holding.release,
            "state": holding.state,
            "up_rate": swarm.up_rate if swarm else 0,
            "uploaded": swarm.uploaded if swarm else 0,
        }
        if stored is not None:
            note = stored.note
            answer |= {
                "added_ms": note.added_ms,
                "bad_data_chunks": sum(map(len, note.bad_data)),
                "bad_parity_chunks": sum(map(len, note.bad_parity)),
                "healed": note.healed,
                "publisher": str(stored.minimal.pubkey),
                "scrubbed_ms": note.scrubbed_ms,
                "size": stored.minimal.size,
                "torrent": str(stored.minimal.torrent),
            }
        return answer

    async def _status(self, request: Request) -> Answer:
        request.only()
        holdings = list(self._library.holdings.values())
        swarms = [swarm for one in holdings if (swarm := await _swarm(one)) is not None]
        counts = {state: sum(one.state == state for one in holdings) for state in _STATES}
        used = await trio.to_thread.run_sync(self._library.store.used_bytes)
        return {
            "announce": self._announcer.report(),
            "control_socket": str(self._config.control_socket),
            "dht": {
                "alone": self._node.alone,
                "listen": [_text(one) for one in self._node.addresses],
                "nodes": self._node.node_count,
            },
            "down_rate": sum(one.down_rate for one in swarms),
            "indexes": len(self._library.indexes),
            "legacy_listen": _text((self._session.addresses[0][0], self._door.port)),
            "listen": [_text(one) for one in self._session.addresses],
            "peers": sum(len(one.peers) for one in swarms),
            "pid": os.getpid(),
            "releases": {"total": len(holdings)} | counts,
            "scrub": {
                "beyond_repair": sum(one.state in ("damaged", "broken") for one in holdings),
                "bytes_hashed": self._meter.bytes_hashed,
                "chunks_healed": self._meter.chunks_healed,
                "chunks_judged": self._meter.chunks_judged,
                "files_mended": self._meter.files_mended,
                "releases_scrubbed": self._meter.scrubs,
            },
            "state_dir": str(self._config.state_dir),
            "store": {"max_bytes": self._config.max_store_bytes, "used_bytes": used},
            "up_rate": sum(one.up_rate for one in swarms),
            "uploaded": sum(one.uploaded for one in swarms),
            "uptime": int(trio.current_time() - self._began),
            "version": libreseed.__version__,
            "watch": None if self._watch is None else self._watch.report(),
        }


def _source(request: Request, path: Path) -> Source:
    names = request.arguments.get("files")
    if names is None:
        return locate(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageFault("control.request", "files is an array of names")
    return handed_over(path, names, request.descriptors)


async def _swarm(holding: Holding) -> TorrentStatus | None:
    """The torrent's state; None for a release that is not offered, or is being taken out just now."""
    torrent = holding.torrent
    if torrent is None:
        return None
    try:
        return await torrent.status()
    except trio.ClosedResourceError:
        return None


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
