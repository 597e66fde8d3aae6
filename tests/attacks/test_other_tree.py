"""A publisher who signs two trees for one version, and puts the one that was never attested where the other belongs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from libreseed.adapters.packing.archive import extract_archive
from tests.proof_support import Desk, draft
from tests.resolver_support import Sample, assert_installed, make_sample, rejects, scene


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 60_000)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The same release, key and time; other files."""
    return make_sample(tmp_path_factory.mktemp("other"), 40_000)


def put_tree(sample: Sample, place: Path) -> None:
    place.mkdir(parents=True)
    extract_archive(sample.files.tgz, sample.minimal, place)


async def test_a_tree_that_was_there_before_is_not_taken_for_the_one_that_was_proven(
    tmp_path: Path, sample: Sample, other: Sample
) -> None:
    desk = Desk(sample, tmp_path)
    out = tmp_path / "vendor"
    put_tree(other, out / str(sample.minimal.release))
    with rejects("storage.changed"):
        await desk.resolve(draft(sample).bundle(), out=out)
    assert not list((desk.store / "receipts").iterdir())
    assert not list((desk.store / "floors").iterdir())
    assert_installed(other, out / str(sample.minimal.release))
    shutil.rmtree(out)
    put_tree(sample, out / str(sample.minimal.release))
    outcome = await desk.resolve(draft(sample).bundle(), out=out)
    assert (outcome.silexium, outcome.path) == ("proven", str(out / str(sample.minimal.release)))


async def test_a_tree_that_was_there_before_is_not_taken_without_proofs_either(
    tmp_path: Path, sample: Sample, other: Sample
) -> None:
    """With ``--no-silexium`` the record alone says which .tgz is meant: only a tree of that one gets a receipt."""
    out = tmp_path / "vendor"
    place = out / str(sample.minimal.release)
    async with scene(tmp_path, sample) as it:
        await it.seed()
        put_tree(other, place)
        with rejects("storage.changed"):
            await it.resolve(out=out)
        assert not list((it.store / "receipts").iterdir())
        assert not list((it.store / "floors").iterdir())
        assert_installed(other, place)
        shutil.rmtree(out)
        put_tree(sample, place)
        outcome = await it.resolve(out=out)
        assert (outcome.silexium, outcome.path, outcome.already) == ("not checked", str(place), False)


async def test_a_tree_that_took_the_place_of_the_proven_one_is_noticed(
    tmp_path: Path, sample: Sample, other: Sample
) -> None:
    desk = Desk(sample, tmp_path)
    outcome = await desk.resolve(draft(sample).bundle())
    shutil.rmtree(outcome.path)
    put_tree(other, Path(outcome.path))
    with rejects("storage.changed", step=9):
        await desk.resolve()
