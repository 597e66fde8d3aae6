"""The journal: whatever a crash leaves, what was intact before it is read and nothing else."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed.adapters.chunks.recovery import runs_of
from libreseed.adapters.resolving.journal import open_journal
from libreseed.errors import Malformed
from libreseed.ids import Blake3Digest
from libreseed.resolve.journal import HEADER_BYTES, RECORD_BYTES, JournalHeader, Kind, Origin, Run, encode_run, replay

HEADER = JournalHeader(Blake3Digest(b"\x05" * 32), 1000, 50)
RUNS = (
    Run(Kind.DATA, Origin.SWARM, 0, 10),
    Run(Kind.PARITY, Origin.PEER, 49, 1),
    Run(Kind.DATA, Origin.REPAIR, 999, 1),
    Run(Kind.DATA, Origin.LOST, 3, 4),
)


def written(runs: tuple[Run, ...] = RUNS) -> bytes:
    data = HEADER.data
    for run in runs:
        data += encode_run(run, len(data))
    return data


def test_round_trip() -> None:
    found = replay(written(), HEADER)
    assert found.runs == RUNS
    assert found.valid_bytes == HEADER_BYTES + 4 * RECORD_BYTES


def test_truncated_at_every_byte_keeps_all_whole_records(tmp_path: Path) -> None:
    data = written()
    for cut in range(len(data) + 1):
        path = tmp_path / f"journal-{cut}"
        path.write_bytes(data[:cut])
        whole = max(0, cut - HEADER_BYTES) // RECORD_BYTES
        journal, found = open_journal(path, HEADER)
        assert found.runs == RUNS[:whole]
        journal.append(RUNS[:1])  # what was torn is cut off, so this is readable
        journal.close()
        assert replay(path.read_bytes(), HEADER).runs == (*RUNS[:whole], RUNS[0])


def test_changed_at_every_byte_ends_the_replay_there() -> None:
    data = written()
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x01
        whole = (at - HEADER_BYTES) // RECORD_BYTES if at >= HEADER_BYTES else 0
        assert replay(bytes(broken), HEADER).runs == RUNS[:whole]


def test_record_of_another_place_is_not_taken() -> None:
    """A block that a file system hands back from elsewhere in the file must not count."""
    data = written()
    first, second = HEADER_BYTES, HEADER_BYTES + RECORD_BYTES
    swapped = data[:first] + data[second : second + RECORD_BYTES] + data[first:second]
    assert replay(swapped, HEADER).runs == ()


def test_journal_of_another_chunk_map_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(written())
    other = JournalHeader(Blake3Digest(b"\x06" * 32), 1000, 50)
    journal, found = open_journal(path, other)
    journal.close()
    assert found.runs == ()
    assert path.read_bytes() == other.data


@pytest.mark.parametrize(
    "run", [Run(Kind.DATA, Origin.SWARM, 999, 2), Run(Kind.PARITY, Origin.SWARM, 50, 1)], ids=["data", "parity"]
)
def test_run_outside_the_release_is_not_taken(run: Run) -> None:
    assert replay(HEADER.data + encode_run(run, HEADER_BYTES), HEADER).runs == ()


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 0), (2**32, 1)])
def test_impossible_run_cannot_exist(first: int, count: int) -> None:
    with pytest.raises(Malformed):
        Run(Kind.DATA, Origin.SWARM, first, count)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data: bytes) -> None:
    found = replay(HEADER.data + data, HEADER)
    assert found.valid_bytes == HEADER_BYTES + RECORD_BYTES * len(found.runs)


@given(st.sets(st.integers(0, 60)))
def test_runs_cover_exactly_the_chunks(chunks: set[int]) -> None:
    runs = runs_of(Kind.DATA, Origin.SWARM, sorted(chunks))
    assert [chunk for run in runs for chunk in range(run.first, run.first + run.count)] == sorted(chunks)
    assert all(a.first + a.count < b.first for a, b in pairwise(runs))
