"""``libreseed-packager build`` (archive, chunk map, parity, torrent, signatures, fsync) beside ``tar czf`` with gzip.

usage: packaging_vs_tar.py [--mb 256] [--runs 5] [--tree DIR]

Two trees: a made one, half of which compresses, and a real one (DIR, by default this Python's own library with its
installed packages). tar writes one file, hashes nothing and syncs nothing. The page cache is warm for both. The
acceptance line is a ratio of at most 0.50.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import harness


def copied_files(source: Path, target: Path) -> Path:
    """The regular files of ``source``: a package holds no links."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    return target


def compare(title: str, tree: Path, work: Path, runs: int) -> None:
    sizes = [path.stat().st_size for path in tree.rglob("*") if path.is_file()]
    print(f"{title}: {sum(sizes) / 1e6:.0f} MB in {len(sizes)} files", flush=True)
    key = work / "key"
    if not key.exists():
        harness.json_of(harness.command("libreseed-packager", "keygen", "--out", key, "--no-passphrase", "--json"))
    out, tgz = work / "out", work / "plain.tgz"
    cpu: dict[str, list[float]] = {"ours": [], "tar": []}

    def ours(run: int) -> float:
        shutil.rmtree(out, ignore_errors=True)
        line = harness.command(
            "libreseed-packager", "build", tree, "--name", "bench", "--version", "1.0.0", "--key", key, "--out", out
        )
        took = harness.timed([*line, "--allow-secrets", "--allow-git", "--quiet"])
        cpu["ours"].append(took.cpu)
        return took.wall

    def tar(run: int) -> float:
        tgz.unlink(missing_ok=True)
        took = harness.timed(["tar", "czf", tgz, "-C", tree, "."])
        cpu["tar"].append(took.cpu)
        return took.wall

    harness.show(harness.in_turn(runs, {"tar czf": tar, "libreseed-packager build": ours}), "tar czf")
    made = out / "bench@1.0.0" / "bench@1.0.0.tgz"
    print(f"  .tgz: tar {tgz.stat().st_size / 1e6:.1f} MB, ours {made.stat().st_size / 1e6:.1f} MB")
    print(f"  CPU seconds, least: tar {min(cpu['tar']):.2f}, ours {min(cpu['ours']):.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tree", type=Path)
    arguments = parser.parse_args()
    gzip = subprocess.run(["gzip", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    print(f"{gzip}; {len(os.sched_getaffinity(0))} processors")
    with tempfile.TemporaryDirectory(prefix="libreseed-bench-") as folder:
        work = Path(folder)
        compare("made tree", harness.make_tree(work / "made", arguments.mb * 10**6), work, arguments.runs)
        real = arguments.tree or Path(sysconfig.get_paths()["purelib"])
        compare(f"real tree ({real.name})", copied_files(real, work / "real"), work, arguments.runs)


if __name__ == "__main__":
    main()
