"""What a path inside a package may look like, and which paths may stand beside each other (DESIGN 3.4).

A path is relative, has ``/`` between its segments and is compared by its UTF-8 bytes. It is accepted or rejected, never
rewritten: the only normal form is the path itself. ``area`` names the caller's document in the reason code
(``manifest.path``, ``archive.path``, ``tree.path``). Nothing here touches a disk. Specification: ``package.md``, 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from libreseed import limits
from libreseed.errors import ContentRejected

__all__ = ["MANIFEST_PATH", "SRC_PATH", "PathSet", "check_path", "check_tree", "path_key"]

MANIFEST_PATH = "manifest.json"
SRC_PATH = "SRC"

# Nearly all paths of real packages: ASCII, where the grammar and the bound on a segment are one expression. It decides
# nothing else than _grammar_fault and _bounds_fault do.
_SEGMENT = r"(?!\.{1,2}(?:/|\Z))[^/\\\x00-\x1f\x7f]{1,255}"
_PLAIN = re.compile(rf"(?!.:){_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)
# Backslash, Unicode category Cc, and the explicit bidirectional embeddings, overrides and isolates.
_FORBIDDEN = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def path_key(path: str) -> bytes:
    """The order of paths in contentHash, SRC, ``executables`` and the archive: their UTF-8 bytes."""
    return path.encode("utf-8")


def check_path(path: str, area: str) -> str:
    """Return ``path`` if a package may hold it; raises :class:`ContentRejected` (``path``, ``path-bounds``)."""
    if (
        len(path) <= limits.PATH_BYTES
        and path.isascii()
        and path.count("/") < limits.PATH_DEPTH
        and _PLAIN.fullmatch(path)
    ):
        return path
    if fault := _grammar_fault(path):
        raise ContentRejected(f"{area}.path", f"{fault}: {path!r:.200}", evidence={"path": path})
    if fault := _bounds_fault(path):
        raise ContentRejected(f"{area}.path-bounds", f"{fault}: {path!r:.200}", evidence={"path": path})
    return path


def check_tree(paths: Iterable[str], area: str) -> None:
    """Demand that ``paths`` (each legal on its own) can all be files of one package; see :class:`PathSet`."""
    tree = PathSet(area)
    for path in paths:
        tree.add(path)


class PathSet:
    """The files of one package: no two that a file system could take for one, none that is also a folder.

    Two paths collide when NFKC, casefold, NFKC makes them equal; ``SRC`` beside ``src/a`` is good. Memory is bounded by
    the caller's count of paths (``limits.ARCHIVE_ENTRIES``).
    """

    def __init__(self, area: str) -> None:
        self._area = area
        self._files: dict[str, str] = {}  # folded -> path as given
        self._paths: set[str] = set()
        self._folders: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def has_folder(self, path: str) -> bool:
        """Whether a file lies below ``path``."""
        return path in self._folders

    def add(self, path: str) -> None:
        """Take in a file's path; raises :class:`ContentRejected` (``collision``, ``file-and-folder``)."""
        folded = _folded(path)
        if (other := self._files.setdefault(folded, path)) != path or path in self._paths:
            message = f"{other!r:.200} and {path!r:.200} are one name on some file systems"
            raise ContentRejected(f"{self._area}.collision", message, evidence={"paths": [other, path]})
        self._paths.add(path)
        if path in self._folders:
            self._both(path)
        parent, cut, _ = path.rpartition("/")
        while cut and parent not in self._folders:
            if parent in self._paths:
                self._both(parent)
            self._folders.add(parent)
            parent, cut, _ = parent.rpartition("/")

    def _both(self, path: str) -> None:
        message = f"{path!r:.200} is a file and a folder"
        raise ContentRejected(f"{self._area}.file-and-folder", message, evidence={"path": path})


def _grammar_fault(path: str) -> str | None:
    if not path:
        return "an empty path"
    if path[1:2] == ":":
        return "a drive prefix"
    if _FORBIDDEN.search(path):
        return "a backslash, control character or bidirectional override"
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        return "absolute, or with an empty, '.' or '..' segment"
    try:
        path_key(path)
    except UnicodeEncodeError:
        return "not valid UTF-8"
    return None


def _bounds_fault(path: str) -> str | None:
    if len(path_key(path)) > limits.PATH_BYTES:
        return f"more than {limits.PATH_BYTES} bytes"
    if path.count("/") >= limits.PATH_DEPTH:
        return f"more than {limits.PATH_DEPTH} segments"
    if any(len(path_key(segment)) > limits.SEGMENT_BYTES for segment in path.split("/")):
        return f"a segment of more than {limits.SEGMENT_BYTES} bytes"
    return None


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())
