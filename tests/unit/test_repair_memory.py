"""Parity, chunk map and torrent of a large .tgz are made, used and verified in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import sys
from pathlib import Path
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.adapters.chunks.repair_files import make_repair_files
from libreseed.ids import ReleaseId
tgz = Path(sys.argv[1])
made = make_repair_files(ReleaseId.parse("big@1.0.0"), tgz, threads=2)
with tgz.open("r+b") as file:
    file.seek(10**8)
    for _ in range(25):
        file.write(b"x" * 10**6)
store = ChunkStore(made.chunk_map, tgz, tgz.with_suffix(".parity"))
report = store.repair(threads=2)
report.require_complete()
# Not getrusage: its peak begins with that of the process that started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(len(report.repaired), int(peak.split()[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_large_package_needs_little_memory(tmp_path: Path) -> None:
    tgz = tmp_path / "big@1.0.0.tgz"
    with tgz.open("wb") as file:
        file.truncate(600 * 10**6)  # sparse
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tgz)], check=True, capture_output=True, text=True, timeout=120
    )
    repaired, resident = map(int, result.stdout.split())
    assert repaired >= 4882
    assert resident < 120, "MiB"
