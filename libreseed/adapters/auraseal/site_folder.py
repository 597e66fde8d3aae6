"""The folder of a website: which files are components, what their manifest says, what has to be written or is wrong.

Everything is read and decided before the first byte is written, and the manifest is written last; what is right already
is left alone, so a second run changes nothing. The folder belongs to whoever runs this: links are refused, because a
link's target may change without the folder. Specification: ``auraseal.md``, 8; blocking throughout.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from libreseed import limits
from libreseed.adapters.files.bounded_file import read_bounded
from libreseed.adapters.files.confine import confine
from libreseed.adapters.files.durable import durable_write
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.integrity_manifest import (
    INTEGRITY_MANIFEST_PATH,
    IntegrityEntry,
    build_integrity_manifest,
    parse_integrity_manifest,
)
from libreseed.auraseal.page_scripts import ScriptTag, find_scripts, recovery_path, with_integrity
from libreseed.errors import ContentRejected, LocalFault, NotFound

__all__ = ["COMPONENT_PATTERNS", "SiteCheck", "SitePlan", "SiteRules", "apply_plan", "check_site", "plan_site"]

COMPONENT_PATTERNS = ("*.js", "*.mjs", "*.wasm", "*.bin")
_LOADER = "auraseal.js"  # the page runs it directly: a recovery file would never be asked for
_PAGES = ("*.html", "*.htm", "*.xhtml")


@dataclass(frozen=True, slots=True)
class SiteRules:
    """Which files are components, and whether they get recovery files.

    Patterns are those of file names, or of whole paths if there is a slash in them.
    """

    patterns: tuple[str, ...] = COMPONENT_PATTERNS
    recovery: bool = True


@dataclass(frozen=True, slots=True)
class SitePlan:
    """What a site's integrity takes: ``manifest`` is complete, ``writes`` has only what is not there already.

    ``attributes`` are those of all tags, by page; ``foreign`` names tags whose script is not in the folder; ``copies``
    are recovery files to be written, and what they are copies of.
    """

    root: Path
    manifest: Mapping[str, IntegrityEntry]
    attributes: Mapping[str, Mapping[ScriptTag, str]]
    foreign: tuple[str, ...]
    copies: Mapping[str, str]
    writes: Mapping[str, bytes] = field(repr=False)

    @property
    def changes(self) -> list[str]:
        """The files that are not yet as they should be, in the order in which they are written."""
        return [*self.copies, *self.writes]


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """A folder that is as its manifest and pages say."""

    manifest: Mapping[str, IntegrityEntry]
    tags: int
    foreign: tuple[str, ...]


# --- making ----------------------------------------------------------------------------------------------------------


def plan_site(root: Path, rules: SiteRules) -> SitePlan:
    """Decide what to write; raises :class:`NotFound`, :class:`ContentRejected` (``tree.*``, ``auraseal.*``) and
    :class:`LocalFault` ``storage.exists`` if a file that is not ours stands where a recovery file goes.
    """
    files = _files(root)
    before = _manifest_before(root, files)
    ours = {entry.recovery[1] for entry in before.values() if entry.recovery}
    manifest: dict[str, IntegrityEntry] = {}
    copies: dict[str, str] = {}
    for path in _components(files, rules):
        (digest, size), copy = _digest(root, path), recovery_path(path)
        if not rules.recovery or size > limits.WEB_COMPONENT_BYTES or not _recoverable(path):
            manifest[path] = IntegrityEntry(Integrity(digest), size)
            continue
        manifest[path] = IntegrityEntry(Integrity(digest, digest), size, recovery=(path, copy))
        if copy not in files or _digest(root, copy)[0] != digest:
            if copy in files and copy not in ours:
                raise LocalFault("storage.exists", f"{root / copy} stands where the recovery file of {path} goes")
            copies[copy] = path
    writes: dict[str, bytes] = {}
    attributes, foreign = _attributes(root, files, manifest, writes)
    document = build_integrity_manifest(manifest)
    if INTEGRITY_MANIFEST_PATH not in files or read_bounded(root / INTEGRITY_MANIFEST_PATH, len(document)) != document:
        writes[INTEGRITY_MANIFEST_PATH] = document
    return SitePlan(root, manifest, attributes, tuple(foreign), copies, writes)


def apply_plan(plan: SitePlan) -> None:
    """Write what the plan says, each file in one step, the manifest last; raises ``tree.changed``, ``storage.*``."""
    for copy, path in plan.copies.items():
        data = read_bounded(plan.root / path, plan.manifest[path].size)
        if hashlib.sha512(data).digest() != plan.manifest[path].integrity.primary:
            raise ContentRejected("tree.changed", f"{path!r} changed while its integrity was written")
        _write(plan.root, copy, data)
    for path, data in plan.writes.items():
        _write(plan.root, path, data)


def _recoverable(path: str) -> bool:
    """Whether the loader would find the recovery file by itself, for which the name needs a suffix."""
    name = path.rpartition("/")[2]
    return name != _LOADER and "." in name


def _write(root: Path, path: str, data: bytes) -> None:
    target = root.joinpath(*confine(path))
    durable_write(target, data, stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644)


def _attributes(
    root: Path, files: Collection[str], manifest: Mapping[str, IntegrityEntry], writes: dict[str, bytes]
) -> tuple[dict[str, dict[ScriptTag, str]], list[str]]:
    """The attribute of every tag; pages that change go to ``writes``."""
    attributes: dict[str, dict[ScriptTag, str]] = {}
    foreign = []
    for page in _pages(files):
        text = _text(root, page)
        wanted = {}
        for tag in find_scripts(text, page):
            if tag.path is None:
                foreign.append(f"{page}:{tag.line}: {tag.src}")
            elif tag.path not in manifest:
                raise ContentRejected("auraseal.page", f"{page}:{tag.line}: {tag.src!r:.200} is no component here")
            elif manifest[tag.path].size > limits.WEB_COMPONENT_BYTES:
                raise ContentRejected(
                    "auraseal.page", f"{page}:{tag.line}: {tag.src!r:.200} is too large for the loader"
                )
            else:
                wanted[tag] = str(manifest[tag.path].integrity)
        if wanted:
            attributes[page] = wanted
        if any(tag.integrity != value for tag, value in wanted.items()):
            writes[page] = with_integrity(text, wanted).encode("utf-8", "surrogateescape")
    return attributes, foreign


def _manifest_before(root: Path, files: Collection[str]) -> dict[str, IntegrityEntry]:
    if INTEGRITY_MANIFEST_PATH not in files:
        return {}
    return parse_integrity_manifest(read_bounded(root / INTEGRITY_MANIFEST_PATH, limits.INTEGRITY_MANIFEST_BYTES))


# --- checking --------------------------------------------------------------------------------------------------------


def check_site(root: Path, rules: SiteRules) -> SiteCheck:
    """Judge a folder by its manifest and its pages by both; raises ``auraseal.integrity`` with one line per fault."""
    files = _files(root)
    if INTEGRITY_MANIFEST_PATH not in files:
        raise NotFound("notfound.file", f"there is no {root / INTEGRITY_MANIFEST_PATH}")
    manifest = _manifest_before(root, files)
    faults = [fault for path, entry in manifest.items() for fault in _entry_faults(root, files, path, entry)]
    known = {*manifest, *(entry.recovery[1] for entry in manifest.values() if entry.recovery)}
    faults += [f"{path} is not in the manifest" for path in _components(files, rules) if path not in known]
    tags, foreign = 0, []
    for page in _pages(files):
        for tag in find_scripts(_text(root, page), page):
            tags += 1
            place = f"{page}:{tag.line}"
            if tag.path is None:
                foreign.append(f"{place}: {tag.src}")
            elif tag.path not in manifest:
                faults.append(f"{place}: {tag.src!r:.200} is not in the manifest")
            elif tag.integrity != str(manifest[tag.path].integrity):
                faults.append(f"{place}: the attribute of {tag.src!r:.200} is not the manifest's")
    if faults:
        others = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ContentRejected("auraseal.integrity", f"{faults[0]}{others}", details=faults)
    return SiteCheck(manifest, tags, tuple(foreign))


def _entry_faults(root: Path, files: Collection[str], path: str, entry: IntegrityEntry) -> Iterator[str]:
    digests = {path: entry.integrity.primary}
    if entry.recovery is not None and entry.integrity.recovery is not None:
        digests[entry.recovery[1]] = entry.integrity.recovery
    bad = []
    for file, digest in digests.items():
        if file not in files:
            bad.append(f"{file} is missing")
            continue
        found, size = _digest(root, file)
        if found != digest or (file == path and size != entry.size):
            bad.append(f"{file} is not what the manifest says")
    remedy = " (browsers use the other file)" if len(bad) < len(digests) else ""
    yield from (fault + remedy for fault in bad)


# --- the folder ------------------------------------------------------------------------------------------------------


def _files(root: Path) -> dict[str, None]:
    """The paths of all files, in order; hidden ones are not part of a site."""
    if not root.is_dir():
        raise NotFound("notfound.file", f"no directory {root}")
    found: list[str] = []
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*names, *folders]:
            full = Path(folder, name)
            path = full.relative_to(root).as_posix()
            if not name.startswith(".") and full.is_symlink():
                raise ContentRejected("tree.symlink", f"{path!r} is a symbolic link", evidence={"path": path})
        found += [Path(folder, name).relative_to(root).as_posix() for name in names if not name.startswith(".")]
        if len(found) > limits.ARCHIVE_ENTRIES:
            raise ContentRejected("tree.entries", f"a site has at most {limits.ARCHIVE_ENTRIES} files")
    return dict.fromkeys(sorted(found))


def _raise(error: OSError) -> None:
    raise error


def _components(files: Collection[str], rules: SiteRules) -> list[str]:
    """The files that the rules name, without the recovery files of others."""
    matching = [path for path in files if any(_matches(path, pattern) for pattern in rules.patterns)]
    copies = {recovery_path(path) for path in matching if _recoverable(path)}
    return [path for path in matching if path not in copies]


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path if "/" in pattern else path.rpartition("/")[2], pattern)


def _pages(files: Collection[str]) -> list[str]:
    return [path for path in files if any(fnmatchcase(path.lower(), each) for each in _PAGES)]


def _text(root: Path, page: str) -> str:
    data = read_bounded(root / page, limits.WEB_PAGE_BYTES)
    if len(data) > limits.WEB_PAGE_BYTES:
        raise ContentRejected("auraseal.too-large", f"{page} has more than {limits.WEB_PAGE_BYTES} bytes")
    return data.decode("utf-8", "surrogateescape")


def _digest(root: Path, path: str) -> tuple[bytes, int]:
    with (root / path).open("rb") as file:
        return hashlib.file_digest(file, "sha512").digest(), os.fstat(file.fileno()).st_size
