"""The machine itself: a link planted where the release shall be, a disk that fills up while it is extracted."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libreseed.adapters.files.durable import STAGING_PREFIX
from libreseed.errors import LocalFault
from tests.archive_forge import Forge, gz
from tests.attacks.attack_support import Arrived, arrive


@pytest.fixture
def arrived(tmp_path: Path) -> Arrived:
    forge = Forge(files={"a": b"first", "d/e": b"x" * 700, "z": bytes(range(256)) * 20}, executables=())
    return arrive(tmp_path, gz(forge.tar), forge)


def visible(arrived: Arrived) -> list[str]:
    return sorted(path.name for path in arrived.store.packages.iterdir())


@pytest.mark.parametrize("dangling", [True, False])
async def test_a_link_planted_in_the_place_of_the_release_is_neither_followed_nor_replaced(
    arrived: Arrived, tmp_path: Path, dangling: bool
) -> None:
    target = tmp_path / "elsewhere"
    if not dangling:
        target.mkdir()
    arrived.final.symlink_to(target)
    with pytest.raises(LocalFault) as caught:
        await arrived.install()
    assert (caught.value.reason, caught.value.exit_code) == ("storage.exists", 50)
    assert arrived.final.is_symlink()
    assert not target.exists() if dangling else not list(target.iterdir())
    assert visible(arrived) == [arrived.final.name]  # the link itself: no staging is left beside it


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """No file of this process may grow beyond ``count`` bytes: writes fail where a full disk makes them fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 100, 600, 4000])
async def test_a_disk_that_is_full_during_extraction_shows_nothing_and_the_next_run_installs(
    arrived: Arrived, room: int
) -> None:
    with pytest.raises(OSError) as caught, room_for(room):
        await arrived.install()
    assert caught.value.errno == errno.EFBIG
    assert visible(arrived) == []
    assert not list(arrived.store.packages.glob(STAGING_PREFIX + "*"))
    assert not list((arrived.store.root / "receipts").iterdir())
    await arrived.install()
    assert visible(arrived) == [arrived.final.name]
