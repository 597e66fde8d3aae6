"""``libreseed demo --mirror``: the swarm is dead, two mirrors are damaged, a third one lies; the two together suffice.

The commands are the real ones; the mirrors are static exports on real HTTP servers, because a mirror that serves its
own store heals it first. Every act states claims that it checks itself. Nothing leaves this machine.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from libreseed.adapters.command.terminal import counted, human_bytes
from libreseed.repair.grid import ChunkGrid

from .damage import flip_chunks, same_trees
from .demo import DemoOptions, own_sources
from .stage import Outcome, Stage
from .story import Story

__all__ = ["run_mirror_demo"]

_ADDED_BY_PACKAGER = frozenset({"manifest.json", "SRC"})
_VERSION = "1.0.0"
_DEAD = "127.0.0.199:9"  # nobody listens there


@dataclass(slots=True)
class _Scene:
    stage: Stage
    story: Story
    source: Path
    release_id: str
    built: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> ChunkGrid:
        return ChunkGrid(int(self.built["size"]))

    async def resolve(self, store: str, mirrors: Iterable[str]) -> Outcome:
        """A resolve whose DHT and swarm are dead."""
        policy = self.stage.root / "policy.toml"
        policy.write_text("patience-seconds = 2\npeer-silence-seconds = 3\n", encoding="utf-8")
        flags = [part for url in mirrors for part in ("--mirror", url)]
        flags += ["--bootstrap", _DEAD, "--publisher", str(self.built["pubkey"]), "--policy", str(policy)]
        place = self.stage.root / store
        return await self.stage.run("resolve", self.release_id, "--store", place, *flags, "--no-silexium")


async def run_mirror_demo(options: DemoOptions, story: Story) -> None:
    """Play all acts and tell them to ``story``; raises when a command that must work does not."""
    stage = Stage(options.root)
    source = options.source
    if source is None:
        source = await trio.to_thread.run_sync(own_sources, stage.folder("source"))
    scene = _Scene(stage, story, source, f"{options.name}@{_VERSION}")
    await _package(scene, options.name)
    folders = await _export(scene)
    async with AsyncExitStack() as servers:
        urls = [await servers.enter_async_context(_serving(folder)) for folder in folders]
        await _damage(scene, folders, urls)
        await _alone(scene, urls)
        await _together(scene, urls)


async def _package(scene: _Scene, name: str) -> None:
    story, stage = scene.story, scene.stage
    story.act("Package")
    key = stage.folder("publisher") / "key"
    (await stage.run("packager", "keygen", "--out", key, "--no-passphrase")).demand()
    line = ["build", scene.source, "--name", name, "--version", _VERSION, "--key", key]
    scene.built = (await stage.run("packager", *line, "--out", stage.folder("release"))).demand()
    size, grid = scene.built["size"], scene.built["grid"]
    story.fact("package", size, f"{scene.release_id}.tgz, {human_bytes(size)}")
    story.fact(
        "chunks",
        grid["n"],
        f"{grid['n']} of 5120 bytes in {counted(grid['s'], 'stripe')} with {grid['m']} parity rows each",
    )
    shutil.rmtree(stage.root / "publisher")


async def _export(scene: _Scene) -> list[Path]:
    """Three copies of one export, as three operators would have them."""
    story, stage = scene.story, scene.stage
    story.act("Export")
    story.aside("Three operators put the release on web servers. They hold no key; the publisher's is gone.")
    first = stage.root / "mirror-1"
    line = ("export", first, "--store", stage.root / "release", "--no-parts", "--no-zip")
    (await stage.run("mirror", *line)).demand()
    folders = [first, *(stage.root / f"mirror-{number}" for number in (2, 3))]
    for folder in folders[1:]:
        await trio.to_thread.run_sync(shutil.copytree, first, folder)
    same = all(same_trees(first, folder, ignore=frozenset()) for folder in folders)
    story.claim("the exports are plain files, the same everywhere", same)
    return folders


@asynccontextmanager
async def _serving(folder: Path) -> AsyncIterator[str]:
    """A real HTTP server over the folder's files, on loopback; its base URL."""
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    from libreseed.adapters.http.server import HttpServerOptions, serve

    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])
    host = f"127.0.0.{110 + int(folder.name[-1])}"
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(serve, app, HttpServerOptions(host=host, grace_seconds=0.5))
        yield urls[0]
        nursery.cancel_scope.cancel()


async def _damage(scene: _Scene, folders: Sequence[Path], urls: Sequence[str]) -> None:
    """Rot: the first copy loses its end, the second its start; a little is lost in both; the third is all wrong."""
    story, n = scene.story, scene.grid.n
    story.act("Disaster")
    story.aside("No seeder is left, no DHT node answers, and the mirrors' disks have rotted without their knowing.")
    both = list(range(n // 2, n // 2 + max(1, n // 100)))  # what nobody has: parity must give it
    lost = ([*both, *range(n * 7 // 10, n)], [*range(n * 3 // 10), *both], list(range(n)))
    for number, (folder, chunks) in enumerate(zip(folders, lost, strict=True)):
        path = folder / "seed" / scene.release_id / f"{scene.release_id}.tgz"
        await trio.to_thread.run_sync(flip_chunks, path, chunks, number)
        story.fact(
            f"mirror {number + 1}", urls[number], f"{urls[number]}, {100 * len(chunks) / n:.0f} % of the chunks wrong"
        )
    outcome = await scene.resolve("store-0", ())
    story.claim(f"without mirrors it is not to be had: exit {outcome.exit_code}", outcome.exit_code in (10, 11))


async def _alone(scene: _Scene, urls: Sequence[str]) -> None:
    scene.story.act("Alone")
    for number, url in enumerate(urls, 1):
        outcome = await scene.resolve(f"store-{number}", [url])
        words = str(outcome.data.get("message", ""))
        scene.story.fact(f"mirror {number}", outcome.exit_code, f"exit {outcome.exit_code}: {words[:100]}")
        refused = outcome.exit_code in (11, 31) and not _installed(scene.stage.root / f"store-{number}")
        scene.story.claim(f"mirror {number} alone is not enough, and nothing is installed", refused)


async def _together(scene: _Scene, urls: Sequence[str]) -> None:
    story = scene.story
    story.act("Together")
    started = time.perf_counter()
    result = (await scene.resolve("store", urls)).demand()
    seconds = time.perf_counter() - started
    sources, chunks = result["sources"], result["chunks"]
    story.fact("record", sources["record"], f"from {sources['record']}, signed by the publisher")
    faults = {fault["source"]: fault for fault in sources["faults"]}
    for number, url in enumerate(urls, 1):
        count, fault = sources["mirrors"][url], faults.get(url)
        told = f"{human_bytes(count)}; {fault['message']}" if fault else human_bytes(count)
        story.fact(f"mirror {number}", {"bytes": count, "fault": fault}, told)
    story.fact("repaired", chunks["repaired"], f"{chunks['repaired']} chunks that nobody had, from parity")
    share = sources["received"]["total"] / result["size"]
    story.fact("received", share, f"{share:.2f} times the package's bytes, in {seconds:.2f} s with the process's start")
    same = same_trees(scene.source, Path(result["path"]), ignore=_ADDED_BY_PACKAGER)
    story.claim("two damaged mirrors together gave the directory, bytes and modes", same)
    story.claim("the liar is named", faults.get(urls[2], {}).get("reason") == "source.mirror-lies")
    story.claim("what both had lost came from parity", chunks["repaired"] > 0)


def _installed(store: Path) -> bool:
    packages = store / "packages"
    return packages.is_dir() and any(packages.iterdir())
