"""SRC: the source index at a package's root (Silexium, section 2; DESIGN 3.2).

One line per file except the root ``manifest.json`` and ``SRC``: path, TAB, size in decimal, TAB, BLAKE3-256 in bare
hex, LF; ordered by the paths' UTF-8 bytes. Only one spelling is accepted. Specification: ``package.md``, 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from libreseed import limits
from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest
from libreseed.package.paths import MANIFEST_PATH, SRC_PATH, check_path, check_tree, path_key

__all__ = ["SrcLine", "build_src", "check_src", "parse_src", "src_size"]

_NUMBER = re.compile("0|[1-9][0-9]{0,15}", re.ASCII)
_HEX64 = re.compile("[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SrcLine:
    """One file as SRC lists it: ``path``, ``size`` in bytes, BLAKE3 of its content."""

    path: str
    size: int
    blake3: Blake3Digest

    @property
    def data(self) -> bytes:
        """The line, LF included."""
        return f"{self.path}\t{self.size}\t{self.blake3.hex}\n".encode()


def build_src(lines: Iterable[SrcLine]) -> bytes:
    """The bytes of SRC; ``lines`` in any order, without ``manifest.json`` and ``SRC``."""
    return b"".join(line.data for line in sorted(lines, key=lambda line: path_key(line.path)))


def src_size(sizes: Mapping[str, int]) -> int:
    """The length of SRC in bytes for a package with these ``sizes`` (path -> bytes, ``SRC`` itself ignored)."""
    return sum(len(path_key(path)) + len(str(size)) + 67 for path, size in sizes.items() if path != SRC_PATH)


def parse_src(data: bytes) -> tuple[SrcLine, ...]:
    """Read SRC; raises :class:`ContentRejected` (``src.malformed``) unless it is exactly in form and order."""
    if len(data) > limits.MANIFEST_BYTES:
        raise ContentRejected("src.malformed", f"SRC has more than {limits.MANIFEST_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ContentRejected("src.malformed", "SRC is not UTF-8") from error
    if text and not text.endswith("\n"):
        raise ContentRejected("src.malformed", "the last line of SRC has no LF")
    lines = tuple(_lines(text))
    keys = [path_key(line.path) for line in lines]
    if any(after <= before for before, after in pairwise(keys)):
        raise ContentRejected("src.malformed", "the lines of SRC are out of order")
    return lines


def check_src(data: bytes, sizes: Mapping[str, int], digests: Mapping[str, Blake3Digest]) -> None:
    """Demand that ``data`` is the SRC of exactly these files; raises :class:`ContentRejected` (``src.mismatch``)."""
    expected = build_src(SrcLine(path, sizes[path], digest) for path, digest in digests.items() if path != SRC_PATH)
    if data != expected:
        raise ContentRejected("src.mismatch", "SRC does not list the files of the package")


def _lines(text: str) -> Iterator[SrcLine]:
    paths = []
    for line in text.split("\n")[:-1]:
        fields = line.split("\t")
        if len(fields) != 3 or not _NUMBER.fullmatch(fields[1]) or not _HEX64.fullmatch(fields[2]):
            raise ContentRejected("src.malformed", f"not a line of SRC: {line!r:.200}")
        path, size, digest = fields
        try:
            check_path(path, "manifest")
        except ContentRejected as error:
            raise ContentRejected("src.malformed", error.message, evidence=error.evidence) from error
        if path in (MANIFEST_PATH, SRC_PATH) or int(size) > limits.FILE_BYTES:
            raise ContentRejected("src.malformed", f"SRC never lists this: {line!r:.200}")
        paths.append(path)
        yield SrcLine(path, int(size), Blake3Digest(bytes.fromhex(digest)))
    try:
        check_tree(paths, "manifest")
    except ContentRejected as error:
        raise ContentRejected("src.malformed", error.message, evidence=error.evidence) from error
