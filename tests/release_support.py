"""Real releases for tests, made in-process by the packager's own pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from libreseed.adapters.files.watcher import Nobody
from libreseed.adapters.release.release_build import BuiltRelease, ReleasePlan, build_release, collect_tree
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.ids import ReleaseId
from libreseed.keys.ed25519 import PrivateKey

__all__ = ["KEY", "TIMESTAMP", "make_release", "write_tree"]

KEY = PrivateKey(bytes(range(32)))
TIMESTAMP = 1_700_000_000_000  # ms
FILES = {"README": b"hello\n", "bin/run": b"#!/bin/sh\necho hello\n", "src/données.txt": "é".encode() * 40}


def write_tree(root: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """Write ``files`` below ``root``; what lies in ``bin/`` is executable."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if name.startswith("bin/") else 0o644)
    return root


def make_release(
    folder: Path,
    release: str = "hello@1.0.0",
    files: Mapping[str, bytes] = FILES,
    *,
    key: PrivateKey = KEY,
    timestamp: int = TIMESTAMP,
) -> tuple[ReleaseFiles, BuiltRelease]:
    """The six files of a release in ``folder / release``."""
    identity = ReleaseId.parse(release)
    tree = collect_tree(write_tree(folder / f"tree-{os.urandom(4).hex()}", files), Nobody())
    place = folder / release
    place.mkdir()
    built = build_release(tree, ReleasePlan(identity, timestamp), key, place, Nobody())
    return ReleaseFiles.of_release(place, identity), built
