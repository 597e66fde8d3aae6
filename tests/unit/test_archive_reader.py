"""Section 3.4: the tar reader and writer as pure functions."""

from __future__ import annotations

import io
import random
import tarfile
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits
from libreseed.errors import ContentRejected
from libreseed.package.archive_reader import ArchiveEnd, EntryData, EntryStart, TarReader
from libreseed.package.archive_writer import TAR_END, entry_header, padding
from libreseed.package.paths import check_path, check_tree, path_key
from tests.archive_forge import END, Forge, entry, header, padded, pax
from tests.hostile_archives import CASES

_SEGMENT = st.text(st.characters(codec="utf-8", exclude_characters="/\\"), min_size=1, max_size=60)
_PATHS = st.lists(st.lists(_SEGMENT, min_size=1, max_size=4).map("/".join), max_size=6, unique=True)


def _legal(paths: list[str]) -> bool:
    try:
        for path in paths:
            check_path(path, "tree")
        check_tree(["manifest.json", *paths], "tree")
    except ContentRejected:
        return False
    return True


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    """The tar of ``files`` (path -> content, mode), ``manifest.json`` first."""
    ordered = sorted(files, key=lambda path: (path != "manifest.json", path_key(path)))
    parts = []
    for path in ordered:
        data, mode = files[path]
        parts.append(entry_header(path, len(data), mode) + data + bytes(padding(len(data))))
    return b"".join(parts) + TAR_END


def _read(tar: bytes, cuts: list[int]) -> dict[str, tuple[bytes, int]] | str:
    """What the reader finds, or the reason why it refuses, when ``tar`` comes in pieces that end at ``cuts``."""
    reader = TarReader()
    files: dict[str, tuple[bytes, int]] = {}
    path, content = "", b""
    bounds = [0, *sorted(cut % (len(tar) + 1) for cut in cuts), len(tar)]
    try:
        for start, end in pairwise(bounds):
            for event in reader.feed(tar[start:end]):
                if isinstance(event, EntryStart):
                    path, content = event.path, b""
                    files[path] = (b"", event.mode)
                elif isinstance(event, EntryData):
                    content += event.data
                    files[path] = (content, files[path][1])
                elif isinstance(event, ArchiveEnd):
                    assert event.folders == ()
        reader.finish()
    except ContentRejected as error:
        return error.reason
    return files


_FILES = (
    _PATHS.filter(_legal)
    .flatmap(
        lambda paths: st.fixed_dictionaries(
            {path: st.tuples(st.binary(max_size=1100), st.sampled_from([0o644, 0o755])) for path in paths}
        )
    )
    .map(lambda files: {"manifest.json": (b"{}", 0o644), **files})
)


@given(_FILES, st.lists(st.integers(0, 10**6), max_size=5))
def test_what_is_written_is_read_however_it_is_cut(files: dict[str, tuple[bytes, int]], cuts: list[int]) -> None:
    assert _read(_tar(files), cuts) == files


@settings(max_examples=50)
@given(_FILES)
def test_tarfile_reads_and_writes_the_same_bytes(files: dict[str, tuple[bytes, int]]) -> None:
    tar = _tar(files)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        read = {member.name: (archive.extractfile(member).read(), member.mode) for member in archive}  # type: ignore[union-attr]
    assert read == files
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, (data, mode) in read.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    assert written.getvalue()[: len(tar)] == tar


@given(st.binary(max_size=1500), st.lists(st.integers(0, 10**6), max_size=4))
def test_noise_gives_declared_errors_however_it_is_cut(noise: bytes, cuts: list[int]) -> None:
    assert isinstance(_read(noise, cuts), str)
    assert _read(noise, cuts) == _read(noise, [])


@given(st.integers(0, 6000), st.integers(1, 255), st.lists(st.integers(0, 10**6), max_size=4))
def test_a_changed_byte_gives_the_same_result_however_it_is_cut(at: int, mask: int, cuts: list[int]) -> None:
    tar = bytearray(_CHANGED)
    tar[at % len(tar)] ^= mask
    assert _read(bytes(tar), cuts) == _read(bytes(tar), [])


