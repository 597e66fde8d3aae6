"""The static form of a mirror: one release as the files that any web server can show under the mirror's paths.

``DIR/seed/R/`` holds .tgz, .chunks and .parity; ``DIR/packages/R/`` all else (the two that both need are one file by
hard link). Each appears by one rename, after every chunk of the copy in it was verified by the signed map. Times are
those of the release, so that servers which make ETags of them agree. Everything blocks.
docs/specification/mirror.md, 6.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libreseed import limits
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.files.durable import replace_directory, staging_directory
from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.adapters.release.seed_store import Stamp
from libreseed.auraseal.integrity_manifest import INTEGRITY_MANIFEST_PATH
from libreseed.auraseal.part import part_files
from libreseed.auraseal.tgz_parts import TgzComponents
from libreseed.auraseal.zip_layout import Data
from libreseed.errors import LocalFault
from libreseed.repair.chunkmap import ChunkMap

from .copies import Copy
from .judging import read_chunk_map
from .zips import zip_layout

__all__ = ["ExportOptions", "export_copy", "is_exported"]

_SEED = (".tgz", ".chunks", ".parity")
_SMALL = {name: f".{name}" for name in ("minimal.json", "dht.json", "torrent", "silexium.json")}
_COMPONENT_BYTES = limits.STRIPE_DATA_ROWS * limits.CHUNK_BYTES
_PORTION = 2**20


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to leave out: parts take a little more than the .tgz once more, the zip as much as it."""

    parts: bool = True
    package_zip: bool = True


def is_exported(root: Path, copy: Copy, options: ExportOptions) -> bool:
    """Whether all that would be written of this very release is there already."""
    release = str(copy.minimal.release)
    seed, packages = ReleaseFiles(root / "seed" / release, release), root / "packages" / release
    wanted = [seed.path(suffix) for suffix in _SEED]
    if copy.note.components:
        wanted.append(packages / INTEGRITY_MANIFEST_PATH)
        wanted += [packages / "zip"] * options.package_zip + [packages / "parts" / "0"] * options.parts
    documents = _documents(copy)
    return all(path.is_file() for path in wanted) and all(
        _content(packages / name) == (_content(documents[name]) if name in documents else None) for name in _SMALL
    )


def _documents(copy: Copy) -> dict[str, Path]:
    """The small files that are shown of a copy, by their names in an export."""
    return {name: copy.files.path(suffix) for name, suffix in _SMALL.items() if copy.has(suffix)}


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def export_copy(root: Path, copy: Copy, options: ExportOptions) -> int:
    """Write the files of a whole copy below ``root``; returns their size in bytes.

    Raises LocalFault ``storage.busy`` if the copy changed meanwhile. What was there under its name is replaced.
    """
    release = str(copy.minimal.release)
    for folder in ("seed", "packages"):
        (root / folder).mkdir(exist_ok=True)
    with staging_directory(root / "seed") as seed, staging_directory(root / "packages") as packages:
        staged = ReleaseFiles(seed, release)
        for suffix in _SEED:
            shutil.copyfile(copy.files.path(suffix), staged.path(suffix))
        chunk_map = _verified_map(staged, copy)
        _write_small(packages, staged, copy)
        if copy.note.components:
            (packages / INTEGRITY_MANIFEST_PATH).write_bytes(zip_layout(copy)[0])
        if options.package_zip and copy.note.components:
            _write_zip(packages / "zip", staged, copy)
        if options.parts and copy.note.components:
            _write_parts(packages, staged, chunk_map)
        total = _settle(seed, copy) + _settle(packages, copy)
        replace_directory(seed, root / "seed" / release)
        replace_directory(packages, root / "packages" / release)
    return total


def _verified_map(staged: ReleaseFiles, copy: Copy) -> ChunkMap:
    chunk_map = read_chunk_map(staged, copy.minimal)
    verified = ChunkStore(chunk_map, staged.tgz, staged.path(".parity")).verify()
    if not verified.complete or verified.missing_parity():
        raise LocalFault("storage.busy", f"{copy.minimal.release} changed while it was exported")
    return chunk_map


def _write_small(packages: Path, staged: ReleaseFiles, copy: Copy) -> None:
    for name, path in _documents(copy).items():
        shutil.copyfile(path, packages / name)
        if not copy.fresh(_SMALL[name], Stamp.of(path)):
            raise LocalFault("storage.busy", f"{path.name} changed while it was exported")
    for suffix in (".chunks", ".parity"):
        os.link(staged.path(suffix), packages / suffix.removeprefix("."))


def _write_zip(place: Path, staged: ReleaseFiles, copy: Copy) -> None:
    manifest, layout = zip_layout(copy)
    with place.open("xb") as target, staged.tgz.open("rb") as source:
        for piece in layout.pieces():
            if not isinstance(piece, Data):
                target.write(piece)
            elif piece.entry == 0:
                target.write(manifest)
            else:
                for block in _blocks(source.fileno(), (piece.entry - 1) * _COMPONENT_BYTES, piece.stop):
                    target.write(block)


def _blocks(descriptor: int, offset: int, length: int) -> Iterator[bytes]:
    for at in range(0, length, _PORTION):
        yield os.pread(descriptor, min(_PORTION, length - at), offset + at)


def _write_parts(packages: Path, staged: ReleaseFiles, chunk_map: ChunkMap) -> None:
    """Component 0 once more as ``parts/N``, where the path without a query looks for it."""
    components = TgzComponents(chunk_map)
    with staged.tgz.open("rb") as source:
        for number in range(components.count):
            offset, length = components.span(number)
            files = part_files(components.build(number, os.pread(source.fileno(), length, offset)))
            folder = packages / "components" / str(number)
            folder.mkdir(parents=True)
            for at, data in enumerate(files):
                (folder / str(at)).write_bytes(data)
    (packages / "parts").mkdir()
    for path in (packages / "components" / "0").iterdir():
        os.link(path, packages / "parts" / path.name)


def _settle(folder: Path, copy: Copy) -> int:
    """Modes and times; returns the bytes in files, each counted once."""
    seconds = copy.minimal.timestamp // 1000
    total = 0
    for place, names, files in os.walk(folder):
        for name in names:
            Path(place, name).chmod(0o755)
        for name in files:
            path = Path(place, name)
            path.chmod(0o644)
            os.utime(path, (seconds, seconds))
            status = path.stat()
            total += status.st_size // status.st_nlink
    return total
