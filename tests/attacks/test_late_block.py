"""A block of a refused piece that reaches the disk after its chunk was fetched from elsewhere or decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from libreseed.adapters.chunks.recovery import Findings
from libreseed.adapters.resolving.fetch import ContentFetch
from libreseed.errors import LocalFault
from libreseed.repair.plan import Verified
from libreseed.resolve.engine import FoundRecord, Resolution
from libreseed.resolve.policy import Policy
from libreseed.resolve.request import Request
from libreseed.resolve.trust import TrustBasis
from services.resolver.content import Content
from tests.archive_forge import KEY, Forge
from tests.attacks.attack_support import RELEASE, Arrived, arrive
from tests.repair_support import content


async def fetched(arrived: Arrived) -> tuple[Content, ContentFetch]:
    """The download with all its chunks verified, in a fetch that has left nothing to ask for."""
    package, minimal = arrived.package, arrived.minimal
    layout, chunk_map = package.made.metainfo.layout, package.chunk_map
    space = arrived.store.workspace(RELEASE, minimal.torrent)
    for file in package.folder.iterdir():
        (space.swarm / file.name).write_bytes(file.read_bytes())
    machine = Resolution(Request(RELEASE, without_silexium=True), Policy())
    machine.begin(TrustBasis((KEY.public,), "pin"), {})
    machine.record(FoundRecord(KEY.public, minimal.data, minimal.timestamp, "test"))
    machine.minimal_manifest(minimal.timestamp)
    machine.chunk_map(chunk_map.data, chunk_map.m)
    fetch = ContentFetch(machine, space, layout, None)
    grid = chunk_map.grid
    parity = b"\1" * grid.parity_chunks(chunk_map.m)
    whole = Verified(grid, chunk_map.m, b"\1" * grid.n, parity)
    fetch.restore(Findings(bytearray(b"\1" * layout.piece_count), whole, ()))
    await fetch.run()
    return Content(space.swarm / layout.tgz.name, fetch, None, None), fetch


def overwrite(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"a late block")


async def test_where_pieces_were_refused_a_late_block_is_found_and_its_chunk_decoded_again(tmp_path: Path) -> None:
    arrived = arrive(tmp_path, data := content("late", 300_000), Forge())
    before_step_7, fetch = await fetched(arrived)
    fetch.disturbed = True
    overwrite(before_step_7.tgz, 7 * 5120 + 100)
    assert await before_step_7.sha256(arrived.digest) == arrived.digest
    assert before_step_7.tgz.read_bytes() == data
    assert before_step_7.chunks()["healed"] == 1


async def test_a_late_block_that_parity_cannot_undo_is_a_fault_of_this_disk_and_not_of_the_publisher(
    tmp_path: Path,
) -> None:
    arrived = arrive(tmp_path, content("late", 300_000), Forge())
    before_step_7, fetch = await fetched(arrived)
    fetch.disturbed = True
    for chunk in range(arrived.package.chunk_map.m + 1):
        overwrite(before_step_7.tgz, chunk * 5120)
    with pytest.raises(LocalFault) as refused:
        await before_step_7.sha256(arrived.digest)
    assert refused.value.reason == "storage.io"
    assert not arrived.final.exists()
