"""Section 3.7: layout, piece hashes and the canonical hybrid torrent, against vectors, libtorrent and forgers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed import bencode
from libreseed.errors import ContentRejected
from libreseed.ids import ReleaseId, TorrentV2Hash
from libreseed.torrent.layout import TorrentLayout, piece_length
from libreseed.torrent.metainfo import Metainfo, parse_metainfo, read_info
from libreseed.torrent.piecehash import PieceHasher, root_of_layer
from tests.repair_support import RELEASE, content, make_package
from tests.vectors_support import Row, dispatch, rows


@dataclass
class Signed:
    """What a minimal manifest says about the torrent."""

    size: int
    torrent: TorrentV2Hash


def _vector_piece_length(row: Row, _: Path) -> None:
    assert piece_length(row["size"]) == row["piece_length"]


def _vector_info(row: Row, folder: Path) -> None:
    release = ReleaseId.parse(row["release"])
    made = make_package(folder, content(row["label"], row["size"]), release=release).made.metainfo
    assert made.layout.piece_bytes == row["piece_length"]
    assert (made.v1.hex(), made.v2.hex, str(made.v2)) == (row["v1"], row["v2"], row["torrent"])
    assert len(made.info) == row["info_bytes"]
    torrent = bencode.decode(made.data, max_bytes=10**7)
    tree = torrent[b"info"][b"file tree"]
    assert {name.decode(): tree[name][b""][b"pieces root"].hex() for name in tree} == row["pieces_root"]
    assert hashlib.sha256(bencode.encode(torrent[b"piece layers"])).hexdigest() == row["layers_sha256"]
    assert parse_metainfo(made.data, release, Signed(row["size"], made.v2)) == made


@pytest.mark.parametrize("row", rows("torrent.json"))
def test_torrent_vector(row: Row, tmp_path: Path) -> None:
    kinds = {"piece-length": _vector_piece_length, "info": _vector_info}
    dispatch(row, {kind: lambda row, check=check: check(row, tmp_path) for kind, check in kinds.items()})


@pytest.mark.parametrize("size", [1, 16384, 16385, 300_000, 17_000_000])
def test_libtorrent_makes_the_same_torrent_and_accepts_ours(size: int, tmp_path: Path) -> None:
    lt = pytest.importorskip("libtorrent")
    folder = tmp_path / str(RELEASE)
    folder.mkdir()
    package = make_package(folder, content("oracle", size))
    made = package.made.metainfo
    (folder / f"{RELEASE}.torrent").unlink()
    entries = [lt.create_file_entry(f"{RELEASE}/{file.name}", file.size) for file in made.layout.files]
    created = lt.create_torrent(entries, made.layout.piece_bytes)
    lt.set_piece_hashes(created, str(tmp_path))
    theirs = created.generate()
    assert bencode.encode(theirs[b"info"]) == made.info
    assert bencode.encode(theirs[b"piece layers"]) == bencode.encode(_decoded(made)[b"piece layers"])
    info = lt.load_torrent_buffer(made.data).ti
    assert info.info_hashes().v1.to_bytes() == made.v1
    assert info.info_hashes().v2.to_bytes() == made.v2.raw
    assert info.num_pieces() == made.layout.piece_count


@given(size=st.integers(1, 200_000), cuts=st.lists(st.integers(1, 70_000), max_size=8))
@settings(max_examples=30, deadline=None)
def test_piece_hashes_do_not_depend_on_how_bytes_arrive(size: int, cuts: list[int]) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    whole, cut = PieceHasher(32768), PieceHasher(32768)
    whole.feed(data)
    for length in cuts:
        cut.feed(data[:length])
        data = data[length:]
    cut.feed(data)
    assert whole.finish() == cut.finish()


@given(
    size=st.integers(1, 10**13), extra=st.integers(0, 255), offset=st.integers(0, 10**13), length=st.integers(1, 10**7)
)
@settings(deadline=None)
def test_pieces_cover_the_files_and_nothing_twice(size: int, extra: int, offset: int, length: int) -> None:
    least = TorrentLayout(RELEASE, size, 12 if size > 10**6 else 30)
    layout = TorrentLayout(RELEASE, size, min(least.grid.least_m + extra, 256 - least.grid.k))
    assert [file.pieces.start for file in layout.files[1:]] == [file.pieces.stop for file in layout.files[:2]]
    for file in layout.files:
        assert file.offset == file.pieces.start * layout.piece_bytes
        assert file.size + file.pad == len(file.pieces) * layout.piece_bytes
        assert layout.span(file.pieces.start).file == file
        last = layout.span(file.pieces[-1])
        assert last.offset + last.length == file.size
    offset %= size
    pieces = layout.tgz_pieces(offset, length)
    first, last = layout.span(pieces[0]), layout.span(pieces[-1])
    assert first.offset <= offset < first.offset + first.length
    end = min(size, offset + length)
    assert last.offset < end <= last.offset + last.length


# --- the strict reader -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Metainfo:
    return make_package(tmp_path_factory.mktemp("torrent"), content("strict", 400_000)).made.metainfo


def _decoded(made: Metainfo) -> Any:
    return bencode.decode(made.data, max_bytes=10**7)


def _tgz(torrent: Any) -> Any:
    return torrent[b"info"][b"file tree"][f"{RELEASE}.tgz".encode()][b""]


def _extra_file(torrent: Any) -> None:
    torrent[b"info"][b"file tree"][b"extra"] = {b"": {b"length": 1, b"pieces root": bytes(32)}}


def _lengthen(torrent: Any) -> None:
    _tgz(torrent)[b"length"] += 1


def _swap_files(torrent: Any) -> None:
    torrent[b"info"][b"files"].reverse()


def _symlink(torrent: Any) -> None:
    torrent[b"info"][b"files"][0][b"attr"] = b"l"


def _drop_last_pad(torrent: Any) -> None:
    torrent[b"info"][b"files"].pop()


def _climbing_path(torrent: Any) -> None:
    torrent[b"info"][b"files"][-2][b"path"] = [b"..", b"..", b"etc", b"passwd"]


def _tree_of_texts(torrent: Any) -> None:
    torrent[b"info"][b"file tree"] = b"none"


def _root_is_number(torrent: Any) -> None:
    _tgz(torrent)[b"pieces root"] = 7


def _file_is_folder(torrent: Any) -> None:
    torrent[b"info"][b"file tree"][f"{RELEASE}.tgz".encode()][b""] = [1]


def _chunk_map_of_no_m(torrent: Any) -> None:
    torrent[b"info"][b"file tree"][f"{RELEASE}.chunks".encode()][b""][b"length"] += 1


def _flip_layer(torrent: Any) -> None:
    layers = torrent[b"piece layers"]
    layers[next(iter(layers))] = bytes(32) + layers[next(iter(layers))][32:]


def _cut_layer(torrent: Any) -> None:
    layers = torrent[b"piece layers"]
    layers[next(iter(layers))] = layers[next(iter(layers))][32:]


def _layer_of_nothing(torrent: Any) -> None:
    torrent[b"piece layers"][bytes(32)] = bytes(64)


# What a publisher could sign wrongly: the info-hash is the one signed, the content is not that of a release.
_SIGNED: list[tuple[str, Callable[[Any], object]]] = [
    ("members", lambda t: t[b"info"].update({b"private": 1})),
    ("members", lambda t: t[b"info"].update({b"source": b"x"})),
    ("members", lambda t: t[b"info"].pop(b"pieces")),
    ("members", lambda t: t[b"info"].update({b"meta version": 3})),
    ("members", lambda t: t.update({b"info": [b"list"]})),
    ("members", lambda t: t.update({b"announce": b"http://tracker"})),
    ("members", lambda t: t.update({b"creation date": 1})),
    ("members", lambda t: t.pop(b"piece layers")),
    ("name", lambda t: t[b"info"].update({b"name": b"other@1.0.0"})),
    ("piece-length", lambda t: t[b"info"].update({b"piece length": 32768})),
    ("pieces", lambda t: t[b"info"].update({b"pieces": t[b"info"][b"pieces"][20:]})),
    ("pieces", lambda t: t[b"info"].update({b"pieces": 1})),
    ("files", _extra_file),
    ("files", _lengthen),
    ("files", _swap_files),
    ("files", _symlink),
    ("files", _drop_last_pad),
    ("files", _climbing_path),
    ("files", _tree_of_texts),
    ("files", _root_is_number),
    ("files", _file_is_folder),
    ("files", _chunk_map_of_no_m),
    ("layers", _flip_layer),
    ("layers", _cut_layer),
    ("layers", _layer_of_nothing),
    ("layers", lambda t: t.update({b"piece layers": {}})),
    ("layers", lambda t: t.update({b"piece layers": []})),
]


@pytest.mark.parametrize(("fault", "forge"), _SIGNED, ids=[f"{at}-{fault}" for at, (fault, _) in enumerate(_SIGNED)])
def test_a_torrent_that_is_signed_but_not_a_releases_is_refused(
    fault: str, forge: Callable[[Any], object], made: Metainfo
) -> None:
    torrent = _decoded(made)
    forge(torrent)
    signed = Signed(400_000, TorrentV2Hash(hashlib.sha256(bencode.encode(torrent[b"info"])).digest()))
    with pytest.raises(ContentRejected) as caught:
        parse_metainfo(bencode.encode(torrent), RELEASE, signed)
    assert caught.value.reason == f"torrent.{fault}"


def test_a_torrent_that_is_not_the_signed_one_is_refused(made: Metainfo) -> None:
    with pytest.raises(ContentRejected) as caught:
        parse_metainfo(made.data, RELEASE, Signed(400_000, TorrentV2Hash(bytes(32))))
    assert caught.value.reason == "torrent.info-hash"
    with pytest.raises(ContentRejected) as caught:
        read_info(made.info, RELEASE, Signed(400_000, TorrentV2Hash(bytes(32))))
    assert caught.value.reason == "torrent.info-hash"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "bencode"),
        (b"d4:infod", "bencode"),
        (b"i-0e", "bencode"),
        (b"le", "members"),
        (b"i1e" * 10**6, "too-large"),
    ],
)
def test_bytes_that_are_no_torrent_are_refused(data: bytes, fault: str, made: Metainfo) -> None:
    with pytest.raises(ContentRejected) as caught:
        parse_metainfo(data, RELEASE, Signed(400_000, made.v2))
    assert caught.value.reason == f"torrent.{fault}"


@given(at=st.integers(0), byte=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_every_changed_byte_is_refused(made: Metainfo, at: int, byte: int) -> None:
    data = bytearray(made.data)
    at %= len(data)
    if data[at] == byte:
        byte ^= 1
    data[at] = byte
    with pytest.raises(ContentRejected) as caught:
        parse_metainfo(bytes(data), RELEASE, Signed(400_000, made.v2))
    assert caught.value.reason.startswith("torrent.")


@given(end=st.integers(0), tail=st.binary(max_size=20))
@settings(max_examples=100, deadline=None)
def test_cut_and_prolonged_torrents_are_refused(made: Metainfo, end: int, tail: bytes) -> None:
    data = made.data[: end % len(made.data)] + tail
    with pytest.raises(ContentRejected):
        parse_metainfo(data, RELEASE, Signed(400_000, made.v2))
    with pytest.raises(ContentRejected):
        parse_metainfo(made.data + (tail or b"x"), RELEASE, Signed(400_000, made.v2))


def test_an_info_dictionary_from_a_peer_has_the_same_layout(made: Metainfo) -> None:
    info = read_info(made.info, RELEASE, Signed(400_000, made.v2))
    assert info.layout == made.layout
    assert info.v1_pieces == _decoded(made)[b"info"][b"pieces"]


def test_the_root_of_a_layer_is_that_of_the_file() -> None:
    hasher = PieceHasher(16384)
    hasher.feed(content("layer", 5 * 16384 + 1))
    pieces = hasher.finish()
    assert len(pieces.layer) == 32 * 6
    assert root_of_layer(pieces.layer, 16384) == pieces.root


def test_more_parity_gives_another_torrent_that_is_accepted(tmp_path: Path) -> None:
    made = make_package(tmp_path, content("m", 30_000), m=9).made.metainfo
    assert parse_metainfo(made.data, RELEASE, Signed(30_000, made.v2)).layout.m == 9
