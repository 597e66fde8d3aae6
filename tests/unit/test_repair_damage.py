"""Section 3.6 on files: what is damaged within the bounds comes back to the exact bytes, what is not is refused."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed.adapters.chunks import stripe_io
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.chunks.stripe_io import each_group, read_row
from libreseed.errors import ContentRejected, LocalFault
from libreseed.repair.chunkmap import ChunkMap, build_chunk_map, chunk_digests, parse_chunk_map
from libreseed.repair.encoder import StripeWindow, group_starts
from libreseed.repair.grid import ChunkGrid
from libreseed.repair.plan import Verified, plan_repair, wanted_parity
from libreseed.repair.stripes import ZfecCoder
from tests.repair_support import Package, content, make_package

_SIZES = [1, 5120, 5121, 10**6, pytest.param(10**8, marks=pytest.mark.slow)]


@pytest.fixture(params=_SIZES, scope="module")
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Each test damages it and must leave it whole."""
    return make_package(tmp_path_factory.mktemp("damage"), random.Random(request.param).randbytes(request.param))


def _safe_losses(chunk_map: ChunkMap) -> int:
    """How many parts a stripe may lack at coherence 0.954."""
    parts = chunk_map.grid.k + chunk_map.m
    return parts - -(-954 * parts // 1000)


def _lose_parts(package: Package, stripe: int, shares: list[int], *, flip: bool = False) -> None:
    grid, m = package.chunk_map.grid, package.chunk_map.m
    data = [i for share in shares if share < grid.k and (i := grid.chunk_at(stripe, share)) is not None]
    if flip:
        for i in data:
            package.flip_bit(i, i % grid.chunk(i)[1])
    else:
        package.lose_data(data)
    package.lose_parity(stripe * m + share - grid.k for share in shares if share >= grid.k)


def _is_repaired(package: Package, *, safe: bool = True) -> None:
    report = package.store.repair(heal_parity=True)
    assert report.before.is_safe or not safe
    report.require_complete()
    assert package.tgz.read_bytes() == package.data
    assert package.store.verify().missing_parity() == []


@pytest.mark.parametrize("flip", [False, True], ids=["lost", "flipped"])
@pytest.mark.parametrize("where", ["first", "last", "random"])
def test_every_stripe_at_coherence_954_is_repaired(package: Package, where: str, flip: bool) -> None:
    grid, losses = package.chunk_map.grid, _safe_losses(package.chunk_map)
    chance = random.Random(where)
    for stripe in range(grid.s):
        shares = list(range(grid.k + package.chunk_map.m))
        # The worst positions: all losses in data rows, at either end.
        pick = {
            "first": shares[:losses],
            "last": shares[: grid.k][::-1][:losses],
            "random": chance.sample(shares, losses),
        }
        _lose_parts(package, stripe, pick[where], flip=flip)
    _is_repaired(package)


def test_a_run_of_neighbours_of_46_per_mille_is_repaired(package: Package) -> None:
    grid = package.chunk_map.grid
    length = max(1, grid.n * 46 // 1000)
    package.lose_data(range((grid.n - length) // 2, (grid.n - length) // 2 + length))
    # Its length decides whether some stripe falls just below 0.954; it never loses more than m parts.
    _is_repaired(package, safe=False)


def test_a_lost_end_and_a_file_that_is_too_long_are_repaired(package: Package) -> None:
    os.truncate(package.tgz, package.chunk_map.grid.size - 1)
    _is_repaired(package, safe=False)
    with package.tgz.open("ab") as file:
        file.write(b"more")
    _is_repaired(package, safe=False)


def test_as_many_losses_as_parity_rows_are_repaired_and_one_more_is_not(package: Package) -> None:
    grid, m = package.chunk_map.grid, package.chunk_map.m
    worst = grid.s - 1
    shares = list(range(grid.k + m))
    chance = random.Random(7)
    _lose_parts(package, 0, chance.sample(shares, m))
    _is_repaired(package, safe=False)
    real = [share for share in shares if share >= grid.k or grid.chunk_at(worst, share) is not None]
    lost = [0, *chance.sample(real[1:], m)]
    _lose_parts(package, worst, lost)
    before = package.tgz.read_bytes()
    report = package.store.repair(heal_parity=True)
    with pytest.raises(ContentRejected) as caught:
        report.require_complete()
    assert caught.value.reason == "repair.beyond"
    assert caught.value.exit_code == 31
    assert caught.value.evidence["stripes"] == {worst: 1}
    assert f"stripe {worst} (lacks 1)" in caught.value.message
    assert package.tgz.read_bytes() == before, "a stripe beyond repair is left as it is"
    # One right part more, and it comes back.
    offset, length = grid.chunk(worst)
    package.store.write_chunk(worst, package.data[offset : offset + length])
    _is_repaired(package, safe=False)


@pytest.fixture
def small(tmp_path: Path) -> Package:
    return make_package(tmp_path, content("small", 1_300_000))


def test_stripes_that_can_be_repaired_are_even_if_others_cannot(small: Package) -> None:
    grid, m = small.chunk_map.grid, small.chunk_map.m
    assert (grid.s, m) == (2, 7)
    _lose_parts(small, 0, list(range(m + 3)))
    _lose_parts(small, 1, list(range(m)))
    report = small.store.repair()
    assert report.repaired == tuple(range(1, 2 * m, 2))
    assert plan_repair(report.verified).short == {0: 3}
    assert not report.before.is_safe
    assert str(report.before) == f"{grid.k - 3}/{grid.k + m}"


def _with_lying_parity(package: Package) -> ChunkStore:
    """A chunk map that names, as if signed so, parity that belongs to other data."""
    chunk_map = package.chunk_map
    lie = content("lie", package.parity.stat().st_size)
    package.parity.write_bytes(lie)
    digests = chunk_map.data_digests(range(chunk_map.grid.n))
    forged = build_chunk_map(chunk_map.grid, chunk_map.m, chunk_map.tgz_sha256, digests, chunk_digests(lie))
    return ChunkStore(forged, package.tgz, package.parity)


def test_lying_parity_is_never_written(small: Package) -> None:
    store = _with_lying_parity(small)
    small.lose_data([3])
    before = small.tgz.read_bytes()
    report = store.repair(heal_parity=True)
    assert 1 in report.lying
    assert report.repaired == ()
    assert report.repaired_parity == ()
    assert small.tgz.read_bytes() == before
    with pytest.raises(ContentRejected) as caught:
        report.require_complete()
    assert caught.value.reason == "parity.lying"
    assert caught.value.evidence["stripes"] == (1,)


def test_lying_parity_is_seen_when_parity_is_healed(small: Package) -> None:
    store = _with_lying_parity(small)
    small.lose_parity([0])
    report = store.repair(heal_parity=True)
    assert report.lying == (0,)
    assert report.repaired_parity == ()
    report.require_complete()


def test_a_chunk_poisoned_after_it_was_verified_does_not_enter_decoding(small: Package) -> None:
    small.lose_data([0])
    assert small.store.verify().missing_data() == [0]
    small.flip_bit(2)
    report = small.store.repair()
    assert report.repaired == (0, 2)
    assert small.tgz.read_bytes() == small.data


def test_poisoned_parity_does_not_enter_decoding(small: Package) -> None:
    small.lose_parity(range(6))
    small.lose_data([0])
    small.store.repair().require_complete()
    assert small.tgz.read_bytes() == small.data
    small.lose_parity(range(7))
    small.lose_data([0])
    with pytest.raises(ContentRejected) as caught:
        small.store.repair().require_complete()
    assert caught.value.reason == "repair.beyond"


def test_a_chunk_map_of_other_data_repairs_nothing(small: Package, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_package(tmp_path / "other", content("other", 1_300_000))
    before = small.tgz.read_bytes()
    report = ChunkStore(other.chunk_map, small.tgz, small.parity).repair()
    assert not any(report.verified.data)
    assert small.tgz.read_bytes() == before


def test_missing_files_verify_as_nothing_and_are_made_anew_where_parity_suffices(tmp_path: Path) -> None:
    package = make_package(tmp_path, b"x")
    package.tgz.unlink()
    assert package.store.verify().missing_data() == [0]
    package.store.repair().require_complete()
    assert package.tgz.read_bytes() == b"x"
    package.parity.unlink()
    assert package.store.verify().missing_parity() == [0]
    assert package.store.repair(heal_parity=True).repaired_parity == (0,)
    assert package.store.verify().missing_parity() == []


def test_a_link_in_the_place_of_the_tgz_is_not_followed(small: Package) -> None:
    target = small.folder / "elsewhere"
    small.tgz.rename(target)
    small.tgz.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        small.store.repair()


def test_a_chunk_that_does_not_verify_is_not_written(small: Package) -> None:
    before = small.tgz.read_bytes()
    with pytest.raises(ContentRejected) as caught:
        small.store.write_chunk(0, bytes(5120))
    assert caught.value.reason == "chunkmap.chunk"
    assert small.tgz.read_bytes() == before


def test_a_pass_that_was_cut_short_is_completed_by_the_next(tmp_path: Path) -> None:
    package = make_package(tmp_path, content("cut", 20_000_000))
    grid = package.chunk_map.grid
    assert len(group_starts(grid)) > 2
    package.lose_data(range(grid.s * 5))

    def cut(_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        package.store.repair(progress=cut)
    seen: list[int] = []
    report = package.store.repair(threads=2, progress=seen.append)
    report.require_complete()
    assert len(report.repaired) == 5 * (grid.s - group_starts(grid).step), "what the first pass wrote was verified"
    assert seen == sorted(seen)
    assert not seen or seen[-1] <= grid.s
    assert package.tgz.read_bytes() == package.data


def test_only_what_is_known_to_lack_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_package(tmp_path, content("known", 20_000_000))
    width = group_starts(package.chunk_map.grid).step
    package.lose_data([1])
    package.lose_parity([package.chunk_map.m * width])
    known = package.store.verify()
    groups: list[int] = []
    move = StripeWindow.move
    monkeypatch.setattr(StripeWindow, "move", lambda window, first: (groups.append(first), move(window, first))[1])
    report = package.store.repair(known=known)
    assert groups == [0]
    assert report.repaired == (1,)
    assert report.verified.complete
    assert report.verified.missing_parity() == [package.chunk_map.m * width]
    assert (known.data[1], report.before.verified) == (0, report.before.parts - 1)
    package.store.repair(known=known, heal_parity=True).require_complete()
    assert groups == [0, 0, width]
    assert package.store.verify().missing_parity() == []


def test_zfec_alone_makes_and_repairs_the_same(small: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("libreseed.repair.encoder", "libreseed.adapters.chunks.stripe_repair"):
        monkeypatch.setattr(f"{module}.stripe_coder", ZfecCoder)
    (tmp_path / "again").mkdir()
    again = make_package(tmp_path / "again", small.data)
    assert again.chunk_map == small.chunk_map
    assert again.parity.read_bytes() == small.parity.read_bytes()
    small.lose_data(range(10, 18))
    small.lose_parity([0, 7])
    small.store.repair(heal_parity=True).require_complete()
    assert small.tgz.read_bytes() == small.data
    assert small.store.verify().missing_parity() == []


def test_nothing_is_reported_if_the_disk_refuses_to_sync(small: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    small.lose_data([0])
    monkeypatch.setattr("libreseed.adapters.chunks.chunk_store.os.fdatasync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        small.store.repair()


def test_a_worker_that_fails_stops_the_others_and_is_heard() -> None:
    done: list[int] = []

    def fail(group: int) -> int:
        if group == 3:
            raise ValueError("group 3")
        done.append(group)
        return 1

    for threads in (1, 3):
        with pytest.raises(ValueError, match="group 3"):
            each_group(range(10**9), lambda: fail, threads=threads)


def test_a_row_that_the_file_does_not_have_is_not_taken_from_the_group_before(tmp_path: Path) -> None:
    grid = ChunkGrid(5120 * 600)
    window = StripeWindow(grid, 1)
    file = tmp_path / "short"
    file.write_bytes(b"A" * (5120 * 2 + 17))
    descriptor = os.open(file, os.O_RDONLY)
    try:
        window.move(0)
        assert [bytes(place) for place in read_row(descriptor, window, 0)] == [b"A" * 5120] * 2
        assert read_row(descriptor, window, 1) == []
    finally:
        os.close(descriptor)


def test_reads_that_come_in_pieces_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_package(tmp_path, content("pieces", 2_600_000))
    whole = os.preadv

    def some(descriptor: int, places: list[memoryview], offset: int) -> int:
        return whole(descriptor, [places[0][: 1 + len(places[0]) // 2]], offset)

    monkeypatch.setattr(stripe_io.os, "preadv", some)
    package.lose_data([0, 7])
    package.store.repair().require_complete()
    assert package.tgz.read_bytes() == package.data


@given(
    size=st.integers(1, 400_000),
    extra=st.integers(0, 4),
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.0, 0.02, 0.046, 0.3]),
)
@settings(max_examples=25, deadline=None)
def test_files_come_back_exactly_or_the_report_says_what_lacks(
    tmp_path_factory: pytest.TempPathFactory, size: int, extra: int, seed: int, share: float
) -> None:
    chance = random.Random(seed)
    grid = ChunkGrid(size)
    m = min(grid.least_m + extra, 256 - grid.k)
    package = make_package(tmp_path_factory.mktemp("any"), chance.randbytes(size), m=m)
    assert parse_chunk_map(package.chunk_map.data, expected=package.chunk_map.digest, size=size) == package.chunk_map
    package.lose_data([i for i in range(grid.n) if chance.random() < share])
    package.lose_parity([j for j in range(grid.parity_chunks(m)) if chance.random() < share])
    plan = plan_repair(package.store.verify())
    report = package.store.repair()
    assert report.before == plan.coherence
    assert plan_repair(report.verified).short == plan.short
    assert (package.tgz.read_bytes() == package.data) == (not plan.short)
    assert not (plan.coherence.is_safe and plan.short)


# --- planning ----------------------------------------------------------------------------------------------------


def test_parity_is_wanted_only_where_data_lacks_and_no_more_than_needed() -> None:
    grid = ChunkGrid(1_300_000)
    state = Verified(grid, 7, bytes([1]) * grid.n)
    assert wanted_parity(state) == []
    state.data[0] = state.data[2] = state.data[5] = 0
    assert wanted_parity(state) == [0, 1, 7]
    state.parity[1] = 1
    assert wanted_parity(state) == [0, 7]
    state.parity[7] = 1
    assert plan_repair(state).decodable == (1,)
    assert plan_repair(state).short == {0: 1}
    offered = bytearray(14)
    offered[5] = 1
    assert wanted_parity(state, bytes(offered)) == [5]


def test_virtual_rows_count_as_verified() -> None:
    grid = ChunkGrid(5120 * 245)
    state = Verified(grid, grid.least_m, bytes([1]) * grid.n, bytes([1]) * grid.parity_chunks(grid.least_m))
    assert grid.virtual_rows(1) == 1
    assert plan_repair(state).coherence.verified == grid.k + grid.least_m


def test_a_file_that_was_cut_off_lends_no_fewer_bytes_than_were_asked_for(small: Package) -> None:
    """Whoever puts a mirror's bytes between those that are here would wait for the missing ones for ever."""
    assert small.store.read(5000, 200) == small.data[5000:5200]
    for left in (5040, 100):
        os.truncate(small.tgz, left)
        with pytest.raises(LocalFault) as caught:
            small.store.read(5000, 200)
        assert caught.value.reason == "storage.io"
    small.tgz.unlink()
    with pytest.raises(LocalFault):
        small.store.read(5000, 200)
