"""``auraseal build | verify | extract``: DIRAM packages, whose components heal from their own parity."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from libreseed.adapters.auraseal.package_files import (
    WrittenPackage,
    collect_components,
    extract_package,
    opened_package,
    write_package,
)
from libreseed.adapters.command.console import Progress, Report, human_bytes
from libreseed.adapters.files.durable import publish_directory, publish_file, staging_directory
from libreseed.auraseal.diram_package import ComponentReport
from libreseed.errors import LocalFault

from .publishing import existing, too_late_to_interrupt, writing

__all__ = ["build", "extract", "verify"]


def build(arguments: argparse.Namespace) -> Report:
    """Make the package FILE of the components in DIR; raises ContentRejected (``tree.*``), LocalFault ``storage.*``."""
    root, final = Path(arguments.dir), Path(arguments.out)
    _refuse_existing(final)
    with Progress(quiet=arguments.quiet) as progress:
        components = collect_components(root, in_parts=not arguments.no_parts)
        for component in components:
            if component.parts == 1 and not arguments.no_parts:
                progress.note(f"{component.found.path} is too large for parts: it is packaged whole and cannot heal")
        with writing(final), existing(final.parent, keep=True), staging_directory(final.parent) as staging:
            staged = staging / "package"
            written = write_package(root, components, staged, progress, allow_secrets=arguments.allow_secrets)
            progress.phase("publishing")
            with too_late_to_interrupt():
                publish_file(staged, final)
    return _built(written, final)


def verify(arguments: argparse.Namespace) -> Report:
    """Judge every component of FILE; raises NotFound, or ContentRejected (``auraseal.*``, ``repair.beyond``)."""
    with Progress(quiet=arguments.quiet) as progress, opened_package(Path(arguments.file)) as package:
        return _judged(extract_package(package, None, progress), None)


def extract(arguments: argparse.Namespace) -> Report:
    """Write every component of FILE below the new folder DIR, healed and verified, or nothing; raises as verify."""
    final = Path(arguments.out)
    with Progress(quiet=arguments.quiet) as progress, opened_package(Path(arguments.file)) as package:
        _refuse_existing(final)
        with writing(final), existing(final.parent, keep=True), staging_directory(final.parent) as staging:
            reports = extract_package(package, staging, progress)
            progress.phase("publishing")
            with too_late_to_interrupt():
                publish_directory(staging, final)
    return _judged(reports, final)


def _refuse_existing(final: Path) -> None:
    if os.path.lexists(final):
        raise LocalFault("storage.exists", f"{final} exists already and is never replaced")


def _built(written: WrittenPackage, final: Path) -> Report:
    manifest = written.manifest
    parts = sum(entry.parts for entry in manifest.values() if entry.parts > 1)
    content = sum(entry.size for entry in manifest.values())
    data: dict[str, object] = {
        "path": str(final),
        "size": written.size,
        "sha256": written.sha256,
        "components": {
            path: {"integrity": str(entry.integrity), "size": entry.size, "parts": entry.parts}
            for path, entry in manifest.items()
        },
        "contentSize": content,
    }
    whole = sum(entry.parts == 1 for entry in manifest.values())
    unhealing = f"; whole and without parity: {whole}" if whole else ""
    lines = [
        f"package    {final}, {human_bytes(written.size)}",
        f"sha256     {written.sha256}",
        f"content    components: {len(manifest)}, {human_bytes(content)}",
        f"parts      {parts} part files{unhealing}",
    ]
    return Report("\n".join(lines), data)


def _judged(reports: Sequence[ComponentReport], final: Path | None) -> Report:
    healed = {report.path: report for report in reports if report.healed}
    verified, total = (sum(counts) for counts in zip((0, 0), *map(_counts, reports), strict=True))
    data: dict[str, object] = {
        "path": None if final is None else str(final),
        "components": {report.path: _component(report) for report in reports},
        "contentSize": sum(report.size for report in reports),
        "verifiedParts": verified,
        "parts": total,
        "healed": sorted(healed),
    }
    lines = [] if final is None else [f"extracted  {final}"]
    lines += [
        f"verified   components: {len(reports)}, {human_bytes(sum(report.size for report in reports))}",
        f"coherence  {verified} of {total} parts held by themselves",
    ]
    for path, report in healed.items():
        numbers = ", ".join(_why(number, report) for number in sorted(report.healed))
        lines.append(f"healed     {path}: {numbers}")
    if healed and final is None:
        lines.append("The package is damaged but nothing is lost: extract it and build it anew, or fetch it again.")
    return Report("\n".join(lines), data)


def _counts(report: ComponentReport) -> tuple[int, int]:
    return len(report.verified), report.parts


def _why(number: int, report: ComponentReport) -> str:
    return f"part {number} ({report.rejected.get(number, 'header' if number in report.verified else 'missing')})"


def _component(report: ComponentReport) -> dict[str, object]:
    return {
        "size": report.size,
        "parts": report.parts,
        "verified": len(report.verified),
        "healed": sorted(report.healed),
        "rejected": {str(number): reason for number, reason in sorted(report.rejected.items())},
    }
