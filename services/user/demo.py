"""``libreseed demo``: the main job on loopback, with the real commands, real daemons and damage done on purpose.

Every act runs what a user would run and states claims that it checks itself; one that does not hold fails the demo.
Nothing leaves this machine: all addresses are 127.0.0.x, all files lie below one folder, all processes end with it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from libreseed import wire
from libreseed.adapters.command.terminal import counted, human_bytes
from libreseed.dht.records import manifest_salt, minimal_from_item
from libreseed.package.minimal import parse_minimal
from libreseed.repair.grid import ChunkGrid

from .cast import Seeder, dht_nodes
from .damage import flip_chunks, same_trees, scattered, too_many
from .notary import Notary
from .stage import Stage
from .story import Story

if TYPE_CHECKING:
    from libreseed.adapters.dht.udp import DhtNode

__all__ = ["DemoOptions", "run_demo"]

_ADDED_BY_PACKAGER = frozenset({"manifest.json", "SRC"})
_VERSION = "1.0.0"
_CHECKS = [f"10.{number}" for number in range(1, 14)]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to package (None: LibreSeed's own sources) and under which name; where to play; how many plain DHT nodes."""

    source: Path | None
    root: Path
    name: str = "libreseed-demo"
    dht_nodes: int = 8


@dataclass(slots=True)
class _Scene:
    """What one act hands to the next."""

    stage: Stage
    story: Story
    source: Path
    release_id: str
    release: Path = field(init=False)
    built: Mapping[str, Any] = field(init=False)
    bundle: Path = field(init=False)
    nodes: list[DhtNode] = field(default_factory=list)

    async def run(self, program: str, *arguments: object) -> Any:
        """A command of ours to its end, in a thread."""
        return await self.stage.run(program, *arguments)

    def flags(self) -> list[str]:
        return [part for address in self.bootstrap for part in ("--bootstrap", address)]

    @property
    def bootstrap(self) -> list[str]:
        """The first DHT nodes as ``host:port``."""
        return ["{}:{}".format(*node.addresses[0]) for node in self.nodes[:3]]


async def run_demo(options: DemoOptions, story: Story) -> None:
    """Play all acts and tell them to ``story``; raises when a command that must work does not."""
    stage = Stage(options.root)
    source = options.source
    if source is None:
        source = await trio.to_thread.run_sync(own_sources, stage.folder("source"))
    scene = _Scene(stage, story, source, f"{options.name}@{_VERSION}")
    await _package(scene, options.name)
    async with AsyncExitStack() as cast:
        scene.nodes = await cast.enter_async_context(dht_nodes(options.dht_nodes))
        healthy = await cast.enter_async_context(Seeder.started(stage, "seeder-1", "127.0.0.101", scene.bootstrap))
        damaged = await cast.enter_async_context(Seeder.started(stage, "seeder-2", "127.0.0.102", scene.bootstrap))
        notary = await cast.enter_async_context(_attest(scene))
        await _seed(scene, healthy, damaged)
        await _resolve(scene)
        await notary.stop()
        await _disaster(scene, healthy, damaged)
        await _heal(scene, damaged)
        await _refusals(scene, damaged)


async def _package(scene: _Scene, name: str) -> None:
    story, stage = scene.story, scene.stage
    story.act("Package")
    story.aside("A publisher signs a directory; from here on nobody needs his key again.")
    key = stage.folder("publisher") / "key"
    (await scene.run("packager", "keygen", "--out", key, "--no-passphrase")).demand()
    arguments = ["build", scene.source, "--name", name, "--version", _VERSION, "--key", key]
    started = time.perf_counter()
    attested = ("--silexium", "--license", "Apache-2.0 OR MIT", "--out", stage.folder("release"))
    scene.built = (await scene.run("packager", *arguments, *attested)).demand()
    seconds = time.perf_counter() - started
    scene.release = stage.root / "release" / scene.release_id
    _tell_package(scene, seconds)
    license_text = ("--license", "Apache-2.0 OR MIT")
    again = (*arguments, *license_text, "--out", stage.folder("release-again"), "--timestamp", scene.built["timestamp"])
    (await scene.run("packager", *again)).demand()
    same = same_trees(scene.release, stage.root / "release-again" / scene.release_id, ignore=frozenset())
    story.claim("building it again gives the same bytes in all six files", same)
    verified = await scene.run("packager", "verify", scene.release / f"{scene.release_id}.tgz")
    story.claim("every signature, hash, parity row and the torrent verify", verified.exit_code == 0)


