"""The demo's Silexium server: a real one in its own process, which is its own time stamp authority and calendar.

It attests, stamps and logs one release; nothing of it is trusted but what the policy that it prints names. Its stamps
prove nothing about whoever runs it, and the demo says so.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from libreseed import limits
from libreseed.errors import LocalFault

from .stage import Stage

__all__ = ["Notary"]

_ORIGIN = "demo.invalid/silexium-b3"
_PATIENCE_S = 30.0
_ASK_AGAIN_S = 0.1  # another process: asked again, as a user would


@dataclass(slots=True)
class Notary:
    """One ``libreseed-silexium serve`` at ``url``; ``folder`` holds its settings, keys, database and authorities."""

    stage: Stage
    folder: Path
    process: subprocess.Popen[bytes]
    url: str = ""

    @classmethod
    @asynccontextmanager
    async def started(cls, stage: Stage, host: str, keys: Mapping[str, str]) -> AsyncIterator[Notary]:
        """Run a new server on ``host`` that takes releases of these ``keys`` (role -> key) until the block ends."""
        folder = stage.root / "silexium"
        run = stage.run
        line = ("init", folder, "--origin", _ORIGIN, "--listen", f"{host}:0", "--embedded")
        (await run("silexium", *line)).demand()

        async def trust(role: str, key: str) -> None:
            (await run("silexium", "key", "trust", key, "--role", role, "--config", folder)).demand()

        async with trio.open_nursery() as nursery:
            for role, key in keys.items():
                nursery.start_soon(trust, role, key)
        path = stage.root / "silexium.log"
        with path.open("wb") as log:
            notary = cls(stage, folder, stage.daemon("silexium", log, "serve", "--config", folder))
            try:
                notary.url = await notary._serving(path)
                yield notary
            finally:
                await notary.stop()

    async def log(self, release_set: Path, release: str) -> bytes:
        """Take a release in, and wait until it is stamped and logged; returns its bundle."""
        from libreseed.adapters.http.client import HttpClient

        (await self.stage.run("silexium", "ingest", release_set, "--config", self.folder)).demand()
        async with HttpClient() as client:
            with trio.move_on_after(_PATIENCE_S):
                while True:
                    answer = await client.get(f"{self.url}/bundle/{release}", most=limits.BUNDLE_BYTES)
                    if answer.status == 200:
                        return answer.body
                    await trio.sleep(_ASK_AGAIN_S)
        raise LocalFault("demo.daemon", f"the Silexium server does not log {release}; see {self.stage.root}")

    async def policy(self) -> Mapping[str, Any]:
        """Whom to believe, as the server itself says it: the table ``[silexium]`` of a policy."""
        table: Mapping[str, Any] = (await self.stage.run("silexium", "policy", "--config", self.folder)).demand()
        return dict(table["policy"])

    async def stop(self) -> None:
        """End the process, if it still runs."""
        self.process.terminate()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.process.wait)

    async def _serving(self, log: Path) -> str:
        with trio.move_on_after(_PATIENCE_S):
            while self.process.poll() is None:
                for line in log.read_text(encoding="utf-8").splitlines():
                    if line.startswith("http://"):
                        return line
                await trio.sleep(_ASK_AGAIN_S)
        raise LocalFault("demo.daemon", f"the Silexium server does not start; see {log}")
