"""Who plays in the demo besides the commands: plain DHT nodes in this process, and seeder daemons as real processes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from libreseed.errors import LocalFault

from .stage import Stage

if TYPE_CHECKING:
    from libreseed.adapters.dht.udp import DhtNode

__all__ = ["Seeder", "dht_nodes"]

_PATIENCE_S = 30.0
_ASK_AGAIN_S = 0.2  # the daemon is another process: its control socket is asked again, as a user would
# A seeder looks every few seconds at what it gives away, and heals it: whether it would notice the demo's damage before
# the user has downloaded everything is chance, and the demo shows one thing after the other.
_SETTINGS = "spot-interval = 3600\n"


@asynccontextmanager
async def dht_nodes(count: int) -> AsyncIterator[list[DhtNode]]:
    """``count`` nodes on 127.0.0.11 and up that know each other, until the block ends."""
    from libreseed.adapters.dht.udp import DhtNode, DhtOptions

    nodes: list[DhtNode] = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            known = tuple(other.addresses[0] for other in nodes[:3])
            node = DhtNode(DhtOptions(listen=((f"127.0.0.{11 + number}", 0),), bootstrap=known))
            await nursery.start(node.run)
            nodes.append(node)
        yield nodes
        nursery.cancel_scope.cancel()


@dataclass(slots=True)
class Seeder:
    """One ``libreseed-seeder run`` and its state directory."""

    stage: Stage
    name: str
    state: Path
    process: subprocess.Popen[bytes]
    listen: str = ""

    @classmethod
    @asynccontextmanager
    async def started(cls, stage: Stage, name: str, host: str, bootstrap: list[str]) -> AsyncIterator[Seeder]:
        """Run a seeder on ``host`` (ports of the system's choice) until the block ends."""
        state, config = stage.folder(name), stage.root / f"{name}.toml"
        config.write_text(_SETTINGS, encoding="utf-8")
        flags = [part for address in bootstrap for part in ("--bootstrap", address)]
        with (stage.root / f"{name}.log").open("wb") as log:
            line = ("run", "--config", config, "--state-dir", state, "--listen", f"{host}:0", "--dht-port", 0, *flags)
            seeder = cls(stage, name, state, stage.daemon("seeder", log, *line))
            try:
                status = await seeder._until("status", lambda status: bool(status.get("listen")))
                seeder.listen = str(status["listen"][0])
                yield seeder
            finally:
                seeder.process.terminate()
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(seeder.process.wait)

    async def announced(self, release: str) -> None:
        """Wait until the daemon has put the record of ``release`` into the DHT."""
        await self._until("list", lambda answer: _entry(answer, release).get("last_put") is not None)

    async def scrub(self, release: str) -> int:
        """Have it read ``release`` from the disk; returns how many chunks it has healed."""
        ask = self.stage.command
        (await trio.to_thread.run_sync(ask, "seeder", "scrub", "--state-dir", self.state)).demand()
        answer = (await trio.to_thread.run_sync(ask, "seeder", "list", "--state-dir", self.state)).demand()
        return int(_entry(answer, release)["healed"])

    def stored(self, release: str, suffix: str) -> Path:
        """The daemon's own copy of a file of ``release``."""
        (path,) = self.state.glob(f"releases/{release}.*/{release}{suffix}")
        return path

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        await trio.to_thread.run_sync(self.process.wait)

    async def _until(self, command: str, good: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
        """Ask ``command`` until its answer is ``good``; raises :class:`LocalFault` when it never is."""
        answer: Mapping[str, Any] = {}
        with trio.move_on_after(_PATIENCE_S):
            while self.process.poll() is None:
                outcome = await trio.to_thread.run_sync(
                    self.stage.command, "seeder", command, "--state-dir", self.state, abandon_on_cancel=True
                )
                answer = outcome.data if outcome.exit_code == 0 else {}
                if answer and good(answer):
                    return answer
                await trio.sleep(_ASK_AGAIN_S)
        raise LocalFault("demo.daemon", f"{self.name} does not do what it must; see {self.stage.root / self.name}.log")


def _entry(answer: Mapping[str, Any], release: str) -> Mapping[str, Any]:
    return next((entry for entry in answer["releases"] if entry["release"] == release), {})
