"""``libreseed verify``: a bundle's proofs, alone and without any network; or an installed release, file by file.

Every verdict is ``ReleaseVerification``'s and the tree check's; here is only what is read from where, and how it is
told. docs/specification/commands.md, "libreseed verify".
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed import limits
from libreseed.adapters.command.console import CommandParser, Report, add_json_flag
from libreseed.adapters.command.terminal import counted
from libreseed.errors import ProofRejected, UsageFault
from libreseed.resolve.proofs import check_lines, check_rows, require_age

if TYPE_CHECKING:
    from libreseed.ids import ReleaseId
    from libreseed.resolve.policy import Policy
    from libreseed.silexium.bundle import Bundle
    from libreseed.silexium.trust_policy import SilexiumPolicy
    from libreseed.silexium.verification import ReleaseVerification

__all__ = ["add_parser"]

_TGZ_CHECKS = ("10.12", "10.13")
_EXAMPLES = """\
  libreseed verify --bundle hello@1.0.0.silexium.json --policy policy.toml
  libreseed verify --bundle hello@1.0.0.silexium.json --tgz hello@1.0.0.tgz --explain
  libreseed verify hello@1.0.0                          an installed release, every file of it"""
_DESCRIPTION = """\
With --bundle: verify a release's Silexium proofs under a policy, from files alone; no network is used. --tgz adds the
archive itself (10.12) and its sources (10.13). With a release alone: verify that what is installed is unchanged."""


def add_parser(verbs: argparse._SubParsersAction[CommandParser]) -> None:
    """Register ``verify``."""
    verb = verbs.add_parser(
        "verify", help="check a Silexium bundle, or an installed release", description=_DESCRIPTION, examples=_EXAMPLES
    )
    verb.add_argument("release", nargs="?", metavar="NAME@VERSION", help="the release (default: the one in the bundle)")
    verb.add_argument("--bundle", type=Path, metavar="F", help="the proofs: NAME@VERSION.silexium.json")
    verb.add_argument(
        "--policy", type=Path, metavar="F", help="whom to believe (default: policy.toml, as the resolver)"
    )
    verb.add_argument("--tgz", type=Path, metavar="FILE", help="the .tgz that the proofs are about")
    verb.add_argument(
        "--headers", type=Path, action="append", default=[], metavar="F", help="block headers; may be repeated"
    )
    verb.add_argument(
        "--store",
        type=Path,
        metavar="D",
        help="with --bundle: also hold the log against what this store remembers of it; else where to look",
    )
    verb.add_argument(
        "--silexium", type=Path, action="append", default=[], metavar="DIR", help="a copy of the log, for --store"
    )
    verb.add_argument("--explain", action="store_true", help="every check with its inputs and its verdict")
    add_json_flag(verb)
    verb.set_defaults(body=_verify)


def _verify(args: argparse.Namespace) -> Report:
    if args.bundle is not None:
        return _bundle(args)
    if args.release is None:
        raise UsageFault("usage", "what is to be verified? Give --bundle F, or an installed NAME@VERSION")
    if args.tgz is not None or args.headers or args.silexium or args.policy is not None:
        raise UsageFault("usage", "--policy, --tgz, --headers and --silexium belong to --bundle")
    return _installed(args)


# --- a bundle --------------------------------------------------------------------------------------------------------


def _bundle(args: argparse.Namespace) -> Report:
    from libreseed.adapters.files.bounded_file import read_bounded
    from libreseed.resolve.request import parse_release
    from libreseed.silexium.bundle import parse_bundle
    from libreseed.silexium.release_manifest import parse_release_manifest
    from libreseed.silexium.verification import ReleaseVerification

    data = read_bounded(args.bundle, limits.BUNDLE_BYTES)  # first: a missing file is that, whatever else is missing
    demands, policy, headers = _policy(args)
    with _noting():
        bundle = parse_bundle(data)
    with _noting("10.1"):
        release = parse_release(args.release) if args.release else parse_release_manifest(bundle.manifest).release
    verification = ReleaseVerification(policy, release, now=int(time.time()))
    try:
        verification = _documents(args, verification, bundle, headers)
        require_age(verification, demands)
        if args.tgz is not None:
            _archive(verification, args.tgz)
    except ProofRejected as error:
        rows = check_rows(verification.checks)
        error.evidence = {"checks": rows, **error.evidence}
        if args.explain:
            error.details = (*check_lines(error.evidence["checks"]), *error.details)
        raise
    return _told(args, release, verification)


@contextlib.contextmanager
def _noting(check: str | None = None) -> Iterator[None]:
    """Say of what is refused before there is a release to verify where a resolver would have refused it."""
    try:
        yield
    except ProofRejected as error:
        if check is not None:
            error.evidence = {**error.evidence, "check": check}
        error.at_step(10)
        raise


def _documents(
    args: argparse.Namespace, verification: ReleaseVerification, bundle: Bundle, headers: Sequence[Path]
) -> ReleaseVerification:
    """Checks 10.1 to 10.11: by the bundle alone, or also against what a store remembers of the log."""
    from libreseed.adapters.silexium.stamps.header_sources import open_headers
    from libreseed.silexium.bundle_check import verify_bundle

    chains = open_headers(headers, verification.policy.time, now=verification.now)
    if args.store is None:
        verify_bundle(verification, bundle, chains=chains)
        return verification
    import trio

    from libreseed.adapters.resolving.store import store_root
    from libreseed.adapters.silexium.proofs.proof_collector import ProofCollector, Proven
    from libreseed.adapters.silexium.proofs.proof_source import BundleFile, FolderSource, ProofSource
    from libreseed.adapters.silexium.proofs.trust_memory import TrustMemory

    memory = TrustMemory(store_root(args.store))
    collector = ProofCollector(verification.policy, verification.release, memory, verification.now, chains)
    sources: list[ProofSource] = [BundleFile(args.bundle), *map(FolderSource, args.silexium)]
    proven: Proven = trio.run(collector.collect, sources)
    return proven.verification


def _archive(verification: ReleaseVerification, tgz: Path) -> None:
    """10.12 and 10.13. The archive is read as a resolver reads it (steps 8 and 9), without being extracted."""
    from libreseed.adapters.packing.archive import examine_archive
    from libreseed.adapters.packing.archive_peek import peek_src
    from libreseed.adapters.silexium.releases.release_set import measure_file

    measured = measure_file(tgz)
    verification.artifact(measured.size, measured.blake3)
    report = examine_archive(tgz)
    verification.src(peek_src(tgz, report.manifest), report.manifest.sizes, report.digests)


def _policy(args: argparse.Namespace) -> tuple[Policy, SilexiumPolicy, list[Path]]:
    from libreseed.adapters.command.settings import default_directory
    from libreseed.adapters.resolving.policy_file import read_policy

    path = args.policy or default_directory("config") / "policy.toml"
    if args.policy is None and not path.exists():
        raise ProofRejected("silexium.unavailable", f"no policy says whose proofs are believed: there is no {path}")
    policy = read_policy(path)
    if policy.silexium is None:
        raise ProofRejected(
            "silexium.unavailable", f"{path} has no [silexium] table that says whose proofs are believed"
        )
    return policy, policy.silexium, [*args.headers, *map(Path, policy.headers)]


def _told(args: argparse.Namespace, release: ReleaseId, verification: ReleaseVerification) -> Report:
    rows = check_rows(verification.checks)
    missing = [] if args.tgz is not None else list(_TGZ_CHECKS)
    trusted = verification.trusted
    if trusted.checkpoint is None or trusted.manifest is None:
        raise AssertionError("10.9 has passed")
    head, source = trusted.checkpoint.sth, trusted.manifest.source
    lines = check_lines(rows) if args.explain else []
    lines.append(
        f"{release}: {len(rows)} checks passed, by the log {head.head.origin} with "
        f"{counted(head.size, 'entry', 'entries')}"
    )
    if missing:
        lines.append(f"not checked without --tgz: that a .tgz is the one meant ({source.size} bytes, {source.blake3})")
    if not verification.policy.time.network.retargets:
        lines.append(f"the policy takes the chain {verification.policy.time.network.name}, which proves nothing")
    data = {
        "release": str(release),
        "manifest": str(trusted.manifest.digest),
        "channel": trusted.manifest.channel,
        "log": head.head.origin,
        "tree_size": head.size,
        "artifact": {"size": source.size, "blake3": str(source.blake3)},
        "checks": rows,
        "not_checked": missing,
    }
    return Report("\n".join(lines), data)


# --- an installed release --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    silexium: str
    proofs: Mapping[str, object]


def _installed(args: argparse.Namespace) -> Report:
    from libreseed.adapters.packing.tree_check import check_tree_on_disk
    from libreseed.adapters.resolving.installed import installed
    from libreseed.adapters.resolving.resolver_settings import usual_store
    from libreseed.adapters.resolving.store import Store
    from libreseed.errors import NotFound
    from libreseed.resolve.request import parse_release

    release = parse_release(args.release)
    store = Store(usual_store(args.store))
    receipts = [receipt for receipt in installed(store) if receipt.minimal.release == release]
    if not receipts:
        raise NotFound("notfound.installed", f"{release} is not installed in {store.root}")
    found = []
    for receipt in receipts:
        check_tree_on_disk(Path(receipt.path), receipt.minimal, receipt.tree)
        found.append(_Found(receipt.path, receipt.silexium, receipt.proofs))
    text = "\n".join(f"{item.path}: every file is as it was signed; Silexium: {item.silexium}" for item in found)
    places = [{"path": item.path, "silexium": item.silexium, "proofs": dict(item.proofs)} for item in found]
    return Report(text, {"release": str(release), "installed": places})
