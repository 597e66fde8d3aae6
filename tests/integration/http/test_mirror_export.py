"""Exports, and a real nginx that serves one by the sample configuration: the same paths, the same bytes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from libreseed.adapters.release.release_folder import ReleaseFiles
from libreseed.auraseal.diram_package import open_package
from libreseed.auraseal.integrity_manifest import parse_integrity_manifest
from libreseed.auraseal.tgz_parts import TgzComponents
from libreseed.repair.chunkmap import parse_chunk_map
from services.mirror import cli
from tests.http_support import TlsFiles, make_tls
from tests.mirror_daemon_support import big_release, curl, web_seed_download
from tests.proof_support import settled_draft
from tests.resolver_support import make_sample
from tests.seeder_support import flip, until
from tests.tools import require_program

pytestmark = pytest.mark.integration
CONFIG = Path(__file__).parents[3] / "contrib/nginx/libreseed-mirror.conf"


def export(root: Path, store: Path, *arguments: str) -> int:
    return cli.main(["export", str(root), "--store", str(store), "--quiet", *arguments])


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def nginx(root: Path, folder: Path, tls: TlsFiles | None = None) -> Iterator[str]:
    """A real nginx with the sample configuration, changed where its comment says; yields the URL."""
    program = require_program("nginx")
    folder.mkdir()
    port = free_port()
    server = CONFIG.read_text()
    server = re.sub(r"\n    listen \[::\]:443[^\n]*", "", server)
    listen = f"listen 127.0.0.1:{port}" + (" ssl http2" if tls else "")
    server = server.replace("listen 443 ssl http2", listen).replace("root /srv/www/mirror;", f"root {root};")
    if tls:
        server = server.replace("/etc/ssl/mirror/fullchain.pem", str(tls.certfile))
        server = server.replace("/etc/ssl/mirror/privkey.pem", str(tls.keyfile))
    else:
        server = re.sub(r"\n    ssl_[^\n]*", "", server)
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"user root;\ndaemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\naccess_log off;\n{places}\n{server}\n}}\n"
    )
    process = subprocess.Popen([program, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"])
    try:
        until(lambda: _answers(port), "nginx listens")
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture
def exported(tmp_path: Path) -> tuple[ReleaseFiles, Path]:
    files = big_release(tmp_path / "store", size=2_500_000)
    assert export(tmp_path / "www", tmp_path / "store") == 0
    return files, tmp_path / "www"


def test_an_export_has_every_file(exported: tuple[ReleaseFiles, Path]) -> None:
    files, root = exported
    packages, seed = root / "packages/hello@1.0.0", root / "seed/hello@1.0.0"
    for suffix in (".tgz", ".chunks", ".parity"):
        assert (seed / f"hello@1.0.0{suffix}").read_bytes() == files.path(suffix).read_bytes()
    for name in ("minimal.json", "dht.json", "torrent", "chunks", "parity"):
        assert (packages / name).read_bytes() == files.path(f".{name}").read_bytes()
    package = open_package((packages / "zip").read_bytes())
    assert b"".join(package.component(key) for key in sorted(package.manifest)) == files.tgz.read_bytes()
    with zipfile.ZipFile(packages / "zip") as archive:
        assert (packages / "integrity-manifest.json").read_bytes() == archive.read("integrity-manifest.json")
    components = TgzComponents(parse_chunk_map(files.path(".chunks").read_bytes()))
    for number in range(components.count):
        parts = {int(path.name): path.read_bytes() for path in (packages / f"components/{number}").iterdir()}
        offset, length = components.span(number)
        assert components.reconstruct(number, parts).data == files.tgz.read_bytes()[offset : offset + length]
    assert parse_integrity_manifest((root / "integrity-manifest.json").read_bytes()).keys() == {
        "seed/hello@1.0.0/hello@1.0.0.tgz"
    }
    (listed,) = json.loads((root / "releases.json").read_bytes())["releases"]
    assert listed["release"] == "hello@1.0.0" and listed["whole"]


def test_two_exports_are_equal_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    big_release(tmp_path / "store", size=200_000)
    assert export(tmp_path / "one", tmp_path / "store") == export(tmp_path / "two", tmp_path / "store") == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("hello@1.0.0*")}
    assert export(tmp_path / "one", tmp_path / "store") == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_second_run_adds_what_the_first_was_told_to_leave_out(tmp_path: Path) -> None:
    big_release(tmp_path / "store", size=200_000)
    assert export(tmp_path / "www", tmp_path / "store", "--no-parts", "--no-zip") == 0
    assert export(tmp_path / "www", tmp_path / "store") == 0
    assert export(tmp_path / "whole", tmp_path / "store") == 0
    assert tree(tmp_path / "www") == tree(tmp_path / "whole")
    assert export(tmp_path / "www", tmp_path / "store", "--no-parts") == 0  # what is there stays
    assert tree(tmp_path / "www") == tree(tmp_path / "whole")


def test_documents_that_came_or_went_since_are_followed(tmp_path: Path) -> None:
    """A release is logged after it is built: its bundle comes when it is exported already."""
    sample = make_sample(tmp_path, 100_000)
    packages = tmp_path / "www/packages" / str(sample.minimal.release)
    bundle, record = sample.files.path(".silexium.json"), sample.files.path(".dht.json")
    assert export(tmp_path / "www", tmp_path / "out") == 0
    assert not (packages / "silexium.json").exists() and (packages / "dht.json").exists()
    bundle.write_bytes(settled_draft(sample).bundle().data)
    record.unlink()
    assert export(tmp_path / "www", tmp_path / "out") == 0
    assert (packages / "silexium.json").read_bytes() == bundle.read_bytes() and not (packages / "dht.json").exists()
    bundle.write_bytes(b"{}")  # it does not hold: it is not shown
    assert export(tmp_path / "www", tmp_path / "out") == 0
    assert not (packages / "silexium.json").exists()
    (tmp_path / "www/seed" / packages.name / f"{packages.name}.parity").unlink()
    assert export(tmp_path / "www", tmp_path / "out") == 0
    assert export(tmp_path / "anew", tmp_path / "out") == 0
    assert tree(tmp_path / "www") == tree(tmp_path / "anew")


def test_a_link_that_takes_a_documents_place_meanwhile_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = big_release(tmp_path / "store", size=20_000).path(".dht.json")
    (tmp_path / "secret").write_bytes(b"outside of the store")

    def copy_late(source: Path, target: Path) -> None:
        if source == record:
            record.unlink()
            record.symlink_to(tmp_path / "secret")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copy_late)
    assert export(tmp_path / "www", tmp_path / "store") == 50
    assert tree(tmp_path / "www") == {}


def test_a_release_that_is_exported_anew_is_there_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = big_release(tmp_path / "store", size=20_000)
    assert export(tmp_path / "www", tmp_path / "store", "--no-parts") == 0
    old.folder.rename(tmp_path / "old")
    new = big_release(tmp_path / "store", size=30_000, seed=2)
    places = [tmp_path / "www" / kind / "hello@1.0.0" for kind in ("seed", "packages")]
    gaps: list[Path] = []
    original = os.fsync

    def watched(descriptor: int) -> None:
        original(descriptor)
        gaps.extend(place for place in places if not place.is_dir())

    monkeypatch.setattr(os, "fsync", watched)
    assert export(tmp_path / "www", tmp_path / "store") == 0
    assert (places[0] / "hello@1.0.0.tgz").read_bytes() == new.tgz.read_bytes()
    assert (places[1] / "minimal.json").read_bytes() == new.path(".minimal.json").read_bytes()
    assert gaps == []
    assert not [path for path in (tmp_path / "www").rglob(".*")]


@pytest.mark.slow
def test_an_export_that_is_killed_shows_whole_releases_only(tmp_path: Path) -> None:
    """Each time soon after something came, over the remains of the last time: what a server may show is never half."""
    store, root, draw = tmp_path / "store", tmp_path / "www", random.Random(7)
    for number in range(6):
        big_release(store, f"r{number}@1.0.0", size=400_000, seed=number)
    assert export(tmp_path / "clean", store) == 0
    clean = by_place(tmp_path / "clean")
    line = [
        sys.executable,
        "-m",
        "libreseed_services.mirror.cli",
        "export",
        str(root),
        "--store",
        str(store),
        "--quiet",
    ]
    partly = 0
    for _ in range(7):
        before = by_place(root).keys()
        process = subprocess.Popen([*line, "--quiet"])
        until(lambda now=before, run=process: run.poll() is not None or len(list(root.glob("*/r*"))) > len(now))
        time.sleep(draw.random() / 20)
        process.kill()
        process.wait()
        shown = by_place(root)
        assert shown.items() <= clean.items()
        assert "releases.json" not in shown or shown == clean
        partly += shown != clean
    assert partly >= 3
    assert export(root, store) == 0
    assert by_place(root) == clean
    assert not [path for path in root.rglob(".*")]


def by_place(root: Path) -> dict[str, frozenset[tuple[str, bytes]]]:
    """All files that a server may show: those of a release in either folder together, others each by itself."""
    found: dict[str, set[tuple[str, bytes]]] = {}
    for path, data in tree(root).items():
        if not re.search(r"(^|/)\.", path):
            place = "/".join(path.split("/")[:2])
            found.setdefault(place, set()).add((path, data))
    return {place: frozenset(files) for place, files in found.items()}


def test_what_is_damaged_is_healed_and_what_is_forged_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = big_release(tmp_path / "store", size=200_000)
    whole = good.tgz.read_bytes()
    forged = big_release(tmp_path / "store", "forged@1.0.0", size=20_000)
    flip(good.tgz, 50_000)
    forged.path(".minimal.json").write_bytes(forged.path(".minimal.json").read_bytes().replace(b"forged", b"f0rged"))
    assert export(tmp_path / "www", tmp_path / "store", "--json") == 20
    result = json.loads(capsys.readouterr().out)
    assert result["added"] == ["hello@1.0.0"] and "minimal." in result["refused"]["forged@1.0.0"]
    assert (result["ok"], result["exit"]) == (False, 20) and result["reason"].startswith("minimal.")
    assert result["message"] and result["remedy"] and result["step"] is None
    assert (tmp_path / "www/seed/hello@1.0.0/hello@1.0.0.tgz").read_bytes() == whole
    assert not [path for path in (tmp_path / "www").rglob("*") if "forged" in path.name]


def test_releases_are_left_out_and_removed_on_demand(tmp_path: Path) -> None:
    big_release(tmp_path / "store", size=20_000)
    gone = big_release(tmp_path / "store", "gone@1.0.0", size=20_000, seed=2)
    assert export(tmp_path / "www", tmp_path / "store", "--no-parts", "--no-zip") == 0
    packages = tmp_path / "www/packages"
    assert not (packages / "gone@1.0.0/zip").exists() and not (packages / "gone@1.0.0/parts").exists()
    gone.folder.rename(tmp_path / "away")
    assert export(tmp_path / "www", tmp_path / "store") == 0
    assert (packages / "gone@1.0.0").is_dir()
    assert export(tmp_path / "www", tmp_path / "store", "--delete") == 0
    assert not [path for path in (tmp_path / "www").rglob("*") if "gone" in path.name or path.name.startswith(".")]
    assert b"gone" not in (tmp_path / "www/releases.json").read_bytes()


def test_an_export_into_its_own_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert export(tmp_path / "store/www", tmp_path / "store") == 50
    assert export(tmp_path / "www", tmp_path / "absent") == 10


def test_an_export_around_its_store_is_refused(tmp_path: Path) -> None:
    """Whatever the store holds, its quarantine too, would be served."""
    (tmp_path / "www").mkdir()
    big_release(tmp_path / "www/store", size=20_000)
    assert export(tmp_path / "www", tmp_path / "www/store") == 50
    assert not (tmp_path / "www/seed").exists()


def test_a_store_whose_disk_is_not_mounted_deletes_nothing(tmp_path: Path) -> None:
    big_release(tmp_path / "store", size=20_000)
    assert export(tmp_path / "www", tmp_path / "store") == 0
    (tmp_path / "store").rename(tmp_path / "away")
    (tmp_path / "store").mkdir()
    assert export(tmp_path / "www", tmp_path / "store", "--delete") == 10
    assert (tmp_path / "www/seed/hello@1.0.0/hello@1.0.0.tgz").exists()
    assert b"hello" in (tmp_path / "www/releases.json").read_bytes()


def test_nginx_serves_an_export_to_curl(exported: tuple[ReleaseFiles, Path], tmp_path: Path) -> None:
    files, root = exported
    whole = files.tgz.read_bytes()
    tls = make_tls(tmp_path / "tls")
    with nginx(root, tmp_path / "nginx", tls) as url:
        trust = ("--cacert", str(tls.certfile))
        base = f"{url}/packages/hello@1.0.0"
        for path in (base, base.replace("@", "%40")):
            assert curl(*trust, path) == whole
        assert curl(*trust, "--range", "5120-1005119", base) == whole[5120:1_005_120]
        assert curl(*trust, "--range", "-7", f"{url}/seed/hello@1.0.0/hello@1.0.0.tgz") == whole[-7:]
        for name in ("minimal.json", "dht.json", "torrent", "chunks", "parity"):
            assert curl(*trust, f"{base}/{name}") == files.path(f".{name}").read_bytes()
        packages = root / "packages/hello@1.0.0"
        assert curl(*trust, f"{base}/zip") == (packages / "zip").read_bytes()
        assert curl(*trust, f"{base}/parts/7") == (packages / "components/0/7").read_bytes()
        assert curl(*trust, f"{base}/parts/7?component=1") == (packages / "components/1/7").read_bytes()
        assert curl(*trust, f"{base}/components/1/7") == (packages / "components/1/7").read_bytes()
        head = curl(*trust, "--head", base).decode().lower()
        for field in (
            "access-control-allow-origin: *",
            "x-content-type-options: nosniff",
            "accept-ranges: bytes",
            "etag:",
        ):
            assert field in head, head
        for name, media_type in {
            base: "application/gzip",
            f"{base}/zip": "application/zip",
            f"{base}/minimal.json": "application/json",
            f"{base}/integrity-manifest.json": "application/json",
            f"{base}/torrent": "application/x-bittorrent",
            f"{url}/integrity-manifest.json": "application/json",
        }.items():
            assert f"content-type: {media_type}" in curl(*trust, "--head", name).decode().lower()
        (packages / ".staging").write_text("hidden")
        absent = ("/packages/other@1.0.0", "/packages/hello@1.0.0/.staging", "/packages/hello@1.0.0/parts/300")
        refused = dict.fromkeys((*absent, "/packages/hello@1.0.0/parts/7?component=2"), b"404")
        for component in ("256", "300", "01", "+1", "%31", "x", "1/../0"):  # not another one's part
            refused[f"/packages/hello@1.0.0/parts/7?component={component}"] = b"400"
        for path, expected in refused.items():
            status = curl(*trust, "--no-fail", "-o", str(tmp_path / "answer"), "-w", "%{http_code}", url + path)
            assert status == expected, path
        options = curl(*trust, "-X", "OPTIONS", "-i", base).decode().lower()
        assert " 204" in options.splitlines()[0] and "access-control-allow-headers" in options


def test_libtorrent_takes_nginx_for_a_web_seed(exported: tuple[ReleaseFiles, Path], tmp_path: Path) -> None:
    files, root = exported
    with nginx(root, tmp_path / "nginx") as url:
        web_seed_download(files.path(".torrent").read_bytes(), f"{url}/seed/", tmp_path / "got")
    for suffix in (".tgz", ".chunks", ".parity"):
        assert (tmp_path / "got/hello@1.0.0" / f"hello@1.0.0{suffix}").read_bytes() == files.path(suffix).read_bytes()
