"""Who plays in the demo besides the commands: plain DHT nodes in this process, and seeder daemons as real processes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import trio

from .stage import Stage

__all__ = ["Seeder", "dht_nodes"]

_PATIENCE_S = 30.0
_POLL_S = 0.1  # the daemon is another process: its control socket is asked, as a user would


@asynccontextmanager
async def dht_nodes(count: int) -> AsyncIterator[list[str]]:
    """``count`` nodes on 127.0.0.11 and up, knowing each other; yields their addresses as ``host:port``."""
    from libreseed.adapters.udp import DhtNode, DhtOptions

    addresses: list[tuple[str, int]] = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            options = DhtOptions(bind=((f"127.0.0.{11 + number}", 0),), bootstrap=tuple(addresses[:3]))
            node = DhtNode(options)
            await nursery.start(node.run)
            addresses.append(node.addresses[0])
        yield [f"{host}:{port}" for host, port in addresses[:3]]
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
    async def started(cls, stage: Stage, name: str, host: str, bootstrap: list[str]) -> AsyncIterator[Self]:
        """Run a seeder on ``host`` (ports of the system's choice) until the block ends."""
        state = stage.folder(name)
        flags = [part for address in bootstrap for part in ("--bootstrap", address)]
        with (stage.root / f"{name}.log").open("wb") as log:
            line = ("run", "--state-dir", state, "--listen", f"{host}:0", "--dht-port", 0, *flags)
            seeder = cls(stage, name, state, stage.daemon("seeder", log, *line))
            try:
                status = await seeder._wait(lambda status: status is not None)
                seeder.listen = status["listen"][0]
                yield seeder
            finally:
                seeder.process.terminate()
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(seeder.process.wait)

    async def status(self) -> Mapping[str, Any] | None:
        """What the daemon says of itself; None while it does not answer."""
        ask = self.stage.command
        outcome = await trio.to_thread.run_sync(ask, "seeder", "status", "--state-dir", self.state)
        return outcome.data if outcome.exit_code == 0 else None

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        await trio.to_thread.run_sync(self.process.wait)
