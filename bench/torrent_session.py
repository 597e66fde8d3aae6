"""Our torrent session against bare libtorrent on loopback: throughput, cold start, memory.

usage: torrent_session.py [--runs N] [--large MB]     (as a child: torrent_session.py seed|ours|bare|plain FOLDER ...)

Every download is a process of its own and so is the seed, which is our session in all cases but one: "plain" downloads
from a seed with libtorrent's default settings with a client that has them too. "bare" is libtorrent without trio and
without our session, with our settings, told the peer when the torrent is added. Times begin when the torrent is added
and end with the last piece that is reported; interpreter start and imports are not in them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libtorrent as lt
import trio

from libreseed.adapters.torrent.events import PieceDone
from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.settings import SessionOptions, session_settings
from libreseed.ids import ReleaseId, TorrentV2Hash

RELEASE = ReleaseId.parse("bench@1.0.0")
QUIET = {"enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False}


def make(folder: Path, size: int) -> None:
    """A release-shaped folder with ``size`` random bytes as .tgz, and its torrent."""
    root = folder / str(RELEASE)
    root.mkdir(parents=True)
    entries = []
    for suffix, length in ((".chunks", 80 + size // 150), (".parity", size // 20 + 1), (".tgz", size)):
        with (root / f"{RELEASE}{suffix}").open("wb") as out:
            for start in range(0, length, 2**24):
                out.write(os.urandom(min(2**24, length - start)))
        entries.append(lt.create_file_entry(f"{RELEASE}/{RELEASE}{suffix}", length))
    piece = min(max(2**14, 1 << max(0, -(-size // 1024) - 1).bit_length()), 2**22)
    maker = lt.create_torrent(entries, piece)
    lt.set_piece_hashes(maker, str(folder))
    (folder / "it.torrent").write_bytes(lt.bencode(maker.generate()))


# --- children --------------------------------------------------------------------------------------------------------
async def seed(folder: Path) -> None:
    session = TorrentSession()
    async with trio.open_nursery() as nursery:
        await nursery.start(session.run)
        session.seed((folder / "it.torrent").read_bytes(), folder / str(RELEASE))
        print(session.port, flush=True)


def plain_seed(folder: Path) -> None:
    session = lt.session({**QUIET, "listen_interfaces": "127.0.0.1:0"})
    params = lt.load_torrent_file(str(folder / "it.torrent"))
    params.save_path = str(folder)
    handle = session.add_torrent(params)
    while not handle.status().is_seeding:
        time.sleep(0.05)
    print(session.listen_port(), flush=True)
    time.sleep(3600)


async def ours(folder: Path, port: int, target: Path) -> None:
    params = lt.load_torrent_file(str(folder / "it.torrent"))
    v2, count = TorrentV2Hash(params.info_hashes.v2.to_bytes()), params.ti.num_pieces()
    session = TorrentSession(SessionOptions(listen=(("127.0.0.2", 0),)))
    async with trio.open_nursery() as nursery:
        await nursery.start(session.run)
        begin = time.perf_counter()
        torrent = session.fetch(v2, RELEASE, target, peers=[("127.0.0.1", port)])
        await torrent.want([4] * count)
        done, first = 0, 0.0
        while done < count:
            for event in await torrent.events.receive_batch():
                if isinstance(event, PieceDone):
                    done += 1
                    first = first or time.perf_counter() - begin
        report(first, time.perf_counter() - begin)
        nursery.cancel_scope.cancel()


def bare(folder: Path, port: int, target: Path, *, tuned: bool) -> None:
    settings = session_settings(SessionOptions(listen=(("127.0.0.2", 0),))) if tuned else dict(QUIET)
    kind = lt.alert.category_t
    mask = kind.error_notification | kind.status_notification | kind.piece_progress_notification
    session = lt.session({**settings, "listen_interfaces": "127.0.0.2:0", "alert_mask": int(mask)})
    while not any(isinstance(alert, lt.listen_succeeded_alert) for alert in session.pop_alerts()):
        session.wait_for_alert(1000)
    params = lt.load_torrent_file(str(folder / "it.torrent"))
    params.save_path = str(target)
    params.peers = [("127.0.0.1", port)]
    params.flags = lt.torrent_flags.no_verify_files
    begin, first = time.perf_counter(), 0.0
    session.add_torrent(params)
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.piece_finished_alert):
                first = first or time.perf_counter() - begin
            elif isinstance(alert, lt.torrent_finished_alert):
                report(first, time.perf_counter() - begin)
                return


def report(first: float, total: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"first": first, "total": total, "peak_mb": peak}), flush=True)


# --- the comparison --------------------------------------------------------------------------------------------------
@contextmanager
def seeding(kind: str, folder: Path) -> Iterator[int]:
    child = subprocess.Popen([sys.executable, __file__, kind, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield int(child.stdout.readline())
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


def download(kind: str, folder: Path, port: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as target:
        command = [sys.executable, __file__, kind, str(folder), str(port), target]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


def compare(name: str, folder: Path, size: int, runs: int, contenders: tuple[str, ...]) -> None:
    print(f"{name}: {size / 1e6:.0f} MB, median of {runs}")
    with seeding("seed", folder) as port:
        rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in contenders}
        for run in range(-1, runs):
            for kind in contenders:
                row = download(kind, folder, port)
                if run >= 0:
                    rows[kind].append(row)
    for kind, found in rows.items():
        total = statistics.median(row["total"] for row in found)
        ratio = statistics.median(a["total"] / b["total"] for a, b in zip(found, rows["bare"], strict=True))
        print(
            f"  {kind:<6} {total * 1000:8.1f} ms (worst {max(row['total'] for row in found) * 1000:.1f})"
            f"  {size / total / 1e6:7.0f} MB/s   {ratio:5.2f} x bare"
            f"   first piece {statistics.median(row['first'] for row in found) * 1000:6.1f} ms"
            f"   peak memory {max(row['peak_mb'] for row in found):4.0f} MB",
            flush=True,
        )


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in {"seed", "plain-seed", "ours", "bare", "plain"}:
        return child(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--large", type=int, default=1024, help="MB of the large package; 0 leaves it out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        for name, size, runs in (
            ("throughput", 256 * 2**20, options.runs),
            ("cold start", 10**6, 3 * options.runs),
            ("memory", options.large * 2**20, 2),
        ):
            if size:
                folder = Path(parent) / name.replace(" ", "-")
                make(folder, size)
                compare(name, folder, size, runs, ("bare", "ours"))
        folder = Path(parent) / "throughput"
        with seeding("plain-seed", folder) as port:
            seconds = download("plain", folder, port)["total"]
        print(f"libtorrent with its default settings on both sides, one run: {256 * 2**20 / seconds / 1e6:.0f} MB/s")
    return None


def child(kind: str, folder: Path, port: str = "0", target: str = ".") -> None:
    if kind == "seed":
        trio.run(seed, folder)
    elif kind == "plain-seed":
        plain_seed(folder)
    elif kind == "ours":
        trio.run(ours, folder, int(port), Path(target))
    else:
        bare(folder, int(port), Path(target), tuned=kind == "bare")


if __name__ == "__main__":
    main()
