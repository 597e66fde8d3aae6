"""The mirror beside nginx: the same .tgz by both, fetched by curl in turn, in the clear and over TLS.

    .venv/bin/python bench/mirror_vs_nginx.py [MB] [ROUNDS]

nginx serves an export by contrib/nginx/libreseed-mirror.conf, with one worker, as the mirror has one process. Both
verify nothing while they send: the mirror has judged its copy before (docs/specification/mirror.md, 3). curl's side
costs the same for both. What is printed: seconds, and the median of the ratios within each round; goal: at most 4.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.harness import command, in_turn, show, timed
from tests.http_support import make_tls
from tests.integration.http.test_mirror_export import nginx
from tests.mirror_daemon_support import curl, mirror_process
from tests.seeder_support import make_release


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    work = Path(tempfile.mkdtemp(prefix="libreseed-bench-mirror-"))
    try:
        _run(work, megabytes * 10**6, rounds)
    finally:
        shutil.rmtree(work)


def _run(work: Path, size: int, rounds: int) -> None:
    release = make_release(work, "bench", "1.0.0", size=size)
    store, www = release.parent, work / "www"
    timed([*command("libreseed-mirror"), "export", www, "--store", store, "--no-parts", "--no-zip", "--quiet"])
    tls = make_tls(work / "tls")
    secure = ("--cert", str(tls.certfile), "--key", str(tls.keyfile))
    second = work / "second"  # a daemon locks its store
    second.mkdir()
    shutil.copytree(release, second / release.name)
    with (
        nginx(www, work / "nginx") as plain,
        nginx(www, work / "nginx-tls", tls) as other,
        mirror_process(store) as ours,
        mirror_process(second, *secure) as ours_tls,
    ):
        path, trust = "/packages/bench@1.0.0", ["--cacert", str(tls.certfile)]
        for url in (f"{ours.url}{path}", f"{ours_tls.url}{path}"):
            while not _is_ready(url, trust):
                time.sleep(0.5)
        print(f"{size / 1e6:.0f} MB by curl, {rounds} rounds: least, median, most; ratio to nginx")
        for title, base, mine, flags in (
            ("HTTP/1.1", plain, ours.url, ["--http1.1"]),
            ("HTTP/1.1, TLS", other, ours_tls.url, ["--http1.1", *trust]),
            ("HTTP/2, TLS", other, ours_tls.url, ["--http2", *trust]),
        ):
            contenders = {
                f"nginx   {title}": lambda _, url=base, flags=flags: _fetch(url + path, flags),
                f"mirror  {title}": lambda _, url=mine, flags=flags: _fetch(url + path, flags),
            }
            show(in_turn(rounds, contenders), f"nginx   {title}")


def _is_ready(url: str, trust: list[str]) -> bool:
    try:
        return len(curl(*trust, "--range", "0-9", url)) == 10
    except subprocess.CalledProcessError:
        return False


def _fetch(url: str, flags: list[str]) -> float:
    return timed(["curl", "--silent", "--fail", "--output", "/dev/null", *flags, url]).wall


if __name__ == "__main__":
    random.seed(1)
    main()
