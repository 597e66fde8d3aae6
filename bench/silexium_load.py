"""200 concurrent /install requests for a minute, while malformed, oversized and slow requests run beside them.

    python bench/silexium_load.py [--connections 200] [--seconds 60] [--releases 20]

Needs wrk. The server is a process of its own over a database with embedded authorities. Every answer to wrk must be a
200; the hostile clients must each time get the refusal that the specification says. Printed are requests per second,
latencies, and the server's memory before, at the end and at most.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.silexium_server_support import Shop, starting, wait_until

SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
local bodies = { %s }
local at = 0
request = function()
  at = at %% #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format("RESULT %%d %%d %%d %%d %%d %%d", summary.requests, e.connect, e.read, e.write, e.status,
    e.timeout))
  print(string.format("LATENCY %%d %%d %%d %%d", latency:percentile(50), latency:percentile(90),
    latency:percentile(99), latency.max))
end
"""


@dataclass
class Hostile:
    """Counts what the hostile clients got."""

    address: tuple[str, int]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(self.repeat, "malformed", b'{"package":')
                nursery.start_soon(self.repeat, "not found", b'{"package":"none","os":"linux","arch":"x86_64"}')
                nursery.start_soon(self.repeat, "oversized", b" " * 100_000)
            for _ in range(50):
                nursery.start_soon(self.slow)

    async def repeat(self, kind: str, body: bytes) -> None:
        head = "POST /install HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        while True:
            self.answers[kind, await self.ask(head.encode() + body)] += 1
            await trio.sleep(0.02)

    async def slow(self) -> None:
        """One byte of a request's head per second: the server ends it."""
        while True:
            try:
                stream = await trio.open_tcp_stream(*self.address)
                async with stream:
                    for byte in b"POST /install HTTP/1.1\r\nhost: x\r\nx-slow: " + b"a" * 300:
                        await stream.send_all(bytes([byte]))
                        await trio.sleep(1)
            except (trio.BrokenResourceError, OSError):
                self.answers["slow", 0] += 1

    async def ask(self, request: bytes) -> int:
        try:
            stream = await trio.open_tcp_stream(*self.address)
            async with stream:
                with trio.move_on_after(0.01):  # the server may answer, and close, before all is sent
                    await stream.send_all(request)
                answer = await stream.receive_some(64)
        except (trio.BrokenResourceError, OSError):
            return 0
        match = re.match(rb"HTTP/1.1 ([0-9]{3})", answer)
        return int(match[1]) if match else 0


async def memory(process: psutil.Process, seen: list[int]) -> None:
    while True:
        seen.append(process.memory_info().rss)
        await trio.sleep(0.5)


async def storm(url: str, script: Path, server: psutil.Process, connections: int, seconds: int) -> None:
    parts = urlsplit(url)
    hostile, seen = Hostile((parts.hostname or "", parts.port or 0)), [server.memory_info().rss]
    before = server.cpu_times()
    line = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), f"{url}/install"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hostile.run)
        nursery.start_soon(memory, server, seen)
        result = await trio.run_process(line, capture_stdout=True)
        nursery.cancel_scope.cancel()
    text = result.stdout.decode()
    print(text)
    counts = [int(number) for number in re.search(r"RESULT (.*)", text)[1].split()]
    latency = [int(number) / 1000 for number in re.search(r"LATENCY (.*)", text)[1].split()]
    print(f"{counts[0]} answers, {counts[0] / seconds:.0f}/s, errors {sum(counts[1:])}")
    after = server.cpu_times()
    spent = after.user + after.system - before.user - before.system
    each = spent / (counts[0] + sum(hostile.answers.values()))
    print(f"server's CPU: {spent:.1f} s, {1000 * each:.2f} ms per answer")
    print("latency p50 {:.0f} ms, p90 {:.0f} ms, p99 {:.0f} ms, most {:.0f} ms".format(*latency))
    print(f"memory before {seen[0] >> 20} MiB, at the end {seen[-1] >> 20} MiB, most {max(seen) >> 20} MiB")
    print("hostile clients:", {f"{kind} {status}": count for (kind, status), count in sorted(hostile.answers.items())})
    assert sum(counts[1:]) == 0, "there were errors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--releases", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="silexium-load-") as folder:
        shop = Shop.make(Path(folder) / "shop")
        releases = [f"hello@1.0.{number}" for number in range(arguments.releases)]
        for release in releases:
            shop.ingest(shop.attested(release))
        asked = [
            {"package": "hello", "os": "linux", "arch": "x86_64", "version": one.partition("@")[2]} for one in releases
        ]
        asked.append({"package": "hello", "os": "linux", "arch": "x86_64"})
        with starting(shop) as server:
            wait_until(shop, releases)
            with urllib.request.urlopen(f"{server.url}/health", timeout=10) as answer:
                assert json.loads(answer.read())["status"] == "ok"
            script = Path(folder) / "post.lua"
            script.write_text(SCRIPT % ", ".join(f"[=[{json.dumps(one)}]=]" for one in asked))
            process = psutil.Process(server.process.pid)
            trio.run(storm, server.url, script, process, arguments.connections, arguments.seconds)
            assert server.stop() == 0
            log = server.text()
            assert "Traceback" not in log, log


if __name__ == "__main__":
    main()
