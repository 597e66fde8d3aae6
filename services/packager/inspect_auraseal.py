"""``inspect`` of AuraSeal's files: package zips, part files, integrity manifests."""

from __future__ import annotations

from pathlib import Path

from libreseed import limits
from libreseed.adapters.auraseal.package_files import opened_package
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.auraseal.diram_package import DIVISIONS
from libreseed.auraseal.integrity_manifest import parse_integrity_manifest
from libreseed.auraseal.part import RAW_TABLE, parse_part

from .views import View

__all__ = ["integrity_view", "package_view", "part_view"]

_MOST = limits.PART_HEADER_BYTES + limits.CHUNK_BYTES + limits.PART_FOOTER_BYTES
_ACCIDENTS = "its checksums find accidents only: needs the signed chunk map, or the manifest of its package"


def package_view(path: Path) -> View:
    """A DIRAM package: its zip's form, paths and manifest hold, its components are not looked at."""
    with opened_package(path) as package:
        entries = package.manifest.values()
        says = {
            "size": path.stat().st_size,
            "components": len(entries),
            "inParts": sum(entry.parts > 1 for entry in entries),
            "parts": sum(entry.parts for entry in entries if entry.parts > 1),
            "partsHere": sum(".part." in entry.path for entry in package.layout.entries),
            "contentSize": sum(entry.size for entry in entries),
        }
    return View("DIRAM package", says, {"contentSize": "the components were not judged: use auraseal verify"})


def part_view(path: Path) -> View:
    """A part file that holds, if need be after its header was put right."""
    part = parse_part(read_bounded(path, _MOST))
    shape = part.shape
    says = {
        "part": part.number,
        "parts": shape.total_parts,
        "dataParts": shape.data_parts,
        "parity": part.is_parity,
        "component": shape.component,
        "division": DIVISIONS[shape.division][0],
        "fullSize": None if part.is_parity else part.full_size,
        "payload": len(part.payload),
        "coded": not part.is_parity and part.head[8:] != RAW_TABLE,
        "headerHealed": part.healed,
    }
    return View("part file", says, {name: _ACCIDENTS for name in says if name not in ("payload", "headerHealed")})


def integrity_view(path: Path) -> View:
    """An integrity manifest."""
    manifest = parse_integrity_manifest(read_bounded(path, limits.INTEGRITY_MANIFEST_BYTES))
    says: dict[str, object] = {"files": len(manifest), "contentSize": sum(entry.size for entry in manifest.values())}
    says |= {name: str(entry.integrity) for name, entry in sorted(manifest.items())}
    needs = "not signed, and the files were not compared with it: use libreseed-mirror integrity --check"
    return View("integrity manifest", says, dict.fromkeys(says, needs))
