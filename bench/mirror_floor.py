"""What a verified download must cost: bare threads that receive, hash and write, beside curl, from the same server.

usage: mirror_floor.py [--mb 1024] [--runs 5] [--server nginx|mirror] [--tls]

Nothing of LibreSeed is at work but its packager: no process start, no records, no journal, no rules. Two threads
receive ranges of 16 MiB, hash each chunk with BLAKE3 and write; a third reads what is written, in order, for SHA-256.
What resolve_from_mirror.py takes beyond this is ours; this is the price of two hashes in Python on this machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import socket
import ssl
import statistics
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import harness
from blake3 import blake3
from resolve_from_mirror import make_certificate, server

_CHUNK, _BATCH, _RANGE = 5120, 410 * 5120, 8 * 410 * 5120


class Download:
    """One .tgz of ``size`` bytes at ``url`` into ``out``; ``spent`` are CPU seconds by what they went into."""

    def __init__(self, url: str, size: int, out: Path, tls: ssl.SSLContext | None) -> None:
        self.url, self.size, self.tls = urlsplit(url), size, tls
        self.descriptor = os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.spent = {"receive": 0.0, "BLAKE3": 0.0, "write": 0.0, "SHA-256, read again": 0.0}
        self._next = 0
        self._written: dict[int, int] = {}
        self._news = threading.Condition()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection((self.url.hostname, self.url.port))
        return self.tls.wrap_socket(sock, server_hostname=self.url.hostname) if self.tls else sock

    def _take(self) -> range:
        with self._news:
            found = range(self._next, min(self.size, self._next + _RANGE))
            self._next = found.stop
            return found

    def receive(self) -> None:
        with self._connect() as sock:
            memory = memoryview(bytearray(_BATCH))
            while span := self._take():
                fields = f"Host: {self.url.netloc}\r\nRange: bytes={span[0]}-{span[-1]}"
                sock.sendall(f"GET {self.url.path} HTTP/1.1\r\n{fields}\r\n\r\n".encode())
                head = b""
                while b"\r\n\r\n" not in head:
                    head += sock.recv(4096)
                early = head.partition(b"\r\n\r\n")[2]
                for at in range(span.start, span.stop, _BATCH):
                    self._batch(sock, memory[: min(_BATCH, span.stop - at)], early, at)
                    early = b""

    def _batch(self, sock: socket.socket, memory: memoryview, early: bytes, at: int) -> None:
        times = [time.thread_time()]
        memory[: len(early)] = early
        filled = len(early)
        while filled < len(memory):
            filled += sock.recv_into(memory[filled:])
        times.append(time.thread_time())
        hasher, found = blake3(), []
        for start in range(0, len(memory), _CHUNK):
            hasher.reset()
            hasher.update(memory[start : start + _CHUNK])
            found.append(hasher.digest())
        times.append(time.thread_time())
        os.pwrite(self.descriptor, memory, at)
        times.append(time.thread_time())
        with self._news:
            for place, name in enumerate(list(self.spent)[:3]):
                self.spent[name] += times[place + 1] - times[place]
            self._written[at] = at + len(memory)
            self._news.notify_all()

    def digest(self) -> None:
        at, sha256, memory = 0, hashlib.sha256(), memoryview(bytearray(2**20))
        while at < self.size:
            with self._news:
                while at not in self._written:
                    self._news.wait()
                end = self._written.pop(at)
            while at < end:
                count = os.preadv(self.descriptor, [memory[: end - at]], at)
                sha256.update(memory[:count])
                at += count
        self.spent["SHA-256, read again"] = time.thread_time()

    def run(self) -> float:
        began = time.perf_counter()
        threads = [threading.Thread(target=work) for work in (self.receive, self.receive, self.digest)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.close(self.descriptor)
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=1024, help="size of the .tgz, about")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--server", choices=("nginx", "mirror"), default="nginx")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("/dev/shm"), help="where everything is written")
    choice = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="libreseed-bench-", dir=choice.work) as folder:
        work, out = Path(folder), Path(folder) / "out"
        tree = harness.make_tree(work / "tree", choice.mb * 1_000_000, compressible=False)
        release = harness.build(tree, work / "releases", "bench", work / "key")
        shutil.rmtree(tree)
        certificate = make_certificate(work) if choice.tls else None
        size = (release / f"{release.name}.tgz").stat().st_size
        spent: list[dict[str, float]] = []
        with server(choice.server, work, release, certificate) as base:
            url = f"{base}/seed/{release.name}/{release.name}.tgz"
            tls = ssl.create_default_context(cafile=str(certificate[0])) if certificate else None

            def curl(_: int) -> float:
                line = ["curl", "-sf", "-o", out, url, *(["--cacert", certificate[0]] if certificate else [])]
                took = harness.timed(line).wall
                out.unlink()
                return took

            def bare(_: int) -> float:
                download = Download(url, size, out, tls)
                took = download.run()
                out.unlink()
                spent.append(download.spent)
                return took

            rows = harness.in_turn(choice.runs, {"curl -o file": curl, "bare threads, verified": bare})
        print(f"\n{size / 1e6:.0f} MB from {choice.server}{' over TLS' if choice.tls else ''}, {choice.runs} rounds")
        harness.show(rows, "curl -o file")
        print("  CPU seconds per GB: ", end="")
        print(", ".join(f"{n} {statistics.median(s[n] for s in spent) / size * 1e9:.2f}" for n in spent[0]))
        print(f"  load average now: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
