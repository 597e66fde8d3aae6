"""Verifying and extracting a .tgz (steps 8 and 9 of the resolver) beside ``tar xzf``, which verifies nothing.

usage: extract_vs_tar.py [--mb 256] [--runs 5] [--tree DIR] [--work DIR]

Whole processes, the .tgz in the page cache; every run extracts into a new directory. Put --work on a tmpfs to leave the
file system out of it: creating files costs both the same, and it varies a lot.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

import harness
from packaging_vs_tar import copied_files

_EXTRACT = """
import sys
from pathlib import Path
from libreseed.adapters.packing.archive import extract_archive
from libreseed.package.minimal import parse_minimal
tgz, minimal, into = map(Path, sys.argv[1:])
extract_archive(tgz, parse_minimal(minimal.read_bytes()), into)
"""


def compare(title: str, tree: Path, work: Path, runs: int) -> None:
    sizes = [path.stat().st_size for path in tree.rglob("*") if path.is_file()]
    print(f"{title}: {sum(sizes) / 1e6:.0f} MB in {len(sizes)} files", flush=True)
    key, out, into = work / "key", work / "out", work / "into"
    if not key.exists():
        harness.json_of(harness.command("libreseed-packager", "keygen", "--out", key, "--no-passphrase", "--json"))
    shutil.rmtree(out, ignore_errors=True)
    line = harness.command(
        "libreseed-packager", "build", tree, "--name", "bench", "--version", "1.0.0", "--key", key, "--out", out
    )
    harness.json_of([*line, "--allow-secrets", "--allow-git", "--json"])
    release = out / "bench@1.0.0"
    tgz, minimal = release / "bench@1.0.0.tgz", release / "bench@1.0.0.minimal.json"
    cpu: dict[str, list[float]] = {"ours": [], "tar": []}
    peak: list[int] = []

    def fresh() -> None:
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()

    def ours(run: int) -> float:
        fresh()
        took = harness.timed([sys.executable, "-c", _EXTRACT, tgz, minimal, into])
        cpu["ours"].append(took.cpu)
        peak.append(took.peak)
        return took.wall

    def tar(run: int) -> float:
        fresh()
        took = harness.timed(["tar", "xzf", tgz, "-C", into])
        cpu["tar"].append(took.cpu)
        return took.wall

    harness.show(harness.in_turn(runs, {"tar xzf": tar, "extract_archive": ours}), "tar xzf")
    print(f"  CPU seconds, least: tar {min(cpu['tar']):.2f}, ours {min(cpu['ours']):.2f}; ours {max(peak) >> 20} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="libreseed-bench-", dir=arguments.work) as folder:
        work = Path(folder)
        compare("made tree", harness.make_tree(work / "made", arguments.mb * 10**6), work, arguments.runs)
        real = arguments.tree or Path(sysconfig.get_paths()["purelib"])
        compare(f"real tree ({real.name})", copied_files(real, work / "real"), work, arguments.runs)


if __name__ == "__main__":
    main()
