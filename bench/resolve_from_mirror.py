"""Resolve from one mirror beside curl, from the same server, in alternating rounds.

usage: resolve_from_mirror.py [--mb 256] [--runs 5] [--server nginx|mirror] [--tls] [--line MBIT]

curl writes the .tgz to a file and verifies nothing. The resolver starts cold: empty store, no DHT, the publisher's key;
every chunk and signature and the whole SHA-256 are verified. Three of its times are shown: steps 1 to 7 as its report
says (the .tgz is on the disk and verified), the same with the start of the process, and the whole with extraction. The
page cache is warm for all; everything is written below one folder, by default in /dev/shm so that no disk is measured.
Without ``--line`` the bytes come as fast as memory gives them, and what is compared is processor time; with it, both
share a loopback of a network namespace of its own (unshare, ip, tc) that carries so many Mbit/s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import harness

_HOST = "127.0.0.41"
_CURL, _WHOLE = "curl -o file", "resolve, all steps"
_REPORTED, _STARTED = "resolve, steps 1-7 as reported", "resolve, process start to step 7"
_NGINX = """\
{user}daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;
  client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4;
  scgi_temp_path {work}/t5;
  server {{ listen {host}:{port}{ssl}; root {work}/www; {certificate} }}
}}
"""


def lay_out(release: Path, www: Path) -> None:
    """The paths of a mirror (docs/specification/mirror.md) as plain files."""
    packages, seed = www / "packages" / release.name, www / "seed" / release.name
    packages.mkdir(parents=True)
    seed.mkdir(parents=True)
    for name, suffix in (("minimal.json", ".minimal.json"), ("torrent", ".torrent"), ("chunks", ".chunks")):
        shutil.copy(release / f"{release.name}{suffix}", packages / name)
    for suffix in (".tgz", ".parity"):
        shutil.copy(release / f"{release.name}{suffix}", seed)


def make_certificate(work: Path) -> tuple[Path, Path]:
    key, certificate = work / "key.pem", work / "cert.pem"
    line = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    line += ["-subj", "/CN=bench", "-addext", f"subjectAltName=IP:{_HOST}", "-keyout", key, "-out", certificate]
    subprocess.run([str(part) for part in line], check=True, capture_output=True)
    return certificate, key


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(kind: str, work: Path, release: Path, tls: tuple[Path, Path] | None) -> Iterator[str]:
    port = free_port()
    if kind == "nginx":
        lay_out(release, work / "www")
        certificate = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]};" if tls else ""
        user = "user root; " if os.geteuid() == 0 else ""  # the folder is this user's alone
        text = _NGINX.format(
            user=user, work=work, host=_HOST, port=port, ssl=" ssl" if tls else "", certificate=certificate
        )
        (work / "nginx.conf").write_text(text)
        line: list[object] = ["nginx", "-p", work, "-c", work / "nginx.conf"]
    else:
        line = harness.command("libreseed-mirror", "serve", "--store", release.parent, "--listen", f"{_HOST}:{port}")
        line += ["--cert", tls[0], "--key", tls[1]] if tls else []
    url = f"{'https' if tls else 'http'}://{_HOST}:{port}"
    daemon = subprocess.Popen([str(part) for part in line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        probe = ["curl", "-sfk", "-o", "/dev/null", f"{url}/packages/{release.name}/minimal.json"]
        for _ in range(300):
            if subprocess.run(probe, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise SystemExit("the server did not start")
        yield url
    finally:
        daemon.terminate()
        daemon.wait(30)


class Scene:
    def __init__(self, work: Path, release: Path, url: str, ca: Path | None) -> None:
        self.work, self.release, self.url, self.ca = work, release, url, ca
        self.rows: dict[str, list[float]] = {}

    def note(self, name: str, seconds: float) -> None:
        self.rows.setdefault(name, []).append(seconds)

    def curl(self) -> None:
        out = self.work / "curl.out"
        line = ["curl", "-sf", "-o", out, f"{self.url}/seed/{self.release.name}/{self.release.name}.tgz"]
        self.note(_CURL, harness.timed([*line, *(["--cacert", self.ca] if self.ca else [])]).wall)
        out.unlink()

    def resolve(self) -> None:
        store, out = self.work / "store", self.work / "out.json"
        line = harness.command("libreseed-resolve", self.release.name, "--store", store, "--mirror", self.url)
        line += ["--bootstrap", "none", "--publisher", harness.public_key(self.release), "--no-silexium", "--json"]
        line += ["--ca-file", self.ca] if self.ca else []
        said: list[str] = []
        verified = 0.0
        with out.open("wb") as sink:
            started = time.perf_counter()
            process = subprocess.Popen([str(p) for p in line], stdout=sink, stderr=subprocess.PIPE, text=True)
            assert process.stderr is not None
            for text in process.stderr:
                said.append(text)
                if text.startswith("fetching:") and text.rstrip().endswith("done"):  # step 7 has just been taken
                    verified = time.perf_counter() - started
            failed = process.wait()
            wall = time.perf_counter() - started
        if failed or not verified:
            raise SystemExit(f"resolve: exit {failed}: {''.join(said)[-600:]} {out.read_text()[-600:]}")
        steps = json.loads(out.read_text())["steps"]
        self.note(_REPORTED, sum(float(step["seconds"]) for step in steps if step["step"] <= 7))
        self.note(_STARTED, verified)
        self.note(_WHOLE, wall)
        shutil.rmtree(store)


def enter_line(mbit: int) -> None:
    """Begin anew in a network of its own, whose loopback carries ``mbit`` Mbit/s."""
    shaped = f"tc qdisc add dev lo root tbf rate {mbit}mbit burst 256kb latency 200ms"
    line = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    line += ["sh", "-ec", f'ip link set lo up; {shaped}; exec "$@"', "sh", sys.executable, *sys.argv, "--on-line"]
    os.execvp(line[0], line)


def report(scene: Scene, title: str) -> None:
    print(f"\n{title}")
    print("  contender                                        min     median   max       ratio to curl's time")
    harness.show(scene.rows, _CURL)
    for name in (_REPORTED, _STARTED, _WHOLE):
        speeds = [curl / mine for curl, mine in zip(scene.rows[_CURL], scene.rows[name], strict=True)]
        middle = statistics.median(speeds)
        print(f"  speed of {name[9:]} against curl's: {middle:.2f}  [{min(speeds):.2f} .. {max(speeds):.2f}]")
    print(f"  load average now: {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=256, help="size of the .tgz, about")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--server", choices=("nginx", "mirror"), default="nginx")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("/dev/shm"), help="where everything is written")
    parser.add_argument("--line", type=int, metavar="MBIT", help="what the network carries; default: no bound")
    parser.add_argument("--on-line", action="store_true", help=argparse.SUPPRESS)
    choice = parser.parse_args()
    if choice.line and not choice.on_line:
        enter_line(choice.line)
    with tempfile.TemporaryDirectory(prefix="libreseed-bench-", dir=choice.work) as folder:
        work = Path(folder)
        tree = harness.make_tree(work / "tree", choice.mb * 1_000_000, compressible=False)
        release = harness.build(tree, work / "releases", "bench", work / "key")
        shutil.rmtree(tree)
        tls = make_certificate(work) if choice.tls else None
        with server(choice.server, work, release, tls) as url:
            scene = Scene(work, release, url, tls[0] if tls else None)
            for run in range(choice.runs + 1):
                scene.curl()
                scene.resolve()
                if run == 0:
                    scene.rows.clear()
            size = (release / f"{release.name}.tgz").stat().st_size
            way = f"{' over TLS' if tls else ''}{f', a line of {choice.line} Mbit/s' if choice.line else ''}"
            report(scene, f"{size / 1e6:.0f} MB from {choice.server}{way}, {choice.runs} rounds")


if __name__ == "__main__":
    main()
