"""One resolve, wired together: DHT, torrent session, store and the engine's eleven steps (DESIGN 4).

It composes and times; every judgement is the engine's, every wish the fetch plan's. Nothing is visible before step 11.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed.adapters.command.console import Progress
from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.files.durable import remove_leftovers
from libreseed.adapters.resolving.store import ReleaseLock, Store, Workspace
from libreseed.adapters.resolving.trust_store import TrustStore
from libreseed.errors import ContentRejected, LocalFault, NotFound, TransportFault
from libreseed.package.minimal import MinimalManifest
from libreseed.resolve.engine import FoundRecord, Resolution
from libreseed.resolve.floors import raise_floor
from libreseed.resolve.policy import Policy
from libreseed.resolve.receipt import Receipt
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis, trusted_publishers, untrusted

from .job import Job
from .marking import at_step, directories, marked
from .network import DhtFactory, Network, default_dht
from .outcome import Outcome, Steps

if TYPE_CHECKING:
    from .content import Content

__all__ = ["Options", "resolve"]


@dataclass(frozen=True, slots=True)
class Options:
    """What one run may use. ``timeout`` in seconds bounds the whole of it."""

    request: Request
    policy: Policy
    store: Path
    out: Path | None = None
    bootstrap: tuple[Endpoint, ...] = ()
    peers: tuple[Endpoint, ...] = ()
    listen: tuple[Endpoint, ...] = (Endpoint("0.0.0.0", 0), Endpoint("::", 0))  # noqa: S104  # peers are everywhere
    timeout: float = math.inf
    make_dht: DhtFactory = field(default=default_dht)


async def resolve(options: Options, progress: Progress) -> Outcome:
    """Resolve and install; raises :class:`LibreSeedError` (maybe in a group) with the step that failed."""
    run = _Run(options, progress)
    with marked(run.step, run.place):
        with trio.move_on_after(options.timeout):
            return await run.outcome()
        message = f"not complete after {options.timeout:g} s, in step {run.step()}"
        raise TransportFault("deadline.total", message)


class _Run:
    def __init__(self, options: Options, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        self.store = Store(options.store)
        self.steps = Steps()
        self.resolution = Resolution(options.request, options.policy)
        self.release = options.request.release
        parent = options.out.expanduser().absolute() if options.out is not None else self.store.packages
        self.final = parent / str(self.release)
        self.basis: TrustBasis | None = None
        self._space: Workspace | None = None

    def step(self) -> int:
        """The step that is under way."""
        return min(self.resolution.completed + 1, 11)

    def place(self) -> Path:
        """Where this step writes."""
        return self.store.root if self.step() < 7 else self.final.parent

    async def outcome(self) -> Outcome:
        with at_step(1), directories():
            await trio.to_thread.run_sync(self._begin)
        self.steps.done(1)
        if (found := await self._installed()) is not None:
            return found
        if not self.options.request.offline:
            await trio.to_thread.run_sync(self._prepare)
        lock = self.store.lock(self.release)
        try:
            waited = not self.options.request.offline and await self._take(lock)
            if waited and (found := await self._installed()) is not None:
                return found  # another resolver finished it meanwhile
            return await self._obtain_and_install()
        except BaseException as error:
            if self._space is not None and _is_refusal(error):
                await trio.to_thread.run_sync(self.store.discard, self._space)
            raise
        finally:
            lock.close()

    # --- step 1 ------------------------------------------------------------------------------------------------------
    def _begin(self) -> None:
        request, store = self.options.request, self.store
        self.basis = trusted_publishers(request, self.options.policy.publishers, TrustStore(store.root).pins())
        floors = store.floors(self.release, self.basis.keys if self.basis else ())
        self.resolution.begin(self.basis, floors)

    def _prepare(self) -> None:
        """Everything that can fail on this machine fails before anything is fetched."""
        with directories():
            self.store.open()
            self.final.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.final.parent)

    async def _take(self, lock: ReleaseLock) -> bool:
        """Hold the release's lock; True if another process had it first."""
        if await trio.to_thread.run_sync(partial(lock.acquire, wait=False)):
            return False
        self.progress.note(f"another process resolves {self.release} into this store: waiting for it")
        await trio.to_thread.run_sync(partial(lock.acquire, wait=True), abandon_on_cancel=True)
        return True

    # --- what is there already ---------------------------------------------------------------------------------------
    async def _installed(self) -> Outcome | None:
        receipt = await trio.to_thread.run_sync(self.store.receipt, self.release, self.final)
        if receipt is None or not self.final.is_dir():
            return None
        return await self._still_good(receipt)

    async def _still_good(self, receipt: Receipt) -> Outcome:
        if self.basis is None:
            raise untrusted(self.options.request, [receipt.minimal.pubkey])
        if receipt.minimal.pubkey not in self.basis.keys:
            raise LocalFault("storage.occupied", f"{self.final} holds the release of another publisher")
        with at_step(9):
            await trio.to_thread.run_sync(_check_tree, self.final, receipt.minimal)
        self.steps.done(9)
        return Outcome(receipt.minimal, str(self.final), self.basis.why, receipt.silexium, True, self.steps)

    async def _adopt(self) -> Outcome | None:
        """A tree without its receipt: a crash came between the two, if it is exactly the release that was found."""
        if not self.final.exists():
            return None
        minimal = self.resolution.minimal
        try:
            await trio.to_thread.run_sync(_check_tree, self.final, minimal)
        except LocalFault as error:
            message = f"{self.final} exists and is not {self.release}: {error.evidence.get('what', error)}"
            raise LocalFault("storage.occupied", message) from error
        why = self.basis.why if self.basis is not None else ""
        receipt = Receipt(minimal, str(self.final), _now_ms(), why, "not checked")
        floor = self.resolution.trusted.floors.get(minimal.pubkey)
        floor = raise_floor(floor, self.release, minimal.pubkey, minimal.timestamp, minimal.data)
        await trio.to_thread.run_sync(self.store.keep_floor, floor)
        await trio.to_thread.run_sync(self.store.keep_receipt, receipt)
        return Outcome(minimal, str(self.final), why, receipt.silexium, True, self.steps)

    # --- steps 2 to 11 -----------------------------------------------------------------------------------------------
    async def _obtain_and_install(self) -> Outcome:
        if self.options.request.offline:
            space, record = await trio.to_thread.run_sync(self._left_in_store)
            self._accept(record)
            from .content import obtain_offline

            job = self._job(space)
            return await self._install(job, await obtain_offline(job), record.source)
        options = self.options
        async with trio.open_nursery() as nursery:
            network = Network(nursery, options.make_dht, options.bootstrap, options.listen, self.store.root)
            with at_step(2):
                record = await network.find(options.request, self.basis)
            self._accept(record)
            await network.loaded()
            if (there := await self._adopt()) is None:
                minimal = self.resolution.minimal
                space = await trio.to_thread.run_sync(self.store.workspace, self.release, minimal.torrent)
                from .content import obtain_online

                job = self._job(space)
                content = await obtain_online(job, network, options.peers)
                there = await self._install(job, content, record.source)
            nursery.cancel_scope.cancel()
        return there

    def _accept(self, record: FoundRecord) -> None:
        self.resolution.record(record)
        self.steps.done(2)
        self.resolution.minimal_manifest(_now_ms())
        self.steps.done(3)

    def _left_in_store(self) -> tuple[Workspace, FoundRecord]:
        """A download that an earlier run began; offline, there is nothing else."""
        for space in self.store.workspaces(self.release):
            if space.record.exists() and self.basis is not None:
                data = space.record.read_bytes()
                for key in self.basis.keys:
                    if str(key).encode() in data:
                        return space, FoundRecord(key, data, None, "store")
        raise NotFound("notfound.offline", f"{self.release} is not in the store {self.store.root}")

    def _job(self, space: Workspace) -> Job:
        self._space = space
        return Job(self.resolution, self.store, space, self.steps, self.progress)

    async def _install(self, job: Job, content: Content, source: str) -> Outcome:
        """Steps 7 to 11; then the workspace goes."""
        from .install import install

        sha256 = await content.sha256(self.resolution.minimal.infohash)
        receipt = await trio.to_thread.run_sync(install, job, content.tgz, sha256, self.final, _now_ms)
        await content.share()
        sources = {"record": source, **await content.sources()}
        await self._leave(job, content)
        minimal, path, trust, silexium = receipt.minimal, receipt.path, receipt.trust, receipt.silexium
        return Outcome(minimal, path, trust, silexium, False, self.steps, chunks=content.chunks(), sources=sources)

    async def _leave(self, job: Job, content: Content) -> None:
        await content.close()
        await trio.to_thread.run_sync(self.store.discard, job.space)


def _check_tree(root: Path, minimal: MinimalManifest) -> None:
    from libreseed.adapters.packing.tree_check import check_tree_on_disk

    check_tree_on_disk(root, minimal)


def _is_refusal(error: BaseException) -> bool:
    """Whether content was refused for good. What is only incomplete is kept: the next run goes on with it."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_refusal(inner) for inner in error.exceptions)
    return isinstance(error, ContentRejected) and error.reason != "repair.beyond"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