_CHANGED = Forge(files={"a": b"x" * 20, "b/é": b"y" * 600}, executables=()).tar


def test_byte_by_byte() -> None:
    tar = _tar({"manifest.json": (b"{}", 0o644), "é" * 90: (b"z" * 700, 0o755)})
    assert _read(tar, list(range(len(tar)))) == _read(tar, []) != {}


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["A", "a"], "archive.collision"),
        (["STRASSE", "straße"], "archive.collision"),
        (["e\u0301", "é"], "archive.collision"),
        (["fi", "ﬁ"], "archive.collision"),
        (["MANIFEST.JSON"], "archive.collision"),
        (["a", "a/b"], "archive.file-and-folder"),
        (["manifest.json/x"], "archive.file-and-folder"),
        (["b", "a"], "archive.order"),
        (["a", "a"], "archive.duplicate"),
        (["manifest.json"], "archive.duplicate"),
        (["é", "z"], "archive.order"),
    ],
)
def test_paths_that_cannot_stand_together(paths: list[str], reason: str) -> None:
    tar = entry("manifest.json", b"{}") + b"".join(entry(path, b"x") for path in paths) + END
    assert _read(tar, []) == reason


def test_a_file_where_a_folder_entry_is() -> None:
    tar = entry("manifest.json", b"{}") + header(b"a/", typeflag=b"5") + entry("a", b"x") + END
    assert _read(tar, []) == "archive.file-and-folder"


def test_a_folder_entry_above_no_file_of_the_archive() -> None:
    tar = entry("manifest.json", b"{}") + header(b"a/", typeflag=b"5") + entry("ab/c", b"x") + END
    assert _read(tar, []) == "archive.folder"


def test_order_is_that_of_utf8_bytes_not_of_utf16_units() -> None:
    paths = ["manifest.json", "e-﴾", "e-😀"]
    assert _read(b"".join(entry(path, b"") for path in paths) + END, []) == {path: (b"", 0o644) for path in paths}


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_a_bomb_of_entries_is_stopped_by_their_count(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.ARCHIVE_ENTRIES == 100_000
    monkeypatch.setattr(limits, "ARCHIVE_ENTRIES", 500)  # the same code, in a hundredth of the time
    typeflag = b"0" if kind == "files" else b"5"
    reader = TarReader()
    list(reader.feed(entry("manifest.json", b"")))
    for number in range(1, 500):
        list(reader.feed(header(b"%06d" % number, typeflag=typeflag)))
    with pytest.raises(ContentRejected) as caught:
        list(reader.feed(header(b"x", typeflag=typeflag)))
    assert caught.value.reason == "archive.entries"


@pytest.mark.parametrize("name", [name for name, (_, reason) in CASES.items() if reason == "archive.pax"])
def test_pax_cases_do_not_depend_on_the_cut(name: str) -> None:
    tar = zlib.decompress(CASES[name][0](Forge())[10:-8], -15)
    cuts = [random.Random(name).randrange(len(tar)) for _ in range(6)]
    assert _read(tar, cuts) == _read(tar, []) == "archive.pax"


def test_a_pax_path_is_used_whatever_the_name_field_says() -> None:
    tar = entry("manifest.json", b"{}") + pax({"path": "é"}) + header(b"../../evil", 1) + padded(b"x") + END
    assert _read(tar, []) == {"manifest.json": (b"{}", 0o644), "é": (b"x", 0o644)}


@pytest.mark.parametrize(
    ("size", "mode", "mtime"), [(2**33, 0o644, 0), (-1, 0o644, 0), (0, 0o600, 0), (0, 0o644, 2**33)]
)
def test_the_writer_refuses_what_a_header_cannot_hold(size: int, mode: int, mtime: int) -> None:
    with pytest.raises(ContentRejected) as caught:
        entry_header("a", size, mode, mtime)
    assert caught.value.reason == "archive.header"


def test_the_largest_file_has_a_header() -> None:
    reader = TarReader()
    list(reader.feed(entry("manifest.json", b"{}")))
    (start,) = list(reader.feed(entry_header("a", limits.FILE_BYTES, 0o644, 8**11 - 1)))
    assert start == EntryStart("a", limits.FILE_BYTES, 0o644)
