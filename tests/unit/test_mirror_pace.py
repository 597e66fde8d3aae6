"""How much a mirror is asked for at once, and over how many connections: by what a request costs and what it brings."""

from __future__ import annotations

from libreseed import limits
from libreseed.resolve.journal import Kind
from libreseed.resolve.mirror_board import MIRRORS_ONLY, Ask, MirrorBoard

CHUNKS = 100_000


def board_of(mirrors: int = 1, chunks: int = CHUNKS) -> MirrorBoard:
    board = MirrorBoard([f"http://m{number}" for number in range(mirrors)], (chunks, 0))
    board.pools[Kind.DATA][:] = bytes([MIRRORS_ONLY]) * chunks
    return board


def ask_of(board: MirrorBoard, now: float) -> Ask:
    ask = board.next(board.mirrors[0], now)
    assert ask is not None
    return ask


def serve(board: MirrorBoard, ask: Ask, rate: float, latency: float) -> float:
    """All of it comes, at ``rate`` bytes a second after ``latency`` seconds; when that is."""
    end = ask.began_at + latency + len(ask.chunks) * limits.CHUNK_BYTES / rate
    board.arrived(ask, b"\1" * len(ask.chunks))
    board.ended(ask, end)
    return end


def paces(rate: float, latency: float, chunks: int = CHUNKS) -> list[int]:
    """The lengths of the requests, one after another, that fetch it all."""
    board, now, lengths = board_of(chunks=chunks), 0.0, []
    while MIRRORS_ONLY in board.pools[Kind.DATA]:
        ask = ask_of(board, now)
        lengths.append(len(ask.chunks))
        now = serve(board, ask, rate, latency)
    return lengths


def test_requests_that_are_over_at_once_grow_faster() -> None:
    near, far = paces(500e6, 0.001), paces(500e6, 0.05)
    assert near[:4] == [4, 8, 32, 128]
    assert far[:4] == [4, 8, 16, 32]


def test_a_request_takes_no_longer_than_half_a_second_and_is_bounded() -> None:
    assert max(paces(500e6, 0.001, 200_000)) == limits.MIRROR_ASK_ALONE_CHUNKS
    assert max(paces(500e6, 0.001, 16_000)) == 1000, "a sixteenth of the file"
    assert max(paces(10e6, 0.001)) <= 10e6 / 2 / limits.CHUNK_BYTES


def test_the_last_requests_are_not_so_small_that_asking_takes_longer_than_fetching() -> None:
    least = min(paces(500e6, 0.001)[4:-1])
    assert least >= 0.5 * 500e6 * limits.MIRROR_QUICK_SECONDS / limits.CHUNK_BYTES
    slow = paces(1e6, 0.001)
    assert slow[-2] <= 2 * limits.MIRROR_FIRST_CHUNKS, "where fetching takes its time, all shall end at the same time"


def test_a_slow_mirror_gets_more_connections_and_a_fast_one_does_not() -> None:
    for rate, connections in ((10e6, limits.MIRROR_CONNECTIONS), (500e6, limits.MIRROR_CONNECTIONS // 2)):
        board, now = board_of(), 0.0
        for _ in range(6):
            now = serve(board, ask_of(board, now), rate, 0.001)
        asks = [board.next(board.mirrors[0], now) for _ in range(limits.MIRROR_CONNECTIONS + 1)]
        assert sum(ask is not None for ask in asks) == connections


def test_a_far_mirror_gets_more_connections_however_fast_its_line_is() -> None:
    board, now = board_of(), 0.0
    for _ in range(6):
        now = serve(board, ask_of(board, now), 500e6, 0.1)
    assert not board.mirrors[0].fast
    asks = [board.next(board.mirrors[0], now) for _ in range(limits.MIRROR_CONNECTIONS + 1)]
    assert sum(ask is not None for ask in asks) == limits.MIRROR_CONNECTIONS


def test_beside_others_requests_stay_small() -> None:
    board, now = board_of(mirrors=2), 0.0
    for _ in range(20):
        ask = ask_of(board, now)
        now = serve(board, ask, 500e6, 0.001)
        assert len(ask.chunks) <= limits.MIRROR_ASK_CHUNKS
