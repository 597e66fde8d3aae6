"""Peak memory of ``libreseed-packager build`` and ``verify`` on a large tree.

usage: packaging_memory.py [--mb 4096]

The acceptance line is 300 MB for a tree of 4 GB. The tree holds files of 2 kB to 4 MB and, for a quarter of its size,
one large file. It needs about three times its size on disk.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import harness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=4096)
    parser.add_argument("--work", type=Path, help="where to work (default: the system's temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="libreseed-bench-", dir=arguments.work) as folder:
        work = Path(folder)
        tree = harness.make_tree(work / "tree", arguments.mb * 10**6 * 3 // 4)
        draw = random.Random(2)
        with (tree / "large.bin").open("wb") as file:
            for _ in range(arguments.mb // 4):
                file.write(draw.randbytes(10**6))
        total = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
        key, out = work / "key", work / "out"
        harness.json_of(harness.command("libreseed-packager", "keygen", "--out", key, "--no-passphrase", "--json"))
        build = ["build", tree, "--name", "bench", "--version", "1.0.0", "--key", key, "--out", out, "--quiet"]
        verify = ["verify", out / "bench@1.0.0" / "bench@1.0.0.tgz", "--quiet"]
        print(f"tree: {total / 1e9:.2f} GB")
        for name, line in (("build", build), ("verify", verify)):
            took = harness.timed(harness.command("libreseed-packager", *line))
            print(
                f"  {name:<8} {took.wall:7.1f} s, CPU {took.cpu:7.1f} s, peak memory {took.peak / 1e6:6.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
