"""Section 3.7: a damaged seeder offers good pieces only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libreseed.ids import ReleaseId
from libreseed.torrent.bitfield import unpack_bitfield
from libreseed.torrent.layout import TorrentLayout
from libreseed.torrent.offer import offered_pieces

_LAYOUT = TorrentLayout(ReleaseId.parse("demo@1.0.0"), 2_996_000, 12)  # 586 chunks, 3 stripes, pieces of 16 KiB


def _offered(**bad: object) -> list[bool]:
    return unpack_bitfield(offered_pieces(_LAYOUT, **bad), _LAYOUT.piece_count)  # type: ignore[arg-type]


def test_a_whole_copy_offers_everything() -> None:
    assert all(_offered())


def test_a_bad_chunk_map_withholds_exactly_its_own_pieces() -> None:
    withheld = [piece for piece, good in enumerate(_offered(bad_map=True)) if not good]
    assert withheld == list(_LAYOUT.chunks.pieces)


def test_a_chunk_that_crosses_a_piece_boundary_withholds_both_pieces() -> None:
    first = _LAYOUT.tgz.pieces.start
    withheld = [piece - first for piece, good in enumerate(_offered(bad_data=[range(3, 4)])) if not good]
    assert withheld == [0, 1]  # bytes 15360..20479 over the boundary at 16384


def test_the_short_last_chunk_withholds_the_last_piece_only() -> None:
    last = _LAYOUT.grid.n - 1
    withheld = [piece for piece, good in enumerate(_offered(bad_data=[range(last, last + 1)])) if not good]
    assert withheld == [_LAYOUT.piece_count - 1]


_DATA = st.integers(0, _LAYOUT.grid.n - 1)
_PARITY = st.integers(0, _LAYOUT.grid.parity_chunks(12) - 1)


@given(st.sets(_DATA, max_size=5), st.sets(_PARITY, max_size=5))
def test_exactly_the_pieces_with_a_byte_of_a_bad_chunk_are_withheld(data: set[int], parity: set[int]) -> None:
    good = _offered(bad_data=[range(i, i + 1) for i in data], bad_parity=[range(j, j + 1) for j in parity])
    for piece in range(_LAYOUT.piece_count):
        span = _LAYOUT.span(piece)
        chunks = set(range(span.offset // 5120, -(-(span.offset + span.length) // 5120)))
        bad = data if span.file is _LAYOUT.tgz else parity if span.file is _LAYOUT.parity else set()
        assert good[piece] == (not chunks & bad)
