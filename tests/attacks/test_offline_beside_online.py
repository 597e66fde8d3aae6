"""A resolve without the network while another process downloads the same release into the same store."""

from __future__ import annotations

from pathlib import Path

import pytest

from libreseed.adapters.resolving.store import Store
from libreseed.resolve.request import Request
from tests.proof_support import Desk, draft
from tests.resolver_support import Sample, make_sample, rejects


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 60_000)


def _files(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (store.root / "staging").rglob("*") if path.is_file()}


async def test_an_offline_resolve_takes_no_download_away_from_the_process_that_holds_its_lock(
    tmp_path: Path, sample: Sample
) -> None:
    desk = Desk(sample, tmp_path)
    store = Store(desk.store)
    held, before = store.lock(sample.minimal.release), _files(store)
    assert held.acquire(wait=False) and before
    with rejects("deadline.total"):
        await desk.resolve(draft(sample).bundle(), timeout=1.0)
    assert (_files(store), desk.installed()) == (before, [])
    held.close()
    assert (await desk.resolve(draft(sample).bundle())).silexium == "proven"
    assert store.workspaces(sample.minimal.release) == []


async def test_an_offline_resolve_that_refuses_leaves_the_download_of_another_process(
    tmp_path: Path, sample: Sample
) -> None:
    desk = Desk(sample, tmp_path)
    store = Store(desk.store)
    [space] = store.workspaces(sample.minimal.release)
    [tgz] = space.swarm.glob("*.tgz")
    tgz.write_bytes(bytes(tgz.stat().st_size))  # under way still: nothing of it has arrived
    held, before = store.lock(sample.minimal.release), _files(store)
    assert held.acquire(wait=False)
    with rejects("deadline.total"):
        await desk.resolve(draft(sample).bundle(), timeout=1.0)
    assert _files(store) == before
    held.close()


async def test_an_offline_resolve_of_what_is_not_there_makes_no_store(tmp_path: Path, sample: Sample) -> None:
    absent = tmp_path / "absent"
    request = Request(sample.minimal.release, publisher=sample.minimal.pubkey, without_silexium=True, offline=True)
    with rejects("notfound.offline"):
        await Desk(sample, tmp_path).resolve(request=request, store=absent)
    assert not absent.exists()
