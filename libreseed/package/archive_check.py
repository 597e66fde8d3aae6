"""What an archive must hold, given its own manifest: steps 8 and 9 of the resolver, as values (DESIGN 3.3, 3.4, 4).

8. the manifest is the first entry, verifies, and says the same name, version, key and time as the minimal manifest;
9. every file is listed with its mode, size and SHA-256, every listed file is there, and SRC lists the files' BLAKE3.

:class:`ArchiveCheck` is told what the archive holds, in order, and raises at the first fact that does not hold. It
computes no hash of a file and writes nothing. Specification: ``archive.md``, 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

from libreseed import limits
from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest, Sha256Digest
from libreseed.package.archive_reader import EntryStart
from libreseed.package.manifest import FullManifest, parse_manifest
from libreseed.package.minimal import MinimalManifest
from libreseed.package.paths import MANIFEST_PATH, SRC_PATH
from libreseed.package.src_index import SrcLine, build_src

__all__ = ["ArchiveCheck", "check_same_release"]


def check_same_release(manifest: FullManifest, minimal: MinimalManifest) -> None:
    """Step 8: both manifests must speak of one release; raises :class:`ContentRejected` (``manifest.mismatch``)."""
    pairs = {
        "name": (str(manifest.name), str(minimal.name)),
        "version": (str(manifest.version), str(minimal.version)),
        "pubkey": (str(manifest.pubkey), str(minimal.pubkey)),
        "timestamp": (manifest.timestamp, minimal.timestamp),
    }
    for member, (full, short) in pairs.items():
        if full != short:
            message = f"{member} is {full} in manifest.json and {short} in the minimal manifest"
            raise ContentRejected("manifest.mismatch", message, step=8, evidence={member: [full, short]})


class ArchiveCheck:
    """Told entry by entry what an archive holds; ``manifest`` is there once the first entry is complete."""

    def __init__(self, minimal: MinimalManifest | None) -> None:
        self._minimal = minimal
        self._manifest: FullManifest | None = None
        self._executables: frozenset[str] = frozenset()
        self._blake3: dict[str, Blake3Digest] = {}
        self._folders: frozenset[str] | None = None  # all folders that the listed files lie in, once they are asked for

    @property
    def manifest(self) -> FullManifest:
        """The verified full manifest."""
        if self._manifest is None:
            raise ContentRejected("archive.truncated", "the archive holds no manifest", step=8)
        return self._manifest

    @property
    def digests(self) -> Mapping[str, Blake3Digest]:
        """BLAKE3 of every file taken so far, SRC among them."""
        return self._blake3

    def start(self, entry: EntryStart) -> None:
        """Step 9, before a byte of the file is taken: it is listed, with this mode and size. Step 8: the manifest's."""
        if entry.path == MANIFEST_PATH:
            if entry.size > limits.MANIFEST_BYTES or entry.mode != 0o644:
                reason = "archive.mode" if entry.size <= limits.MANIFEST_BYTES else "manifest.too-large"
                raise ContentRejected(reason, f"manifest.json has {entry.size} bytes, mode {entry.mode:o}", step=8)
            return
        evidence: dict[str, object] = {"path": entry.path}
        size = self.manifest.sizes.get(entry.path)
        if size is None:
            message = f"the manifest does not list {entry.path!r:.200}"
            raise ContentRejected("archive.listing", message, step=9, evidence=evidence)
        if entry.size != size:
            message = f"{entry.path!r:.200} has {entry.size} bytes, the manifest says {size}"
            raise ContentRejected("files.size", message, step=9, evidence=evidence)
        mode = 0o755 if entry.path in self._executables else 0o644
        if entry.mode != mode:
            message = f"{entry.path!r:.200} has mode {entry.mode:o}, the manifest says {mode:o}"
            raise ContentRejected("files.mode", message, step=9, evidence=evidence)

    def folder(self, path: str) -> None:
        """Step 9: a folder entry is above a listed file; judged at once, so that a flood of them takes no memory."""
        if self._folders is None:
            self._folders = frozenset(above for file in self.manifest.files for above in _folders_of(file))
        if path not in self._folders:
            message = f"a folder entry that is above no listed file: {path!r:.200}"
            raise ContentRejected("archive.folder", message, step=9, evidence={"path": path})

    def take_manifest(self, data: bytes) -> FullManifest:
        """Step 8: verify ``manifest.json`` and compare it with the minimal manifest."""
        try:
            manifest = parse_manifest(data)
        except ContentRejected as error:
            error.at_step(8)
            raise
        if self._minimal is not None:
            check_same_release(manifest, self._minimal)
        self._manifest = manifest
        self._executables = frozenset(manifest.executables)
        return manifest

    def take_file(self, path: str, sha256: Sha256Digest, blake3: Blake3Digest) -> None:
        """Step 9: the content of the file that was started last."""
        expected = self.manifest.files[path]
        if sha256 != expected:
            evidence = {"path": path, "expected": str(expected), "actual": str(sha256)}
            raise ContentRejected("files.hash", f"{path!r:.200} is not what was signed", step=9, evidence=evidence)
        self._blake3[path] = blake3

    def finish(self) -> FullManifest:
        """Step 9: nothing is missing, and SRC lists exactly these files; returns the manifest."""
        manifest = self.manifest
        if missing := manifest.files.keys() - self._blake3.keys():
            message = f"{len(missing)} listed files are missing, among them {min(missing)!r:.200}"
            raise ContentRejected("archive.listing", message, step=9, evidence={"path": min(missing)})
        lines = (SrcLine(path, manifest.sizes[path], d) for path, d in self._blake3.items() if path != SRC_PATH)
        if hashlib.sha256(build_src(lines)).digest() != manifest.files[SRC_PATH].raw:
            raise ContentRejected("src.mismatch", "SRC does not list the files of the package", step=9)
        return manifest


def _folders_of(path: str) -> Iterator[str]:
    cut = path.rfind("/")
    while cut > 0:
        yield path[:cut]
        cut = path.rfind("/", 0, cut)
