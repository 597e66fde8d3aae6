"""Collects the tree that is packaged: which files, their sizes, modes and hashes (DESIGN 3.2, 3.4).

Pass one of two: it walks the directory without following links, refuses what a package can't hold, and hashes every
file by threads. Pass two (``archive_build``) reads the files again and demands the same bytes, and a second walk behind
it demands the same files, so a tree that changes in between makes no package. Nothing is written. Specification:
``package.md``, 6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from libreseed.adapters.packing.tree_hash import FileHashes, hash_files
from libreseed.adapters.packing.tree_walk import FoundFile, WalkRules, walk
from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest, PackageName, Sha256Digest, Version
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.manifest import FullManifest
from libreseed.package.paths import SRC_PATH
from libreseed.package.src_index import SrcLine, build_src

__all__ = ["Tree", "TreeFile", "collect"]


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file as it was found and hashed; ``found`` holds its path, size, owner's x bit and identity on disk."""

    found: FoundFile
    hashes: FileHashes

    @property
    def blake3(self) -> Blake3Digest:
        """BLAKE3 of its content."""
        return self.hashes.blake3


@dataclass(frozen=True)
class Tree:
    """The files below ``root`` in the archive's order, and what a manifest says of them.

    ``empty_folders`` and ``ignored`` name what the package does not hold: folders without a file, and what
    ``.libreseedignore`` matched (a folder stands for all in it).
    """

    root: Path
    files: tuple[TreeFile, ...] = field(repr=False)
    empty_folders: tuple[str, ...]
    ignored: tuple[str, ...] = field(repr=False)
    rules: WalkRules = field(default_factory=WalkRules)

    @cached_property
    def src(self) -> bytes:
        """The bytes of SRC."""
        return build_src(SrcLine(file.found.path, file.found.size, file.blake3) for file in self.files)

    @property
    def digests(self) -> dict[str, Sha256Digest]:
        """SHA-256 of every file of the package, SRC included."""
        digests = {file.found.path: file.hashes.sha256 for file in self.files}
        return {**digests, SRC_PATH: Sha256Digest(hashlib.sha256(self.src).digest())}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every file of the package, SRC included."""
        return {**{file.found.path: file.found.size for file in self.files}, SRC_PATH: len(self.src)}

    @property
    def executables(self) -> list[str]:
        """The paths whose owner may execute them, in the archive's order."""
        return [file.found.path for file in self.files if file.found.executable]

    def check_unchanged(self, *, ignoring: Path) -> None:
        """Walk again: what came, went or changed since the first walk rejects, which no reading of files can see.

        What lies in the folder ``ignoring`` is our own. Raises :class:`ContentRejected` ``tree.changed``.
        """
        root, own = self.root.resolve(), ignoring.resolve()
        prefix = f"{own.relative_to(root)}/" if own.is_relative_to(root) else "/"  # no path begins with a slash
        now = {file.path: file for file in walk(root, self.rules).files if not file.path.startswith(prefix)}
        before = {file.found.path: file.found for file in self.files}
        if now != before:
            path = min(path for path in now.keys() | before.keys() if now.get(path) != before.get(path))
            what = "changed" if path in now and path in before else "appeared" if path in now else "vanished"
            message = f"{path!r} {what} while the tree was read"
            raise ContentRejected("tree.changed", message, evidence={"path": path})

    def sign(
        self,
        *,
        name: PackageName,
        version: Version,
        timestamp: int,
        key: PrivateKey,
        texts: Mapping[str, str] | None = None,
        dependencies: Mapping[str, str] | None = None,
    ) -> FullManifest:
        """The full manifest of this tree; ``timestamp`` in Unix milliseconds. Raises :class:`ContentRejected`."""
        return FullManifest.build(
            name=name,
            version=version,
            files=self.digests,
            sizes=self.sizes,
            executables=self.executables,
            timestamp=timestamp,
            key=key,
            texts=texts,
            dependencies=dependencies,
        )


def collect(
    root: Path,
    *,
    allow_git: bool = False,
    allow_secrets: bool = False,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tree:
    """Walk and hash the tree below ``root``; blocks, so trio code calls it in a thread.

    ``progress`` is called with bytes as they are hashed and may raise to stop the work. Raises :class:`NotFound` if
    there is no ``root``, :class:`ContentRejected` (``tree.*``) for what can't be packaged.
    """
    rules = WalkRules(allow_git=allow_git)
    found = walk(root, rules)
    hashes = hash_files(root, found.files, allow_secrets=allow_secrets, threads=threads, progress=progress)
    files = tuple(TreeFile(file, digest) for file, digest in zip(found.files, hashes, strict=True))
    return Tree(root, files, found.empty_folders, found.ignored, rules)
