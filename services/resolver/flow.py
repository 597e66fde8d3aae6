"""One resolve, wired together: DHT, torrent session, store and the engine's eleven steps (DESIGN 4).

It composes and times; every judgement is the engine's, every wish the fetch plan's. Nothing is visible before step 11.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed.adapters.command.console import Progress
from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.files.durable import remove_leftovers
from libreseed.adapters.resolving.store import ReleaseLock, Store, Workspace
from libreseed.adapters.resolving.trust_store import TrustStore
from libreseed.errors import ContentRejected, LocalFault, NotFound, ProofRejected, TransportFault
from libreseed.package.minimal import MinimalManifest
from libreseed.resolve.deadline import allowed_seconds
from libreseed.resolve.engine import FoundRecord, Resolution
from libreseed.resolve.policy import Policy
from libreseed.resolve.proofs import attested_basis, proven_author
from libreseed.resolve.receipt import Receipt
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis, trusted_publishers, untrusted

from .job import Job
from .loading import Loading, load_install
from .marking import at_step, directories, marked
from .mirror_options import MirrorOptions
from .network import DhtFactory, Network, default_dht
from .outcome import Outcome, Steps
from .proofs import (
    ProofOptions,
    collect_proofs,
    proven_before,
    require_bundle,
    require_no_conflict,
    require_places,
    still_proven,
)

if TYPE_CHECKING:
    from libreseed.adapters.silexium.proofs.proof_collector import Proven
    from libreseed.ids import Sha256Digest
    from libreseed.torrent.metainfo import TorrentInfo

    from .content import Content
    from .mirrors import MirrorAccess
    from .swarm import Swarm

__all__ = ["Options", "resolve"]


@dataclass(frozen=True, slots=True)
class Options:
    """What one run may use. ``timeout`` in seconds bounds the whole of it; infinity leaves it to the signed size."""

    request: Request
    policy: Policy
    store: Path
    out: Path | None = None
    bootstrap: tuple[Endpoint, ...] = ()
    peers: tuple[Endpoint, ...] = ()
    listen: tuple[Endpoint, ...] = (Endpoint("0.0.0.0", 0), Endpoint("::", 0))  # noqa: S104  # peers are everywhere
    timeout: float = math.inf
    mirrors: MirrorOptions = field(default_factory=MirrorOptions)
    make_dht: DhtFactory = field(default=default_dht)
    proofs: ProofOptions = field(default_factory=ProofOptions)


async def resolve(options: Options, progress: Progress) -> Outcome:
    """Resolve and install; raises :class:`LibreSeedError` (maybe in a group) with the step that failed."""
    run = _Run(options, progress)
    with marked(run.step, run.place):
        began = trio.current_time()
        with trio.move_on_after(options.timeout) as run.allowance:
            return await run.outcome()
        message = f"not complete after {run.allowance.deadline - began:g} s, in step {run.step()}"
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
        self._locked = False
        self.allowance = trio.CancelScope()  # what the whole of it may take
        self._proving = False
        self._proven: Proven | None = None
        self._proven_before: list[str] = []

    def step(self) -> int:
        """The step that is under way."""
        return 10 if self._proving else min(self.resolution.completed + 1, 11)

    def place(self) -> Path:
        """Where this step writes."""
        return self.store.root if self.step() < 7 else self.final.parent

    async def outcome(self) -> Outcome:
        with at_step(1), directories():
            await trio.to_thread.run_sync(self._begin)
        self.steps.done(1)
        found = await self._installed() or await self._fetched()
        return found.downgraded_from(self._proven_before)

    async def _fetched(self) -> Outcome:
        """What was not here: all that follows step 1, under the release's lock."""
        if not self.options.request.without_silexium:
            with at_step(1):
                require_places(self.options.proofs, self.options.request)
        if not self.options.request.offline:
            await trio.to_thread.run_sync(self._prepare)
        lock = self.store.lock(self.release)
        try:
            begun = await trio.to_thread.run_sync(self.store.workspaces, self.release)
            if begun or not self.options.request.offline:  # offline, a store is not made only to be locked
                await self._take(lock)
            if (found := await self._installed()) is not None:
                return found  # another resolver finished it meanwhile
            if not self.options.request.without_silexium:
                await self._prove()
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
        require_bundle(self.options.proofs)
        self.basis = trusted_publishers(request, self.options.policy.publishers, TrustStore(store.root).pins())
        floors = store.floors(self.release, self.basis.keys if self.basis else ())
        self.resolution.begin(self.basis, floors)
        if request.without_silexium:
            self._proven_before = proven_before(store, self.release)

    def _prepare(self) -> None:
        """Everything that can fail on this machine fails before anything is fetched."""
        with directories():
            self.store.open()
            self.final.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.final.parent)

    async def _take(self, lock: ReleaseLock) -> None:
        """Hold the release's lock, as soon as no other process does."""
        if not await trio.to_thread.run_sync(partial(lock.acquire, wait=False)):
            self.progress.note(f"another process resolves {self.release} into this store: waiting for it")
            await trio.to_thread.run_sync(partial(lock.acquire, wait=True), abandon_on_cancel=True)
        self._locked = True

    # --- step 10, what is about documents alone ----------------------------------------------------------------------
    async def _prove(self) -> None:
        """Checks 10.1 to 10.11: what they refuse is not downloaded, and the author whom they prove can be believed."""
        self._proving = True
        options = self.options
        with at_step(10):
            self._proven = await collect_proofs(
                options.proofs, options.request, options.policy, self.store, self.progress
            )
        verification = self._proven.verification
        author = proven_author(verification, options.policy)
        floors = await trio.to_thread.run_sync(self.store.floors, self.release, (author,))
        self.basis = self.resolution.attested(verification, floors).basis
        self.steps.done(10)
        self._proving = False

    # --- what is there already ---------------------------------------------------------------------------------------
    async def _installed(self) -> Outcome | None:
        """The release if it is here and needs nothing more; what was installed without proofs may need them now."""
        receipt = await trio.to_thread.run_sync(self.store.receipt, self.release, self.final)
        if receipt is None or not self.final.is_dir():
            return None
        if not self.options.request.without_silexium and not still_proven(receipt, self.options.policy):
            return None
        with at_step(10):
            await trio.to_thread.run_sync(require_no_conflict, receipt, self.options.policy, self.store)
        return await self._still_good(receipt)

    async def _still_good(self, receipt: Receipt) -> Outcome:
        if self.basis is None and still_proven(receipt, self.options.policy):
            self.basis = attested_basis(receipt, self.options.policy)
        if self.basis is None:
            raise untrusted(self.options.request, [receipt.minimal.pubkey])
        if receipt.minimal.pubkey not in self.basis.keys:
            raise LocalFault("storage.occupied", f"{self.final} holds the release of another publisher")
        with at_step(9):
            await trio.to_thread.run_sync(_check_tree, self.final, receipt.minimal, receipt.tree)
        self.steps.done(9)
        return Outcome.of(receipt, self.steps, already=True)

    async def _present(self) -> bool:
        """Whether a tree of the release lies there without its receipt, or with one that says less.

        A crash came between the two, or it was installed without proofs. Anything else in its place is refused.
        """
        if not os.path.lexists(self.final):
            return False
        try:
            await trio.to_thread.run_sync(_check_tree, self.final, self.resolution.minimal)
        except LocalFault as error:
            message = f"{self.final} exists and is not {self.release}: {error.evidence.get('what', error)}"
            raise LocalFault("storage.occupied", message) from error
        return True

    # --- steps 2 to 11 -----------------------------------------------------------------------------------------------
    async def _obtain_and_install(self) -> Outcome:
        if self.options.request.offline:
            space, record = await trio.to_thread.run_sync(self._left_in_store)
            self._accept(record)
            from .content import obtain_offline

            job = self._job(space)
            await trio.to_thread.run_sync(load_install)
            present = await self._present()
            return await self._install(job, await obtain_offline(job), record.source, present=present)
        async with trio.open_nursery() as nursery, self._open_mirrors() as mirrors:
            there = await self._fetch_and_install(nursery, mirrors)
            nursery.cancel_scope.cancel()
        return there

    async def _fetch_and_install(self, nursery: trio.Nursery, mirrors: MirrorAccess | None) -> Outcome:
        loading = Loading(nursery)
        network = self._open_network(nursery, loading)
        with at_step(2):
            record = await self._find(network, mirrors)
        self._accept(record)
        present = await self._present()  # no tree shows which .tgz it came from: that is fetched and judged again
        minimal = self.resolution.minimal
        job = self._job(await trio.to_thread.run_sync(self.store.workspace, self.release, minimal.torrent))
        entered = None
        if network is not None and mirrors is None and job.space.fresh:
            entered = await self._enter(job, network, nursery, loading)
        await loading.content()
        from libreseed.adapters.resolving.early_extraction import early_extraction

        from .content import obtain_online

        tgz = job.space.swarm / f"{self.release}.tgz"
        async with early_extraction(tgz, minimal, self.final.parent, self.progress) as early:
            job = replace(job, early=early)
            content = await obtain_online(job, network, self.options.peers, mirrors, entered)
            return await self._install(job, content, record.source, present=present)

    @asynccontextmanager
    async def _open_mirrors(self) -> AsyncIterator[MirrorAccess | None]:
        if not self.options.mirrors.urls:
            yield None
            return
        from .mirrors import open_mirrors

        with at_step(1):
            opened = open_mirrors(self.options.mirrors, self.release, self.options.policy.peer_silence_s)
        async with opened as mirrors:
            yield mirrors

    def _open_network(self, nursery: trio.Nursery, loading: Loading) -> Network | None:
        """DHT and swarm, unless mirrors are named and neither a DHT node nor a peer is."""
        options = self.options
        if options.mirrors.urls and not options.bootstrap and not options.peers:
            loading.begin()
            return None
        mixed, root = bool(options.mirrors.urls), self.store.root
        bootstrap, listen, then = options.bootstrap, options.listen, loading.begin
        return Network(nursery, options.make_dht, bootstrap, listen, root, on_session=then, mixed=mixed)

    async def _enter(
        self, job: Job, network: Network, nursery: trio.Nursery, loading: Loading
    ) -> tuple[Swarm, TorrentInfo]:
        """Begin with nothing, from the swarm alone: bytes flow before what judges them is even loaded."""
        from .swarm import Swarm

        await trio.to_thread.run_sync(job.space.record.write_bytes, job.resolution.minimal.data)
        swarm = await Swarm.enter(job, network, nursery, self.options.peers)
        loading.hurry()
        return swarm, await swarm.open(job)

    async def _find(self, network: Network | None, mirrors: MirrorAccess | None) -> FoundRecord:
        request = self.options.request
        if mirrors is None:
            assert network is not None
            return await network.find(request, self.basis)
        from .finding import find_anywhere

        return await find_anywhere(network if self.options.bootstrap else None, mirrors, request, self.basis)

    def _accept(self, record: FoundRecord) -> None:
        self.resolution.record(record)
        self.steps.done(2)
        self.resolution.minimal_manifest(_now_ms())
        self.steps.done(3)
        allowed = allowed_seconds(self.options.timeout, self.resolution.minimal.size)
        self.allowance.deadline = min(self.allowance.deadline, trio.current_time() + allowed)

    def _left_in_store(self) -> tuple[Workspace, FoundRecord]:
        """A download that an earlier run began; offline, there is nothing else. One that began just now is not ours."""
        for space in self.store.workspaces(self.release) if self._locked else ():
            if space.record.exists() and self.basis is not None:
                data = space.record.read_bytes()
                for key in self.basis.keys:
                    if str(key).encode() in data:
                        return space, FoundRecord(key, data, None, "store")
        raise NotFound("notfound.offline", f"{self.release} is not in the store {self.store.root}")

    def _job(self, space: Workspace) -> Job:
        self._space = space
        return Job(self.resolution, self.store, space, self.steps, self.progress)

    async def _install(self, job: Job, content: Content, source: str, *, present: bool) -> Outcome:
        """Steps 7 to 11; then the workspace goes."""
        from .install import install

        infohash = self.resolution.minimal.infohash
        sha256 = await content.sha256(infohash)
        trusted = sha256 == infohash and not content.disturbed  # what was extracted is what is on the disk
        if job.early is not None and not trusted:
            await job.early.drop()
        early = job.early if trusted else None
        take = partial(install, job, content.tgz, sha256, self.final, _now_ms, early=early, present=present)
        receipt = await trio.to_thread.run_sync(take)
        await content.share()
        sources = {"record": source, **await content.sources()}
        await self._leave(job, content)
        outcome = Outcome.of(receipt, self.steps, chunks=content.chunks(), sources=sources)
        return outcome if self._proven is None else outcome.proven_by(self._proven)

    async def _leave(self, job: Job, content: Content) -> None:
        await content.close()
        await trio.to_thread.run_sync(self.store.discard, job.space)


def _check_tree(root: Path, minimal: MinimalManifest, tree: Sha256Digest | None = None) -> None:
    from libreseed.adapters.packing.tree_check import check_tree_on_disk

    check_tree_on_disk(root, minimal, tree)


def _is_refusal(error: BaseException) -> bool:
    """Whether content was refused for good. What is only incomplete is kept: the next run goes on with it."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_refusal(inner) for inner in error.exceptions)
    if isinstance(error, ProofRejected):  # the content is not what was attested; other refusals say nothing about it
        return error.reason in ("silexium.artifact", "silexium.src")
    return isinstance(error, ContentRejected) and error.reason != "repair.beyond"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
