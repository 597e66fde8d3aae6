"""``build``: a release of a directory, in OUT/NAME@VERSION, published by one rename or not at all."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from libreseed.adapters.command.console import Progress, Report, human_bytes
from libreseed.adapters.command.keys import passphrase_source, signing_key
from libreseed.adapters.command.terminal import counted
from libreseed.adapters.files.durable import publish_directory, staging_directory
from libreseed.adapters.packing.tree import Tree
from libreseed.adapters.release.release_build import BuiltRelease, ReleasePlan, build_release, collect_tree
from libreseed.errors import LocalFault, Malformed, UsageFault
from libreseed.ids import PackageName, ReleaseId, Version
from libreseed.package.manifest import OPTIONAL_TEXTS

from .publishing import existing, too_late_to_interrupt, writing

if TYPE_CHECKING:
    from .release_set import SetOfRelease

__all__ = ["build"]

_EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"  # reproducible-builds.org: seconds since 1970
_DECIMAL = re.compile("0|[1-9][0-9]{0,15}", re.ASCII)
_EPOCH_MOST_S = 8**11 - 1  # what a tar header holds
_TIMESTAMP_MOST_MS = 2**53 - 1


def build(arguments: argparse.Namespace) -> Report:
    """Build and publish; raises ContentRejected (``tree.*``), UsageFault, LocalFault ``storage.*``."""
    plan = _plan(arguments, os.environ)
    root, out = Path(arguments.dir), Path(arguments.out)
    final = out / str(plan.release)
    if os.path.lexists(final):
        raise LocalFault("storage.exists", f"{final} exists already and is never replaced")
    release_set = _release_set(arguments, plan, out)
    key = signing_key(arguments.key, passphrase_source(arguments.passphrase_file, os.environ), os.environ)
    with Progress(quiet=arguments.quiet) as progress:
        tree = collect_tree(root, progress, allow_git=arguments.allow_git, allow_secrets=arguments.allow_secrets)
        _refuse_own_output(tree, out)
        if not tree.files:
            progress.note(f"{root} holds no file: the package is empty")
        for folder in tree.empty_folders:
            progress.note(f"{folder}/ is empty and left out: a package holds files only")
        with ExitStack() as stack:
            stack.enter_context(writing(final))
            stack.enter_context(existing(out, keep=not arguments.dry_run))
            staging = stack.enter_context(staging_directory(out))
            built = build_release(tree, plan, key, staging, progress)
            if release_set is not None:
                stack.enter_context(release_set.staged())
                release_set.write(built, staging / f"{plan.release}.tgz", key)
            if not arguments.dry_run:
                progress.phase("publishing")
                with too_late_to_interrupt():
                    if release_set is not None:
                        release_set.publish()
                    publish_directory(staging, final)
    report = _report(built, tree, None if arguments.dry_run else final)
    return report if release_set is None else release_set.told(report, published=not arguments.dry_run)


def _release_set(arguments: argparse.Namespace, plan: ReleasePlan, out: Path) -> SetOfRelease | None:
    if not (arguments.silexium or arguments.channel):
        return None
    from .release_set import SetOfRelease

    return SetOfRelease.of(arguments, plan, out)


def _plan(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ReleasePlan:
    try:
        release = ReleaseId(PackageName(arguments.name), Version(arguments.version))
    except Malformed as error:
        raise UsageFault("usage", error.message) from error
    texts = {name: getattr(arguments, name) for name in OPTIONAL_TEXTS if getattr(arguments, name) is not None}
    for name, text in texts.items():
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # how Python shows bytes that are not UTF-8
            raise UsageFault("usage", f"--{name} is not UTF-8")
    timestamp, mtime = _times(arguments.timestamp, environ)
    return ReleasePlan(release, timestamp, mtime, texts, _dependencies(arguments.dependency) or None)


def _times(flag: str | None, environ: Mapping[str, str]) -> tuple[int, int]:
    """Timestamp (ms) and mtime (s): SOURCE_DATE_EPOCH decides both; else ``--timestamp`` or now, and mtime 0."""
    if (epoch := environ.get(_EPOCH_VARIABLE)) is not None:
        if not _DECIMAL.fullmatch(epoch) or int(epoch) > _EPOCH_MOST_S:
            raise UsageFault("config.value", f"{_EPOCH_VARIABLE} is not a number of seconds since 1970: {epoch!r:.60}")
        return int(epoch) * 1000, int(epoch)
    if flag is None:
        return time.time_ns() // 10**6, 0
    if not _DECIMAL.fullmatch(flag) or int(flag) > _TIMESTAMP_MOST_MS:
        raise UsageFault("usage", f"--timestamp is not a number of milliseconds since 1970: {flag!r:.60}")
    return int(flag), 0


def _dependencies(items: Sequence[str]) -> dict[str, str]:
    from semantic_version import NpmSpec

    ranges: dict[str, str] = {}
    for item in items:
        name, equals, text = item.partition("=")
        try:
            PackageName(name)
            NpmSpec(text)
        except (Malformed, ValueError) as error:
            raise UsageFault("usage", f"--dependency {item!r:.120} is not NAME=RANGE: {error}") from error
        if not equals or name in ranges:
            raise UsageFault("usage", f"--dependency {item!r:.120} lacks a range or names {name} again")
        ranges[name] = text
    return ranges


def _refuse_own_output(tree: Tree, out: Path) -> None:
    """OUT may lie in DIR only if nothing in it would be packaged: a release must not hold the releases before it."""
    root, place = tree.root.resolve(), out.resolve()
    if place.is_relative_to(root) and any((root / file.found.path).is_relative_to(place) for file in tree.files):
        raise UsageFault("usage", f"{out} lies in {tree.root} and would be packaged: name it in .libreseedignore")


def _report(built: BuiltRelease, tree: Tree, final: Path | None) -> Report:
    minimal, layout = built.minimal, built.repair.metainfo.layout
    data: dict[str, object] = {
        "release": str(minimal.release),
        "name": str(minimal.name),
        "version": str(minimal.version),
        "path": None if final is None else str(final),
        "pubkey": str(minimal.pubkey),
        "timestamp": minimal.timestamp,
        "contentHash": str(built.manifest.content_hash),
        "infohash": str(minimal.infohash),
        "size": minimal.size,
        "chunks": str(minimal.chunks),
        "torrent": str(minimal.torrent),
        "torrentV1": built.repair.metainfo.v1.hex(),
        "tarHash": str(built.archive.tar_hash),
        "tarSize": built.archive.tar_size,
        "zlibNg": built.archive.zlib_ng,
        "files": len(built.manifest.files),
        "contentSize": sum(built.manifest.sizes.values()),
        "grid": {"n": layout.grid.n, "s": layout.grid.s, "k": layout.grid.k, "m": layout.m},
        "emptyFolders": list(tree.empty_folders),
        "ignored": list(tree.ignored),
    }
    lines = [
        f"release    {minimal.release}",
        f"folder     {final if final is not None else '(dry run: nothing published)'}",
        f"publisher  {minimal.pubkey}",
        f"content    {counted(len(built.manifest.files), 'file')}, {human_bytes(sum(built.manifest.sizes.values()))}",
        f"archive    {human_bytes(minimal.size)}, {minimal.infohash}",
        f"torrent    {minimal.torrent}",
        f"repair     {counted(layout.grid.s, 'stripe')} of {layout.grid.k} + {layout.m} chunks",
        f"rebuild    tarHash {built.archive.tar_hash}, zlib-ng {built.archive.zlib_ng}",
    ]
    if tree.empty_folders:
        empty, more = tree.empty_folders, ", ..." if len(tree.empty_folders) > 1 else ""
        lines.append(f"left out   {counted(len(empty), 'empty folder')}: {empty[0]}/{more}")
    if tree.ignored:
        lines.append(f"ignored    {counted(len(tree.ignored), 'name')}, as .libreseedignore says")
    return Report("\n".join(lines), data)
