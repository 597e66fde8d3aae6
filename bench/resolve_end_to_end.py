"""Resolve from process start to installed tree, beside aria2c + sha256sum + tar and beside a bare libtorrent download.

usage: resolve_end_to_end.py [--mb 256] [--runs 5] [--small] [--memory]

One seeder daemon on loopback serves everybody. Resolvers start cold: an empty store, found through the DHT by the
publisher's key, everything verified but Silexium. The page cache is warm for all.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import harness


class Tracker(BaseHTTPRequestHandler):
    """Answers every announce with the one seeder: aria2 has no flag for a peer."""

    peer = b""

    def do_GET(self) -> None:
        body = b"d8:intervali1800e5:peers6:" + self.peer + b"e"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def tracker_for(host: str, port: int) -> str:
    Tracker.peer = bytes(map(int, host.split("."))) + port.to_bytes(2, "big")
    server = HTTPServer(("127.0.0.1", 0), Tracker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/announce"


class Scene:
    """A release, the seeder's addresses and a scratch folder."""

    def __init__(self, work: Path, release: Path, status: dict[str, object]) -> None:
        self.work, self.release, self.id = work, release, release.name
        self.host, port = str(status["listen"][0]).rsplit(":", 1)
        self.port = int(port)
        self.dht = status["dht"]["listen"][0]
        # aria2 before 1.37 miscomputes the info-hash of hybrid torrents; the seeder has a door for such clients.
        door_host, door_port = str(status["legacy_listen"]).rsplit(":", 1)
        self.tracker = tracker_for(door_host, int(door_port))
        self.cpu: dict[str, list[float]] = {}

    def fresh(self, name: str) -> Path:
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def resolve(self, _: int, *, until_verified: bool = False) -> float:
        store = self.fresh("store")
        line = harness.command("libreseed-resolve", self.id, "--store", store, "--bootstrap", self.dht, "--no-silexium")
        line += ["--publisher", harness.public_key(self.release), "--json", "--quiet"]
        out = self.work / "out.json"
        with out.open("wb") as sink:
            started = time.perf_counter()
            process = subprocess.Popen([str(part) for part in line], stdout=sink, stderr=subprocess.PIPE)
            stderr = process.communicate()[1]
            wall = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"resolve: exit {process.returncode}: {stderr.decode()[-600:]}")
        result = json.loads(out.read_text())
        shutil.rmtree(store)
        if until_verified:
            cpu = next(float(step["cpu_since_start"]) for step in result["steps"] if int(step["step"]) == 7)
            self.cpu.setdefault("resolve, steps 1-7", []).append(cpu)
        return wall - self.after_step_7(result) if until_verified else wall

    @staticmethod
    def after_step_7(result: dict[str, object]) -> float:
        """Seconds between the verified .tgz (steps 1 to 7) and the end."""
        return sum(float(step["seconds"]) for step in result["steps"] if int(step["step"]) > 7)

    def aria2(self, _: int) -> float:
        folder, tree = self.fresh("aria2"), self.fresh("aria2-tree")
        started = time.perf_counter()
        self.aria2_only(folder)
        tgz = folder / self.id / f"{self.id}.tgz"
        harness.timed(["sha256sum", tgz])
        harness.timed(["tar", "xzf", tgz, "-C", tree])
        return time.perf_counter() - started

    def aria2_only(self, folder: Path) -> None:
        options = ["--seed-time=0", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--quiet"]
        options += ["--file-allocation=none", "--select-file=5", f"--bt-tracker={self.tracker}", f"--dir={folder}"]
        options += ["--bt-max-peers=4", "--summary-interval=0", "--disable-ipv6=true"]
        harness.timed(["aria2c", *options, self.release / f"{self.id}.torrent"])

    def bare(self, _: int, *first: str, last: tuple[object, ...] = (), name: str = "bare libtorrent") -> float:
        folder = self.fresh("bare")
        script = Path(__file__).parent / "bare_libtorrent.py"
        torrent = self.release / f"{self.id}.torrent"
        run = harness.timed([sys.executable, *first, script, torrent, self.host, self.port, folder, *last])
        self.cpu.setdefault(name, []).append(run.cpu)
        return run.wall

    def bare_on_trio(self, _: int) -> float:
        """The same in a process that has imported trio, as every program on it must: what we do, not what we run on."""
        line = "import trio, runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
        return self.bare(_, "-c", line, name="the same, trio imported")

    def bare_by_magnet(self, _: int) -> float:
        """The same without a .torrent and a peer: what is known is the info-hash and a DHT node, as a resolver does."""
        return self.bare(_, last=(self.dht,), name="the same, by magnet link")

    def show_cpu(self) -> None:
        for name, seconds in self.cpu.items():
            print(
                f"  CPU seconds, {name:<31} {min(seconds):7.3f} {statistics.median(seconds):7.3f} {max(seconds):7.3f}"
            )


def imports(_: int) -> float:
    return harness.timed([sys.executable, "-c", "import trio, libtorrent"]).wall


def large(scene: Scene, runs: int) -> None:
    print(f"\n{scene.id}: {(scene.release / f'{scene.id}.tgz').stat().st_size / 1e6:.0f} MB .tgz")
    print("  contender                                        min     median   max       ratio to the first")
    calls = {"resolve, all steps": scene.resolve, "aria2c + sha256sum + tar xzf": scene.aria2}
    harness.show(harness.in_turn(runs, calls), "resolve, all steps")
    until = functools.partial(scene.resolve, until_verified=True)
    calls = {
        "bare libtorrent, same settings": scene.bare,
        "the same after importing trio": scene.bare_on_trio,
        "the same by magnet link and DHT": scene.bare_by_magnet,
        "resolve, steps 1-7": until,
    }
    harness.show(harness.in_turn(runs, calls), "bare libtorrent, same settings")
    scene.show_cpu()


def small(scene: Scene, runs: int) -> None:
    print(f"\n{scene.id}: {(scene.release / f'{scene.id}.tgz').stat().st_size / 1e6:.2f} MB .tgz, cold")
    calls = {"python -c 'import trio, libtorrent'": imports, "resolve, all steps": scene.resolve}
    harness.show(harness.in_turn(runs, calls), "python -c 'import trio, libtorrent'")


def memory(scene: Scene) -> None:
    line = harness.command("libreseed-resolve", scene.id, "--store", scene.fresh("store"), "--bootstrap", scene.dht)
    line += ["--publisher", harness.public_key(scene.release), "--no-silexium", "--quiet"]
    run = harness.timed(line)
    print(f"\n{scene.id}: peak resident memory of the resolver {run.peak / 1e6:.0f} MB, {run.wall:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=256, help="size of the .tgz, about")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a 1 MB release, cold")
    parser.add_argument("--memory", action="store_true", help="peak memory of a resolve of --mb")
    choice = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="libreseed-bench-") as folder:
        work = Path(folder)
        size = 1_000_000 if choice.small else choice.mb * 1_000_000
        tree = harness.make_tree(work / "tree", size, compressible=False)
        release = harness.build(tree, work / "out", "bench", work / "key")
        with harness.seeder(work / "state", "127.0.0.31", release) as status:
            scene = Scene(work, release, status)
            if choice.memory:
                memory(scene)
            elif choice.small:
                small(scene, choice.runs)
            else:
                large(scene, choice.runs)


if __name__ == "__main__":
    main()
