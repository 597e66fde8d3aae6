"""Step 10's documents for one resolve: which places are asked, with which block headers, and what is remembered.

Composition only: asking is :class:`ProofCollector`'s, every verdict ``ReleaseVerification``'s. With a bundle named, or
offline, no server is asked at all. docs/specification/resolver.md, "Step 10".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from libreseed.adapters.command.console import Progress
from libreseed.adapters.resolving.store import Store
from libreseed.errors import NotFound, ProofRejected
from libreseed.ids import ReleaseId
from libreseed.resolve.policy import Policy
from libreseed.resolve.proofs import PROVEN, check_lines, require_still, unavailable
from libreseed.resolve.receipt import Receipt, parse_receipt
from libreseed.resolve.request import Request

if TYPE_CHECKING:
    from libreseed.adapters.silexium.proofs.proof_collector import Proven
    from libreseed.adapters.silexium.proofs.proof_source import ProofSource
    from libreseed.silexium.trust_policy import SilexiumPolicy

__all__ = [
    "ProofOptions",
    "collect_proofs",
    "proven_before",
    "require_bundle",
    "require_no_conflict",
    "require_places",
    "still_proven",
]


def _now() -> int:
    return int(time.time())


@dataclass(frozen=True, slots=True)
class ProofOptions:
    """Where the proofs come from: ``bundle`` (a file), then ``sources`` in order (URLs or folders); ``headers`` are
    places with block headers, ``ca_file`` replaces the system's authorities for HTTPS, ``explain`` has every
    check told with a refusal, ``now`` gives Unix seconds."""

    bundle: Path | None = None
    sources: tuple[str, ...] = ()
    headers: tuple[Path, ...] = ()
    ca_file: Path | None = None
    explain: bool = False
    now: Callable[[], int] = _now


async def collect_proofs(
    options: ProofOptions, request: Request, policy: Policy, store: Store, progress: Progress
) -> Proven:
    """Checks 10.1 to 10.11 of the requested release; raises exit 40, or 11 when no source answers."""
    from libreseed.adapters.silexium.proofs.proof_collector import ProofCollector
    from libreseed.adapters.silexium.proofs.trust_memory import TrustMemory
    from libreseed.adapters.silexium.stamps.header_sources import open_headers

    demanded = _policy(policy)
    progress.phase("asking for Silexium proofs")
    now = options.now()
    async with AsyncExitStack() as stack:
        sources = await _sources(options, request, stack)
        chains = await trio.to_thread.run_sync(partial(open_headers, options.headers, demanded.time, now=now))
        memory = TrustMemory(store.root)
        collector = ProofCollector(demanded, request.release, memory, now, chains, progress.note)
        with _explained(options.explain):
            return await collector.collect(sources)


@contextmanager
def _explained(wanted: bool) -> Iterator[None]:
    """Put the checks that a refusal carries among its lines for a person."""
    try:
        yield
    except ProofRejected as error:
        if wanted:
            error.details = (*check_lines(error.evidence.get("checks")), *error.details)
        raise


def still_proven(receipt: Receipt, policy: Policy) -> bool:
    """Whether what an installed release was proven by is enough for the policy of today."""
    try:
        require_still(receipt, policy)
    except ProofRejected:
        return False
    return True


def proven_before(store: Store, release: ReleaseId) -> list[str]:
    """Other releases of this name that were installed here with proofs: going without is a step down. Blocks."""
    found = set()
    for path in sorted((store.root / "receipts").glob(f"{release.name}@*.json")):
        receipt = parse_receipt(path.read_bytes())
        if receipt.silexium == PROVEN and receipt.minimal.release != release:
            found.add(str(receipt.minimal.release))
    return sorted(found)


def require_no_conflict(receipt: Receipt, policy: Policy, store: Store) -> None:
    """Refuse what rests on a log that has since been proven to fork; raises ``silexium.fork``. Blocks."""
    logs = () if policy.silexium is None else policy.silexium.logs
    log = next((log.identity for log in logs if log.identity.name == receipt.proofs.get("log")), None)
    if log is None:
        return
    from libreseed.adapters.silexium.proofs.trust_memory import TrustMemory

    if TrustMemory(store.root).conflict(log) is not None:
        message = f"{log.name} is proven to have forked; {receipt.minimal.release} was installed on its word"
        raise ProofRejected("silexium.fork", message, step=10)


def require_bundle(options: ProofOptions) -> None:
    """Say first of all that the file which was named is missing, whatever else would be; raises NotFound."""
    if options.bundle is not None and not options.bundle.is_file():
        raise NotFound("notfound.file", f"--bundle: there is no file {options.bundle}")


def require_places(options: ProofOptions, request: Request) -> None:
    """Say what could only fail later: no place to ask, none that may be asked.

    Raises ``silexium.unavailable`` with the ways out, ``usage``, NotFound.
    """
    from libreseed.adapters.silexium.proofs.proof_source import is_url

    folders = [named for named in options.sources if not is_url(named)]
    if options.bundle is None and request.offline and not folders:
        raise unavailable("Silexium proofs are required, and offline nobody can be asked: --bundle is missing")
    if options.bundle is None and not options.sources:
        raise unavailable("Silexium proofs are required, and nothing says where to get them")
    for folder in folders:
        if not Path(folder).expanduser().is_dir():
            raise NotFound("notfound.file", f"a source of proofs: there is no folder {folder}")


async def _sources(options: ProofOptions, request: Request, stack: AsyncExitStack) -> Sequence[ProofSource]:
    """The places to ask, in order. A bundle means that the proofs are here: no server is asked then."""
    from libreseed.adapters.silexium.proofs.proof_source import BundleFile, FolderSource, HttpSource, is_url

    folders = [FolderSource(Path(named).expanduser()) for named in options.sources if not is_url(named)]
    if options.bundle is not None:
        return [BundleFile(options.bundle), *folders]
    urls = [named for named in options.sources if is_url(named)]
    if request.offline or not urls:
        return folders
    from libreseed.adapters.http.client import HttpClient, HttpClientOptions

    client = await stack.enter_async_context(HttpClient(HttpClientOptions(ca_file=options.ca_file)))
    by_name: dict[str, ProofSource] = {url: HttpSource(client, url) for url in urls}
    return [by_name.get(named, FolderSource(Path(named).expanduser())) for named in options.sources]


def _policy(policy: Policy) -> SilexiumPolicy:
    if policy.silexium is None:
        raise AssertionError("step 1 demands a policy")
    return policy.silexium
