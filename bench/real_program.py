"""A real program through build, seed and resolve; the installed tree must equal the source, bytes and modes.

usage: real_program.py DIR_OR_WHEEL   (for example a wheel from `pip download --no-deps scipy`)

Exits non-zero when `diff -r` or a mode differs. The two files that the packager adds (manifest.json, SRC) are left out.
Real programs ship test keys, so --allow-secrets is given.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import harness


def unpacked(source: Path, into: Path) -> Path:
    """The tree to package: a directory as it is, a wheel unpacked with its x bits."""
    if source.is_dir():
        return source
    with zipfile.ZipFile(source) as wheel:
        for entry in wheel.infolist():
            path = Path(wheel.extract(entry, into))
            if path.is_file() and entry.external_attr >> 16 & 0o100:
                path.chmod(0o755)
    return into


def modes(root: Path) -> dict[str, bool]:
    """Every regular file below ``root`` and whether its owner may execute it."""
    files = (path for path in root.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
    return {path.relative_to(root).as_posix(): bool(path.stat().st_mode & 0o100) for path in files}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="libreseed-real-") as folder:
        work = Path(folder)
        tree = unpacked(Path(sys.argv[1]).resolve(), work / "tree")
        count, size = len(modes(tree)), sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file())
        started = time.perf_counter()
        release = harness.build(tree, work / "out", "real", work / "key", "--allow-secrets")
        built = time.perf_counter()
        print(f"{count} files, {size / 1e6:.0f} MB -> {(release / f'{release.name}.tgz').stat().st_size / 1e6:.0f} MB")
        with harness.seeder(work / "state", "127.0.0.41", release) as status:
            begun = time.perf_counter()
            line = harness.command("libreseed-resolve", release.name, "--store", work / "store", "--no-silexium")
            line += ["--bootstrap", status["dht"]["listen"][0], "--publisher", harness.public_key(release), "--json"]
            installed = Path(str(harness.json_of(line)["path"]))
            print(f"built in {built - started:.1f} s, resolved in {time.perf_counter() - begun:.1f} s")
        different = subprocess.run(
            ["diff", "-r", "--exclude=manifest.json", "--exclude=SRC", tree, installed], check=False
        ).returncode
        ours = modes(installed)
        added = {name for name in ("manifest.json", "SRC") if ours.pop(name, None) is not None}
        same = modes(tree) == ours
        print(f"diff -r: {'differs' if different else 'equal'}; modes: {'equal' if same else 'differ'}; added: {added}")
        raise SystemExit(different or not same)


if __name__ == "__main__":
    main()
