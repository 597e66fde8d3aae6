"""Hostile archives: every case of ``CASES`` breaks one rule and names the reason that it must be refused with.

They are made by :class:`tests.archive_forge.Forge`, which does not use the code under test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blake3 import blake3

from tests.archive_forge import END, GZIP_HEADER, Forge, entry, gz, header, padded, pax, record

__all__ = ["CASES", "Make"]

Cases = dict[str, tuple["Make", str]]
Make = Callable[[Forge], bytes]


def _tar(make: Make) -> Make:
    return lambda forge: gz(make(forge))


def _instead(path: str, raw: bytes) -> Make:
    return _tar(lambda forge: forge.with_entry(path, raw))


def _added(path: str, raw: bytes) -> Make:
    return _tar(lambda forge: forge.after(path, raw))


def _named(path: str) -> Make:
    """An entry under a bad path; ``a`` is the first file, so nothing else is wrong before it."""
    return _instead("SRC", entry(path, b"evil"))


def _first(forge: Forge, drop: str) -> bytes:
    return b"".join(raw for path, raw in forge.entries().items() if path != drop) + END


_BAD_PATHS = {
    "absolute": "/etc/cron.d/x",
    "parent": "../x",
    "inner parent": "a/../../x",
    "dot": "./a",
    "empty segment": "a//b",
    "trailing slash": "a/",
    "backslash": "a\\..\\x",
    "drive": "C:x",
    "drive and slash": "c:/x",
    "newline": "a\nb",
    "escape": "a\x1b[2Jb",
    "DEL": "a\x7f",
    "C1 control": "a\x85b",
    "right-to-left override": "a\u202etxt.exe",
    "isolate": "a\u2066b",
    "parent in pax": "x/" * 60 + "../" * 70 + "etc/passwd",
}
_BAD_LONG_PATHS = {
    "segment of 256 bytes": "s" * 256,
    "segment of 128 two-byte letters": "é" * 128,
    "1025 bytes": "/".join(["p" * 204] * 5) + "/q",
    "65 segments": "/".join("a" * 65),
}
_TYPES = {
    b"1": "archive.hardlink",
    b"2": "archive.symlink",
    b"3": "archive.device",
    b"4": "archive.device",
    b"6": "archive.fifo",
    b"7": "archive.type",
    b"\0": "archive.type",
    b"A": "archive.type",
    b"D": "archive.type",
    b"K": "archive.gnu",
    b"L": "archive.gnu",
    b"M": "archive.gnu",
    b"N": "archive.type",
    b"S": "archive.sparse",
    b"V": "archive.type",
    b"X": "archive.type",
    b"g": "archive.global-header",
}
_PAX = {
    "size that differs from the header's (TARmageddon)": (record("size", "0"), "archive.pax-key"),
    "mtime": (record("mtime", "1.5"), "archive.pax-key"),
    "linkpath": (record("linkpath", "/etc"), "archive.pax-key"),
    "extended attribute": (record("SCHILY.xattr.user.x", "1"), "archive.pax-key"),
    "character set": (record("hdrcharset", "BINARY"), "archive.pax-key"),
    "path, then size": (record("path", "é") + record("size", "0"), "archive.pax-key"),
    "path twice": (record("path", "é") + record("path", "ü"), "archive.pax"),
    "path that the name field could hold": (record("path", "plain"), "archive.pax"),
    "empty path": (record("path", ""), "archive.pax"),
    "NUL in the path": (record("path", "é\0b"), "archive.path"),
    "path that is not UTF-8": (record("path", b"\xff\xfe"), "archive.path"),
    "overlong UTF-8": (record("path", b"\xc0\xaf"), "archive.path"),
    "surrogate in UTF-8": (record("path", b"\xed\xa0\x80"), "archive.path"),
    "sparse by pax": (record("GNU.sparse.major", "1"), "archive.sparse"),
    "sparse name": (record("GNU.sparse.name", "x"), "archive.sparse"),
    "length too small": (b"9 path=\xc3\xa9\n", "archive.pax"),
    "length too large": (b"99 path=\xc3\xa9\n", "archive.pax"),
    "length with a leading zero": (b"011 path=\xc3\xa9\n", "archive.pax"),
    "length that is no number": (b"+11 path=\xc3\xa9\n", "archive.pax"),
    "no newline": (b"10 path=\xc3\xa9x", "archive.pax"),
    "no equals sign": (b"6 ab\n\n", "archive.pax"),
    "too long": (record("path", "é" * 2100), "archive.pax"),
}
_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "size in base 256": ({"size_field": b"\x80" + bytes(10) + b"\x05"}, "archive.base256"),
    "negative size": ({"size_field": b"\xff" * 12}, "archive.base256"),
    "owner in base 256": ({"uid_field": b"\x80" + bytes(7)}, "archive.base256"),
    "negative time": ({"mtime_field": b"\xff" * 12}, "archive.base256"),
    "size with a minus": ({"size_field": b"-0000000005\0"}, "archive.header"),
    "size with spaces": ({"size_field": b"         5 \0"}, "archive.header"),
    "size of twelve digits": ({"size_field": b"777777777777"}, "archive.header"),
    "size that is empty": ({"size_field": bytes(12)}, "archive.header"),
    "size with an eight": ({"size_field": b"00000000008\0"}, "archive.header"),
    "wrong checksum": ({"checksum_off": 1}, "archive.header-checksum"),
    "GNU magic": ({"magic": b"ustar  \0"}, "archive.format"),
    "no magic": ({"magic": b""}, "archive.format"),
    "prefix field": ({"prefix": b"../.."}, "archive.prefix"),
    "link name on a file": ({"link": b"/etc/passwd"}, "archive.header"),
    "device number": ({"device": b"0000001\0"}, "archive.header"),
    "bytes behind the last field": ({"tail": b"x"}, "archive.header"),
    "setuid": ({"mode": 0o4644}, "archive.mode"),
    "setgid": ({"mode": 0o2755}, "archive.mode"),
    "sticky": ({"mode": 0o1644}, "archive.mode"),
    "world-writable": ({"mode": 0o666}, "archive.mode"),
    "private": ({"mode": 0o600}, "archive.mode"),
    "executable that the manifest does not name": ({"mode": 0o755}, "files.mode"),
}


def _header_cases() -> Cases:
    a = b"first"
    return {
        "symlink, then a file written through it": (
            _instead("bin/run", header(b"d", typeflag=b"2", link=b"/tmp") + entry("d/e", b"x" * 700)),
            "archive.symlink",
        ),
        "hard link to a file outside": (
            _instead("z", header(b"z", typeflag=b"1", link=b"/etc/passwd")),
            "archive.hardlink",
        ),
        "GNU long name": (
            _instead("z", header(b"././@LongLink", 4, typeflag=b"L", magic=b"ustar  \0") + padded(b"../z")),
            "archive.gnu",
        ),
        "raw non-ASCII name": (_instead("z", header("zé".encode(), 4) + padded(b"last")), "archive.path"),
        "NUL in the name": (_instead("z", header(b"z\0/../evil", 4) + padded(b"last")), "archive.path"),
        "empty name": (_instead("z", header(b"", 4) + padded(b"last")), "archive.path"),
        "two pax headers": (_instead("z", pax({"path": "é"}) * 2 + header(b"z", 4) + padded(b"last")), "archive.pax"),
        "pax header at the end": (_added("z", pax({"path": "é"})), "archive.truncated"),
        "pax header without a record": (_instead("z", pax(b"") + header(b"z", 4) + padded(b"last")), "archive.pax"),
        "bytes behind a pax record": (
            _instead("z", header(b"p", 12, typeflag=b"x") + padded(record("path", "é"), b"!")),
            "archive.padding",
        ),
        "bytes behind a file's content": (_instead("a", header(b"a", 5) + padded(a, b"!")), "archive.padding"),
    }


def _listing_cases() -> Cases:
    return {
        "duplicate": (_tar(lambda f: f.after("a", f.entries()["a"])), "archive.duplicate"),
        "second manifest": (_tar(lambda f: f.after("z", f.entries()["manifest.json"])), "archive.duplicate"),
        "out of order": (
            _tar(lambda f: f.with_entry("a", f.entries()["z"]).replace(f.entries()["z"] + END, f.entries()["a"] + END)),
            "archive.order",
        ),
        "file that is not listed": (_added("z", entry("zz", b"x")), "archive.listing"),
        "listed file that is missing": (_tar(lambda f: _first(f, "z")), "archive.listing"),
        "SRC missing": (_tar(lambda f: _first(f, "SRC")), "archive.listing"),
        "manifest missing": (_tar(lambda f: _first(f, "manifest.json")), "archive.manifest-first"),
        "manifest last": (
            _tar(lambda f: _first(f, "manifest.json")[:-1024] + f.entries()["manifest.json"] + END),
            "archive.manifest-first",
        ),
        "manifest that is executable": (
            _tar(lambda f: f.with_entry("manifest.json", entry("manifest.json", f.manifest.data, mode=0o755))),
            "archive.mode",
        ),
        "manifest of 17 MB": (_instead("manifest.json", header(b"manifest.json", 17 * 2**20)), "manifest.too-large"),
    }


def _folder_cases() -> Cases:
    a = b"first"
    return {
        "folder first": (
            _tar(lambda f: f.before("manifest.json", header(b"d/", typeflag=b"5", mode=0o755))),
            "archive.manifest-first",
        ),
        "folder above no file": (_added("z", header(b"nothing/", typeflag=b"5", mode=0o755)), "archive.folder"),
        "folder above no file, judged before what follows": (
            _tar(lambda f: f.after("a", header(b"nothing/", typeflag=b"5"))[:-1300]),
            "archive.folder",
        ),
        "folder with content": (_instead("a", header(b"d/", 5, typeflag=b"5") + padded(a)), "archive.folder"),
        "folder twice": (_added("a", header(b"d/", typeflag=b"5") * 2), "archive.duplicate"),
        "setgid folder": (_added("a", header(b"d/", typeflag=b"5", mode=0o2755)), "archive.mode"),
        "folder that escapes": (_added("a", header(b"../d/", typeflag=b"5", mode=0o755)), "archive.path"),
        "the root as a folder": (_added("a", header(b"./", typeflag=b"5", mode=0o755)), "archive.path"),
        "folder where a file is": (_added("a", header(b"a/", typeflag=b"5", mode=0o755)), "archive.file-and-folder"),
        "file where a folder entry is": (_added("SRC", header(b"a", typeflag=b"5")), "archive.folder"),
        "file below a file": (_added("a", entry("a/b", b"x")), "archive.file-and-folder"),
        "names that differ in case": (_instead("SRC", entry("A", b"x")), "archive.listing"),
    }


def _end_cases() -> Cases:
    return {
        "lone zero block": (_tar(lambda f: f.after("a", bytes(512))), "archive.format"),
        "archive inside the end": (_tar(lambda f: f.tar[:-512] + f.tar), "archive.format"),
        "one zero block at the end": (_tar(lambda f: f.tar[:-512]), "archive.truncated"),
        "no end": (_tar(lambda f: f.tar[:-1024]), "archive.truncated"),
        "cut in a header": (_tar(lambda f: f.tar[:-1300]), "archive.truncated"),
        "cut in a file": (_tar(lambda f: f.tar[:-2000]), "archive.truncated"),
        "three zero blocks": (_tar(lambda f: f.tar + bytes(512)), "archive.trailing"),
        "blocked to 10240 as tar does": (_tar(lambda f: f.tar + bytes(-len(f.tar) % 10240)), "archive.trailing"),
        "second archive behind the first": (_tar(lambda f: f.tar * 2), "archive.trailing"),
        "nothing but the end": (_tar(lambda _: END), "archive.truncated"),
        "nothing at all": (_tar(lambda _: b""), "archive.truncated"),
        "bomb of zeros": (
            _tar(lambda f: f.with_entry("z", header(b"z", 2**25) + bytes(2**25))),
            "files.size",
        ),
    }


def _table_cases() -> Cases:
    """One case for each row of the tables above."""
    cases: Cases = {}
    for name, path in _BAD_PATHS.items():
        cases[f"path: {name}"] = (_named(path), "archive.path")
    for name, path in _BAD_LONG_PATHS.items():
        cases[f"path: {name}"] = (_named(path), "archive.path-bounds")
    for flag, reason in _TYPES.items():
        cases[f"type {flag!r}"] = (_instead("z", header(b"z", typeflag=flag, link=b"target")), reason)
    for name, (body, reason) in _PAX.items():
        cases[f"pax: {name}"] = (_instead("z", pax(body) + header(b"z", 4) + padded(b"last")), reason)
    for name, (fields, reason) in _FIELDS.items():
        cases[f"field: {name}"] = (_instead("a", header(b"a", 5, **fields) + padded(b"first")), reason)
    return cases


def _gzip_cases() -> Cases:
    def head(at: int, value: int) -> Make:
        changed = bytearray(GZIP_HEADER)
        changed[at] = value
        return lambda forge: gz(forge.tar, head=bytes(changed))

    named = GZIP_HEADER[:3] + b"\x08" + GZIP_HEADER[4:] + b"x.tar\0"
    cases: Cases = {
        "gzip: file name": (lambda f: gz(f.tar, head=named), "archive.gzip-header"),
        "gzip: second member": (lambda f: gz(f.tar) + gz(b""), "archive.second-member"),
        "gzip: archive in two members": (lambda f: gz(f.tar[:2048]) + gz(f.tar[2048:]), "archive.second-member"),
        "gzip: zeros behind": (lambda f: gz(f.tar) + bytes(8), "archive.trailing"),
        "gzip: garbage behind": (lambda f: gz(f.tar) + b"!", "archive.trailing"),
        "gzip: wrong CRC": (lambda f: gz(f.tar, crc_off=1), "archive.checksum"),
        "gzip: wrong length": (lambda f: gz(f.tar, length_off=1), "archive.length"),
        "gzip: length 4 GiB off": (lambda f: gz(f.tar, length_off=2**31), "archive.length"),
        "gzip: cut in the header": (lambda f: gz(f.tar)[:7], "archive.truncated"),
        "gzip: cut in the trailer": (lambda f: gz(f.tar)[:-1], "archive.truncated"),
        "gzip: no trailer": (lambda f: gz(f.tar)[:-8], "archive.truncated"),
        "gzip: empty": (lambda _: b"", "archive.truncated"),
        "gzip: impossible block": (lambda f: GZIP_HEADER + b"\x07" + gz(f.tar)[11:], "archive.deflate"),
        "gzip: bomb in the manifest": (
            lambda _: gz(header(b"manifest.json", 16 * 2**20) + bytes(2**26)),
            "archive.ratio",
        ),
    }
    for at, value, what in ((0, 0x50, "magic"), (2, 7, "method"), (4, 1, "time"), (9, 3, "system")):
        cases[f"gzip: other {what}"] = (head(at, value), "archive.gzip-header")
    for bit in range(8):
        cases[f"gzip: flag {bit}"] = (head(3, 1 << bit), "archive.gzip-header")
    return cases


def _content_cases() -> Cases:
    return {
        "content changed": (_instead("a", entry("a", b"First")), "files.hash"),
        "content longer": (_instead("a", entry("a", b"first!")), "files.size"),
        "content shorter": (_instead("a", entry("a", b"firs")), "files.size"),
        "executable made plain": (_instead("bin/run", entry("bin/run", b"#!/bin/sh\n")), "files.mode"),
        "SRC changed": (_tar(lambda f: f.with_entry("SRC", entry("SRC", f.contents["SRC"][::-1]))), "files.hash"),
        "SRC signed, but of other content": (
            lambda _: gz(Forge(src=Forge(files={"a": b"other"}).contents["SRC"]).tar),
            "src.mismatch",
        ),
        "SRC signed, but empty": (lambda _: gz(Forge(src=b"").tar), "src.mismatch"),
        "SRC signed, one hash wrong": (
            lambda f: gz(Forge(src=f.contents["SRC"].replace(blake3(b"last").hexdigest().encode(), b"0" * 64)).tar),
            "src.mismatch",
        ),
        "manifest cut": (
            _tar(lambda f: f.with_entry("manifest.json", entry("manifest.json", f.manifest.data[:-1]))),
            "manifest.not-json",
        ),
        "manifest with a space": (
            _tar(lambda f: f.with_entry("manifest.json", entry("manifest.json", f.manifest.data + b" "))),
            "manifest.not-canonical",
        ),
        "manifest with another version": (
            _tar(
                lambda f: f.with_entry(
                    "manifest.json", entry("manifest.json", f.manifest.data.replace(b'"1.0.0"', b'"1.0.1"'))
                )
            ),
            "manifest.seal",
        ),
        "manifest with another contentHash": (
            _tar(
                lambda f: f.with_entry(
                    "manifest.json",
                    entry(
                        "manifest.json",
                        f.manifest.data.replace(f.manifest.content_hash.hex.encode(), b"0" * 64),
                    ),
                )
            ),
            "manifest.content-hash",
        ),
    }


CASES: Cases = {
    **_header_cases(),
    **_listing_cases(),
    **_folder_cases(),
    **_end_cases(),
    **_table_cases(),
    **_gzip_cases(),
    **_content_cases(),
}
