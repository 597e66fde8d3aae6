"""The script tags of a page that carry AuraSeal, and their ``integrity`` attributes written anew (section 8).

A tag is ours if its type begins with ``auraseal/`` or its integrity attribute speaks of AuraSeal. Only that attribute
is changed, all other bytes of the page stay. Python's reader of HTML and a browser's may disagree about a malformed
page; then a tag keeps a wrong attribute, and the loader refuses it. Nothing here reads a file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape, unescape
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

__all__ = ["ScriptTag", "find_scripts", "recovery_path", "with_integrity"]

_ATTRIBUTE = re.compile(r"""[\s/]([^\s"'>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'=<>`]+))?""")


@dataclass(frozen=True, slots=True)
class ScriptTag:
    """A start tag of ours: ``at`` is its offset in the page, ``line`` counts from 1.

    ``path`` is that of its ``src`` within the site, None if that leads elsewhere (another host, above the root).
    """

    at: int
    line: int
    text: str
    src: str
    path: str | None
    integrity: str | None


def recovery_path(path: str) -> str:
    """Where the recovery file of ``path``, whose name has a suffix, is unless its tag says otherwise.

    That of ``js/core.js`` is ``js/core.part.1.js``. The loader has the same rule.
    """
    stem, dot, suffix = path.rpartition(".")
    return f"{stem}.part.1{dot}{suffix}"


def find_scripts(page: str, path: str) -> list[ScriptTag]:
    """All tags of ours in ``page``, whose own path within the site is ``path``."""
    reader = _Reader(page, path)
    reader.feed(page)
    reader.close()
    return reader.found


def with_integrity(page: str, attributes: Mapping[ScriptTag, str]) -> str:
    """``page`` with the integrity attribute of each tag, as found in it, set to the text given for it."""
    pieces, end = [], 0
    for tag, value in sorted(attributes.items(), key=lambda item: item[0].at):
        start, stop, new = _replacement(tag.text, value)
        pieces += [page[end : tag.at + start], new]
        end = tag.at + stop
    return "".join([*pieces, page[end:]])


def _attributes(tag: str) -> Iterator[re.Match[str]]:
    """The attributes of a start tag; of two with one name the first counts, as in a browser."""
    seen = set()
    for match in _ATTRIBUTE.finditer(tag, len("<script")):
        if match[1].lower() not in seen:
            seen.add(match[1].lower())
            yield match


def _replacement(tag: str, value: str) -> tuple[int, int, str]:
    """Which span of ``tag`` becomes what."""
    quoted = f'"{escape(value)}"'
    behind = len("<script")
    for match in _attributes(tag):
        name = match[1].lower()
        if name == "integrity":
            return match.start(1), match.end(), f"{match[1]}={quoted}"
        if name == "src":
            behind = match.end()
    return behind, behind, f" integrity={quoted}"


class _Reader(HTMLParser):
    def __init__(self, page: str, path: str) -> None:
        super().__init__(convert_charrefs=True)
        self._page = page
        self._lines = [0, *(match.end() for match in re.finditer("\n", page))]
        self._base: str | None = path
        self.found: list[ScriptTag] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        text = self.get_starttag_text() or ""
        if tag == "base":
            self._rebase(text)
        if tag != "script":
            return
        values = {match[1].lower(): _value(match[2]) for match in _attributes(text)}
        integrity = values.get("integrity")
        kind = values.get("type", "").strip().lower()
        if not kind.startswith("auraseal/") and "auraseal" not in (integrity or "").lower():
            return
        line, column = self.getpos()
        src = values.get("src", "")
        self.found.append(
            ScriptTag(self._lines[line - 1] + column, line, text, src, _resolve(self._base, src), integrity)
        )

    def _rebase(self, text: str) -> None:
        """Relative addresses behind ``<base href>`` are relative to that; one that leads elsewhere leads all astray."""
        for match in _ATTRIBUTE.finditer(text, len("<base")):
            if match[1].lower() == "href":
                self._base = _resolve(self._base, _value(match[2]))


def _value(raw: str | None) -> str:
    if raw is None:
        return ""
    return unescape(raw[1:-1] if raw[:1] in ('"', "'") else raw)


def _resolve(base: str | None, address: str) -> str | None:
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return None
    if base is None or not parts.path or parts.scheme or parts.netloc:
        return None
    path = unquote(parts.path)
    joined = path.lstrip("/") if path.startswith("/") else posixpath.join(posixpath.dirname(base), path)
    normal = posixpath.normpath(joined)
    trailing = "/" if joined.endswith("/") and normal != "." else ""
    return None if normal == ".." or normal.startswith("../") else normal + trailing
