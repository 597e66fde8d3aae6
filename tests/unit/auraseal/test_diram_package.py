"""Section 3.9: the package zip: one form, five divisions, components that heal; no trick of zips gets in."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import limits, wire
from libreseed.auraseal.component import build_component
from libreseed.auraseal.diram_package import DIVISIONS, MemberPath, build_package, open_package
from libreseed.auraseal.health_trie import Health
from libreseed.auraseal.integrity import Integrity
from libreseed.auraseal.part import part_files
from libreseed.auraseal.zip_layout import Data, ZipEntry, ZipLayout, parse_zip, read_zip
from libreseed.errors import ContentRejected, NotFound

_TEXT = b"all that is written here is written twice, all that is written here is written twice. " * 300
_COMPONENTS = {
    (0, 0): _TEXT[:20000],
    (0, 255): hashlib.shake_256(b"noise").digest(6000),
    (1, 3): b"",
    (2, 0): _TEXT[:5120],
    (3, 100): b"x",
    (4, 7): _TEXT,
}
_IN_PARTS = {(0, 0), (0, 255), (1, 3), (4, 7)}


@lru_cache(maxsize=1)
def _package() -> bytes:
    return build_package(_COMPONENTS, in_parts=_IN_PARTS)


def _files() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(_package())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(files: dict[str, bytes]) -> bytes:
    """A zip of the right form, whatever it holds."""
    layout = ZipLayout(tuple(ZipEntry(path, len(file), zlib.crc32(file)) for path, file in files.items()))
    data = list(files.values())
    return b"".join(data[piece.entry] if isinstance(piece, Data) else piece for piece in layout.pieces())


def test_every_component_comes_back() -> None:
    package = open_package(_package())
    assert set(package.manifest) == set(_COMPONENTS)
    for key, data in _COMPONENTS.items():
        assert package.component(key) == data
    assert package.health().health().is_whole
    assert build_package(_COMPONENTS, in_parts=_IN_PARTS) == _package()


def test_zipfile_reads_it_and_finds_the_layout_of_the_seed() -> None:
    with zipfile.ZipFile(io.BytesIO(_package())) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert names[0] == "integrity-manifest.json"
    assert names[1] == "root/obinexus/src/diram-component-0.part.0"
    assert "operations/diram-operation-0.bin" in names
    assert "divisions/diram-division-100.bin" in names
    assert {name.split("/")[0] for name in names[1:]} == {folder.split("/")[0] for folder, _ in DIVISIONS}
    manifest = json.loads(_files()["integrity-manifest.json"])
    assert manifest["root/obinexus/src/diram-component-0.bin"] == {
        "integrity": str(Integrity.of(_TEXT[:20000])),
        "parts": 5,
        "size": 20000,
    }
    assert manifest["operations/diram-operation-0.bin"]["parts"] == 1


def test_an_empty_package_holds_its_manifest_alone() -> None:
    package = open_package(build_package({}))
    assert not package.manifest
    assert package.health().health() == Health(0, 0)
    with pytest.raises(NotFound) as caught:
        package.component((0, 0))
    assert caught.value.reason == "notfound.component"


# --- healing ---------------------------------------------------------------------------------------------------------


def test_lost_and_damaged_parts_are_healed() -> None:
    files = _files()
    del files["root/obinexus/src/diram-component-0.part.2"]
    name = "country/diram-country-7.part.1"
    files[name] = files[name][:400] + bytes([files[name][400] ^ 1]) + files[name][401:]
    package = open_package(_zip(files))
    for key, data in _COMPONENTS.items():
        assert package.component(key) == data
    health = package.health()
    assert health.health((0, 0)) == Health(4, 5)
    assert health.health((4, 7, 1)) == Health(0, 1)
    assert health.next_to_heal() == (0, 0, 2)
    assert health.next_to_heal((4,)) == (4, 7, 1)


def test_damage_of_the_zip_beside_its_headers_is_healed() -> None:
    package = bytearray(_package())
    place = package.index(b"diram-country-7.part.1") + 22 + 300
    package[place] ^= 0xFF
    assert open_package(bytes(package)).component((4, 7)) == _TEXT


def test_one_loss_too_many_is_refused_with_the_coherence_reached() -> None:
    files = _files()
    for part in (0, 3):
        del files[f"root/obinexus/src/diram-component-0.part.{part}"]
    package = open_package(_zip(files))
    with pytest.raises(ContentRejected) as caught:
        package.component((0, 0))
    assert caught.value.reason == "repair.beyond"
    assert caught.value.evidence["coherence"] == (3, 5)
    assert package.health().health((0, 0)) == Health(3, 5)
    assert package.component((4, 7)) == _TEXT


def test_parts_of_other_data_are_refused_by_the_manifest() -> None:
    files = _files()
    forged = part_files(build_component(b"y" * 20000, component=0, division=0))
    files |= {f"root/obinexus/src/diram-component-0.part.{at}": file for at, file in enumerate(forged)}
    with pytest.raises(ContentRejected) as caught:
        open_package(_zip(files)).component((0, 0))
    assert caught.value.reason == "auraseal.integrity"


def test_parts_of_another_component_are_refused() -> None:
    files = _files()
    other = part_files(build_component(_TEXT[:20000], component=1, division=0))
    files |= {f"root/obinexus/src/diram-component-0.part.{at}": file for at, file in enumerate(other)}
    with pytest.raises(ContentRejected) as caught:
        open_package(_zip(files)).component((0, 0))
    assert caught.value.reason == "auraseal.siblings"


def test_parts_of_another_count_are_refused() -> None:
    files = _files()
    other = part_files(build_component(_TEXT[:20000], component=0, division=0, parity_parts=2))
    files |= {f"root/obinexus/src/diram-component-0.part.{at}": file for at, file in enumerate(other[:5])}
    with pytest.raises(ContentRejected) as caught:
        open_package(_zip(files)).component((0, 0))
    assert caught.value.reason == "auraseal.siblings"


def test_a_whole_component_of_other_data_is_refused() -> None:
    files = _files() | {"divisions/diram-division-100.bin": b"y"}
    package = open_package(_zip(files))
    with pytest.raises(ContentRejected) as caught:
        package.component((3, 100))
    assert caught.value.reason == "auraseal.integrity"
    assert package.health().next_to_heal() == (3, 100, 0)


def test_a_damaged_whole_component_is_refused() -> None:
    package = bytearray(_package())
    package[package.index(b"diram-operation-0.bin") + 21 + 9] ^= 1
    with pytest.raises(ContentRejected) as caught:
        open_package(bytes(package)).component((2, 0))
    assert caught.value.reason == "auraseal.zip-crc"


# --- what a package may not hold -------------------------------------------------------------------------------------


def _rename(old: str, new: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda files: {new if path == old else path: file for path, file in files.items()}


def _manifest(
    change: Callable[[dict[str, dict[str, object]]], object],
) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def changed(files: dict[str, bytes]) -> dict[str, bytes]:
        document = json.loads(files["integrity-manifest.json"])
        change(document)
        return files | {"integrity-manifest.json": wire.canonical(document)}

    return changed


_ONE = "divisions/diram-division-100.bin"
_PART = "root/obinexus/src/diram-component-0.part."


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_rename(_ONE, "divisions/../../etc/passwd"), "auraseal.zip-path"),
        (_rename(_ONE, "/divisions/diram-division-100.bin"), "auraseal.zip-path"),
        (_rename(_ONE, "divisions\\diram-division-100.bin"), "auraseal.zip-path"),
        (_rename(_ONE, "divisions/diram-division-0100.bin"), "auraseal.zip-path"),
        (_rename(_ONE, "divisions/diram-division-256.bin"), "auraseal.zip-path"),
        (_rename(_ONE, "divisions/diram-service-100.bin"), "auraseal.zip-path"),
        (_rename(_ONE, "divisions/diram-division-100.bin\n"), "auraseal.zip-path"),
        (_rename(_ONE, "divisions/diram-division-100.bin/"), "auraseal.zip-path"),
        (_rename(_ONE, "divisions/diram-division-101.bin"), "auraseal.zip-path"),
        (_rename(_PART + "4", _PART + "5"), "auraseal.zip-path"),
        (_rename(_PART + "4", _PART + "256"), "auraseal.zip-path"),
        (lambda f: {k: v for k, v in f.items() if k != "integrity-manifest.json"}, "auraseal.zip-path"),
        (lambda f: dict(reversed(f.items())), "auraseal.zip-path"),
        (lambda f: dict([*list(f.items())[:1], *reversed(list(f.items())[1:])]), "auraseal.zip-path"),
        (lambda f: {k: v for k, v in f.items() if k != _ONE}, "auraseal.zip-path"),
        (lambda f: f | {_ONE: b"xx"}, "auraseal.zip-size"),
        (lambda f: f | {_PART + "0": b""}, "auraseal.zip-size"),
        (lambda f: f | {_PART + "0": bytes(5505)}, "auraseal.zip-size"),
        (lambda f: f | {"integrity-manifest.json": b"{ }"}, "auraseal.not-canonical"),
        (_manifest(lambda d: d.update({"x": d[_ONE]})), "auraseal.zip-path"),
        (_manifest(lambda d: d.update({_PART + "0": d[_ONE]})), "auraseal.zip-path"),
        (_manifest(lambda d: d[_ONE].update(parts=2)), "auraseal.zip-path"),
        (_manifest(lambda d: d[_ONE].update(size=2)), "auraseal.zip-size"),
        (
            _manifest(
                lambda d: d[_ONE].update(
                    integrity=str(Integrity.of(b"x", b"y")), recovery={"primary": "a", "secondary": "b"}
                )
            ),
            "auraseal.zip-path",
        ),
    ],
)
def test_a_package_of_other_files_is_refused(
    change: Callable[[dict[str, bytes]], dict[str, bytes]], reason: str
) -> None:
    open_package(_zip(_files()))
    with pytest.raises(ContentRejected) as caught:
        open_package(_zip(change(_files())))
    assert caught.value.reason == reason


def test_a_whole_component_beside_its_parts_is_refused() -> None:
    files = list(_files().items())
    files.insert(1, ("root/obinexus/src/diram-component-0.bin", _TEXT[:20000]))
    with pytest.raises(ContentRejected) as caught:
        open_package(_zip(dict(files)))
    assert caught.value.reason == "auraseal.zip-path"


# --- tricks of zips --------------------------------------------------------------------------------------------------


def _by_zipfile(**options: object) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, file in _files().items():
            info = zipfile.ZipInfo(path)
            info.external_attr = 0o100644 << 16
            info.create_version, info.extract_version = 20, 10
            for name, value in options.items():
                setattr(info, name, value)
            archive.writestr(info, file)
    return buffer.getvalue()


def test_zipfile_writes_the_same_bytes_when_told_to() -> None:
    assert _by_zipfile() == _package()


@pytest.mark.parametrize(
    "options",
    [
        {"compress_type": zipfile.ZIP_DEFLATED},
        {"date_time": (2020, 1, 1, 0, 0, 0)},
        {"extra": struct.pack("<HHI", 0x7075, 4, 0)},
        {"comment": b"x"},
        {"external_attr": 0o120777 << 16},
        {"external_attr": 0o104755 << 16},
        {"create_system": 0},
    ],
    ids=str,
)
def test_another_form_of_zip_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ContentRejected) as caught:
        open_package(_by_zipfile(**options))
    assert caught.value.reason == "auraseal.zip-form"


@pytest.mark.parametrize("data", [b"short", b"an ordinary text file, no package\n" * 10, _package()[:-1]], ids=len)
def test_what_is_no_zip_is_called_so(data: bytes) -> None:
    with pytest.raises(ContentRejected, match="not a zip package"):
        open_package(data)


def test_an_archive_comment_is_refused() -> None:
    with pytest.raises(ContentRejected) as caught:
        open_package(_package()[:-2] + b"\x05\x00hello")
    assert caught.value.reason == "auraseal.zip-form"


@pytest.mark.parametrize("where", ["before", "behind", "between"])
def test_bytes_outside_of_entries_are_refused(where: str) -> None:
    package = _package()
    at = {"before": 0, "behind": len(package), "between": package.index(b"PK\x01\x02")}[where]
    with pytest.raises(ContentRejected) as caught:
        open_package(package[:at] + b"hidden" + package[at:])
    assert caught.value.reason in {"auraseal.zip-form", "auraseal.zip-size"}


def test_a_second_end_behind_the_first_is_refused() -> None:
    """It counts the first end among the directory; up to there each byte is what the entries make."""
    package, end = _package(), struct.Struct("<4sHHHHIIH")
    *head, listing, at, comment = end.unpack(package[-end.size :])
    attack = package + end.pack(*head, listing + end.size, at, comment)
    with pytest.raises(ContentRejected) as caught:
        open_package(attack)
    assert caught.value.reason == "auraseal.zip-form"


def test_a_data_descriptor_is_refused() -> None:
    package = bytearray(_package())
    package[6] |= 8
    with pytest.raises(ContentRejected) as caught:
        open_package(bytes(package))
    assert caught.value.reason == "auraseal.zip-form"


def test_a_local_header_that_names_another_file_is_refused() -> None:
    package = bytearray(_package())
    package[package.index(b"diram-component-0.part.1") + 23] = ord("9")
    with pytest.raises(ContentRejected) as caught:
        open_package(bytes(package))
    assert caught.value.reason == "auraseal.zip-form"


def test_two_entries_of_one_path_are_refused() -> None:
    package = bytearray(_package())
    for _ in range(2):  # part 1 becomes a second part 0, in both headers
        at = package.index(b"diram-component-0.part.1")
        package[at + 23] = ord("0")
    with pytest.raises(ContentRejected) as caught:
        open_package(bytes(package))
    assert caught.value.reason == "auraseal.zip-path"


@pytest.mark.parametrize("count", [0, 1, 65535])
def test_a_wrong_count_of_entries_is_refused(count: int) -> None:
    package = bytearray(_package())
    package[-14:-10] = struct.pack("<HH", count, count)
    with pytest.raises(ContentRejected) as caught:
        open_package(bytes(package))
    assert caught.value.reason == "auraseal.zip-form"


def test_each_wrong_byte_outside_of_the_data_is_refused() -> None:
    package = build_package({(3, 100): b"x", (1, 3): b"y"})
    layout = parse_zip(memoryview(package))
    data = {
        at
        for number, entry in enumerate(layout.entries)
        for at in range(layout.data_offset(number), layout.data_offset(number) + entry.size)
    }
    for at in range(len(package)):
        damaged = package[:at] + bytes([package[at] ^ 1 << at % 8]) + package[at + 1 :]
        with pytest.raises(ContentRejected) as caught:
            opened = open_package(damaged)
            for key in opened.manifest:
                opened.component(key)
        assert caught.value.reason.startswith("auraseal.zip-")
        assert at not in data or caught.value.reason == "auraseal.zip-crc"


def test_each_wrong_byte_of_a_package_in_parts_is_healed_exactly_or_refused() -> None:
    package = build_package({(4, 7): b"x"}, in_parts={(4, 7)})
    layout = parse_zip(memoryview(package))
    parts = [
        range(layout.data_offset(number), layout.data_offset(number) + layout.entries[number].size) for number in (1, 2)
    ]
    healed = 0
    for at in range(len(package)):
        if (at in parts[0] and at % 4) or (at in parts[1] and at % 64):  # parts alone are tried byte by byte elsewhere
            continue
        damaged = package[:at] + bytes([package[at] ^ 1 << at % 8]) + package[at + 1 :]
        if any(at in part for part in parts):
            found = bytearray()
            assert open_package(damaged).pour((4, 7), found.extend).healed == {0 if at in parts[0] else 1}
            assert found == b"x"
            healed += 1
        else:
            with pytest.raises(ContentRejected) as caught:
                open_package(damaged)
            assert caught.value.reason.startswith("auraseal.zip-")
    assert healed > 150


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_only_the_declared_error_escapes_the_reader(data: st.DataObject) -> None:
    package = bytearray(data.draw(st.sampled_from([_package(), build_package({(3, 100): b"x"})])))
    kind = data.draw(st.sampled_from(["flip", "cut", "noise", "splice"]))
    if kind == "noise":
        package = bytearray(data.draw(st.binary(max_size=100)) + package[-22:])
    elif kind == "cut":
        package = package[: data.draw(st.integers(0, len(package) - 1))]
    elif kind == "splice":
        at = data.draw(st.integers(0, len(package)))
        package[at:at] = data.draw(st.binary(min_size=1, max_size=30))
    else:
        listing = len(package) - struct.unpack_from("<I", package, len(package) - 10)[0] - 22
        for at in data.draw(st.lists(st.integers(listing, len(package) - 1), min_size=1, max_size=4)):
            package[at] = data.draw(st.integers(0, 255))
    try:
        opened = open_package(bytes(package))
        for key in opened.manifest:
            opened.component(key)
    except ContentRejected as error:
        assert error.reason.startswith(("auraseal.", "repair."))


def test_a_directory_longer_than_its_entries_can_be_is_not_even_read() -> None:
    asked = []
    size = 2**31
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, size - 22 - 100, 100, 0)

    def read(start: int, stop: int) -> bytes:
        asked.append(stop - start)
        return end

    with pytest.raises(ContentRejected) as caught:
        read_zip(size, read)
    assert caught.value.reason == "auraseal.zip-form"
    assert asked == [22]


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    package = _package()
    for left in (0, len(package) - 30, len(package) - 1000):

        def read(start: int, stop: int, left: int = left) -> bytes:
            return package[start : min(stop, left)]

        with pytest.raises(ContentRejected) as caught:
            read_zip(len(package), read)
        assert caught.value.reason == "auraseal.zip-form"


# --- layout ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=5), st.integers(0, 700), st.integers(0, 700))
def test_any_range_can_be_served_from_the_layout(files: list[bytes], start: int, length: int) -> None:
    layout = ZipLayout(tuple(ZipEntry(f"f{at}", len(file), zlib.crc32(file)) for at, file in enumerate(files)))
    whole = _zip({f"f{at}": file for at, file in enumerate(files)})
    assert layout.size == len(whole)
    served = b"".join(
        files[piece.entry][piece.start : piece.stop] if isinstance(piece, Data) else piece
        for piece in layout.pieces(start, start + length)
    )
    assert served == whole[start : start + length]


def test_what_would_need_zip64_is_refused() -> None:
    large = ZipEntry("a", 2**32 - 2, 0)
    with pytest.raises(ContentRejected) as caught:
        ZipLayout((large,))
    assert caught.value.reason == "auraseal.zip-size"
    with pytest.raises(ContentRejected):
        ZipEntry("a", 2**32 - 1, 0)
    entries = tuple(ZipEntry(f"{at}", 0, 0) for at in range(limits.ZIP_ENTRIES + 1))
    assert ZipLayout(entries[:-1]).size > 0
    with pytest.raises(ContentRejected) as caught:
        ZipLayout(entries)
    assert caught.value.reason == "auraseal.zip-size"


@pytest.mark.parametrize("path", ["", "a" * 65, "é"])
def test_a_path_that_no_package_has_is_refused(path: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        ZipEntry(path, 0, 0)
    assert caught.value.reason == "auraseal.zip-path"


@pytest.mark.parametrize("division", range(5))
@pytest.mark.parametrize("number", [0, 9, 10, 99, 100, 199, 200, 249, 250, 255])
def test_paths_of_members_are_read_as_they_are_written(division: int, number: int) -> None:
    for member in (MemberPath(division, number), MemberPath(division, 255 - number, number)):
        assert MemberPath.parse(str(member)) == member


@pytest.mark.parametrize("key", [(5, 0), (0, 256), (-1, 0), (0, -1)])
def test_a_component_outside_of_the_divisions_is_refused(key: tuple[int, int]) -> None:
    with pytest.raises(ContentRejected) as caught:
        build_package({key: b""})
    assert caught.value.reason == "auraseal.zip-path"