def _tell_package(scene: _Scene, seconds: float) -> None:
    built, story = scene.built, scene.story
    story.fact("directory", str(scene.source))
    story.fact("files", built["files"], f"{counted(built['files'], 'file')}, {human_bytes(built['contentSize'])}")
    story.fact("package", built["size"], f"{scene.release_id}.tgz, {human_bytes(built['size'])}")
    story.fact("publisher", built["pubkey"])
    grid = built["grid"]
    parity = grid["s"] * grid["m"]
    story.fact(
        "chunks",
        grid,
        f"{grid['n']} of 5120 bytes in {counted(grid['s'], 'stripe')}, {parity} more of Reed-Solomon parity",
    )
    story.fact("seconds", round(seconds, 3), f"{seconds:.2f} s, process start included")


@asynccontextmanager
async def _attest(scene: _Scene) -> AsyncIterator[Notary]:
    """Author, tests and server attest the release, authorities stamp that, and a log takes it in."""
    story, stage = scene.story, scene.stage
    story.act("Attest")
    story.aside("Three must say yes: the author, who did so above; the tests; and a server, which logs it in public.")
    key = stage.folder("tests") / "key"
    tests = (await scene.run("silexium", "key", "new", "--out", key, "--no-passphrase")).demand()["pubkey"]
    author, release_set = scene.built["pubkey"], stage.root / "release" / f"{scene.release_id}.silexium"
    passed = ("--author", author, "--suite", "demo", "--result", "pass")
    (await scene.run("silexium", "attest", "tests", release_set, "--key", key, *passed)).demand()
    async with Notary.started(stage, "127.0.0.103", {"author": author, "tests": tests}) as notary:
        started = time.perf_counter()
        data = await notary.log(release_set, scene.release_id)
        scene.bundle = stage.root / f"{scene.release_id}.silexium.json"
        scene.bundle.write_bytes(data)
        story.fact("server", notary.url)
        shown = f"{human_bytes(len(data))}, {time.perf_counter() - started:.2f} s after it was taken in"
        story.fact("bundle", len(data), shown)
        story.aside(
            "The server is its own time stamp authority, and mines its own chain: everything below is checked as"
        )
        story.aside("it would be with others' stamps, but these stamps prove nothing about whoever runs it.")
        table = {**await notary.policy(), "demand": "required", "sources": [notary.url]}
        policy = {"patience-seconds": 3, "peer-silence-seconds": 3, "silexium": table}
        (stage.root / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
        await _verify_alone(scene)
        yield notary


async def _verify_alone(scene: _Scene) -> None:
    tgz = scene.release / f"{scene.release_id}.tgz"
    line = ("verify", "--bundle", scene.bundle, "--policy", scene.stage.root / "policy.json", "--tgz", tgz)
    alone = await scene.run("user", *line)
    passed = [row["check"] for row in alone.data.get("checks", []) if row["verdict"] == "passed"]
    good = alone.exit_code == 0 and passed == _CHECKS
    scene.story.claim("the bundle alone proves the release, with no network: 13 of 13 checks", good)


async def _seed(scene: _Scene, *seeders: Seeder) -> None:
    story = scene.story
    story.act("Seed")
    story.aside("Two daemons check the release, announce its signed record in the DHT and seed it. They hold no key.")
    for seeder in seeders:
        added = (await scene.run("seeder", "add", scene.release, "--state-dir", seeder.state)).demand()
        story.fact(seeder.name, seeder.listen, f"{seeder.listen}, {added['state']}")
    await seeders[0].announced(scene.release_id)
    minimal = parse_minimal((scene.release / f"{scene.release_id}.minimal.json").read_bytes())
    item = await scene.nodes[-1].get_item(minimal.pubkey, manifest_salt(minimal.release))
    story.fact("DHT", len(scene.nodes), f"{len(scene.nodes)} more nodes, the last one was asked for the record")
    same = item is not None and minimal_from_item(item) == minimal
    story.claim("a stranger's DHT node finds the packager's signed record", same)
    for folder in ("publisher", "tests", "release-again"):
        shutil.rmtree(scene.stage.root / folder)
    story.aside("The publisher's machine, his key and that of the tests are gone now.")


async def _resolve(scene: _Scene) -> None:
    scene.story.act("Resolve")
    scene.story.aside(
        "A user asks for it by name, knowing a DHT node and a policy: which log and whose keys to believe."
    )
    result, installed, seconds = await _attempt(scene, "store-1")
    _tell_resolve(scene, result, seconds)
    for row in result["checks"]:
        seen = ", ".join(f"{name} {value}"[:60] for name, value in list(row["inputs"].items())[:1])
        scene.story.fact(f"check {row['check']}", row, f"{row['name']:<12} {row['verdict']:<7} {seen}")
    proven = [row["check"] for row in result["checks"] if row["verdict"] == "passed"] == _CHECKS
    scene.story.claim("all 13 checks of step 10 passed, and only then was anything visible", proven)
    scene.story.claim("nobody named the publisher: the log proves whose release it is", result["trust"] == "silexium")
    same = same_trees(scene.source, installed, ignore=_ADDED_BY_PACKAGER)
    scene.story.claim("the installed tree equals the directory, bytes and modes", same)


async def _attempt(scene: _Scene, store: str, *more: object) -> tuple[Mapping[str, Any], Path, float]:
    started = time.perf_counter()
    outcome = await _try_resolve(scene, store, *more)
    result = outcome.demand()
    return result, Path(result["path"]), time.perf_counter() - started


async def _try_resolve(scene: _Scene, store: str, *more: object) -> Any:
    root = scene.stage.root
    flags = [*scene.flags(), "--policy", root / "policy.json", "--timeout", "60", *more]
    return await scene.run("resolve", scene.release_id, "--store", root / store, *flags)


def _tell_resolve(scene: _Scene, result: Mapping[str, Any], seconds: float) -> None:
    story, chunks = scene.story, result["chunks"]
    for step in result["steps"]:
        story.fact(f"step {step['step']}", step, f"{step['name']:<44} {step['seconds'] * 1000:8.1f} ms")
    story.fact("chunks", chunks, f"{chunks['downloaded']} downloaded and verified, {chunks['repaired']} repaired")
    rate = result["size"] / seconds
    story.fact("seconds", round(seconds, 3), f"{seconds:.2f} s from process start to installed, {human_bytes(rate)}/s")


async def _disaster(scene: _Scene, healthy: Seeder, damaged: Seeder) -> None:
    story = scene.story
    story.act("Disaster")
    await healthy.kill()
    grid, parity_rows = _grid(scene)
    chunks = scattered(grid, parity_rows, seed=4)
    await trio.to_thread.run_sync(flip_chunks, damaged.stored(scene.release_id, ".tgz"), chunks, 5)
    story.aside("One seeder is killed with SIGKILL. The other one's disk rots behind its back; it does not know yet.")
    share = 100 * len(chunks) / grid.n
    story.fact("damage", len(chunks), f"{len(chunks)} of {grid.n} chunks have a wrong bit ({share:.1f} %)")
    story.aside("The Silexium server is gone as well: the proofs come from a file that was kept, its bundle.")
    result, installed, seconds = await _attempt(scene, "store-2", "--bundle", scene.bundle)
    _tell_resolve(scene, result, seconds)
    same = same_trees(scene.source, installed, ignore=_ADDED_BY_PACKAGER)
    story.claim("no complete copy was left, and the installed tree still equals the directory", same)
    repaired = result["chunks"]["repaired"]
    story.claim(f"Reed-Solomon gave back all {len(chunks)} damaged chunks", repaired >= len(chunks))
    story.claim("step 10 passed without any server", result["silexium"] == "proven")


async def _heal(scene: _Scene, damaged: Seeder) -> None:
    story = scene.story
    story.act("Heal")
    story.aside("The damaged seeder scrubs its disk, finds the rot and repairs it from parity.")
    healed = await damaged.scrub(scene.release_id)
    story.fact("healed chunks", healed)
    original, stored = (scene.release / f"{scene.release_id}.tgz", damaged.stored(scene.release_id, ".tgz"))
    story.claim("the seeder's file is the original again", original.read_bytes() == stored.read_bytes())


async def _refusals(scene: _Scene, damaged: Seeder) -> None:
    story = scene.story
    story.act("Refuse")
    story.aside("What cannot be proven is not installed, and leaves nothing behind.")
    stranger = "ed25519:" + "A" * 42 + "E="
    outcome = await _try_resolve(scene, "store-3", "--bundle", scene.bundle, "--publisher", stranger)
    story.claim(f"a publisher who signed nothing: exit {outcome.exit_code}", outcome.exit_code == 10)
    await _refuse_proofs(scene)
    grid, parity_rows = _grid(scene)
    lost = too_many(grid, parity_rows)
    await trio.to_thread.run_sync(flip_chunks, damaged.stored(scene.release_id, ".tgz"), lost, 6)
    outcome = await _try_resolve(scene, "store-4", "--bundle", scene.bundle)
    story.fact("beyond repair", outcome.data.get("message", ""))
    story.claim(f"one chunk more than parity can replace: exit {outcome.exit_code}", outcome.exit_code == 31)
    stores = [scene.stage.root / f"store-{number}" for number in (3, 4, 5, 6)]
    story.claim("none of them left anything visible", not any(map(_installed, stores)))


async def _refuse_proofs(scene: _Scene) -> None:
    """A proof with one changed letter; and none at all."""
    story = scene.story
    members = json.loads(scene.bundle.read_bytes())
    tests = members["attestations"]["tests"]
    members["attestations"]["tests"] = tests.replace('"pass"', '"fail"')
    tampered = scene.stage.root / "tampered.silexium.json"
    tampered.write_bytes(wire.canonical(members))
    outcome = await _try_resolve(scene, "store-5", "--bundle", tampered)
    told = (outcome.exit_code, outcome.data.get("check"), outcome.data.get("reason"))
    story.claim(f"a tampered attestation: exit {told[0]}, check {told[1]}, {told[2]}", told[:2] == (40, "10.3"))
    outcome = await _try_resolve(scene, "store-6")
    reason = outcome.data.get("reason")
    story.claim(f"no proofs to be had: exit {outcome.exit_code}, {reason}", reason == "silexium.unreachable")


def _grid(scene: _Scene) -> tuple[ChunkGrid, int]:
    return ChunkGrid(int(scene.built["size"])), int(scene.built["grid"]["m"])


def _installed(store: Path) -> bool:
    packages = store / "packages"
    return packages.is_dir() and any(packages.iterdir())


def own_sources(into: Path) -> Path:
    """Copy LibreSeed's own source tree (the checkout's, or the installed packages) and return the copy."""
    core = Path(__file__).resolve().parents[2] / "libreseed"
    checkout = core.parent
    folders = ["libreseed", "services", "tests", "docs", "bench", "contrib"]
    if not (checkout / "pyproject.toml").is_file():  # installed from a wheel
        import libreseed

        core = Path(libreseed.__file__).parent
        checkout, folders = core.parent, ["libreseed", "libreseed_services"]
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    for name in folders:
        if (checkout / name).is_dir():
            shutil.copytree(checkout / name, into / name, ignore=skip)
    return into
