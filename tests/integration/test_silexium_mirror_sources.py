"""A mirror and its source: servers that are asked too often, that are slow, that fail, and a person who has enough."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from libreseed.adapters.http.server import HttpServerOptions, serve
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.log.log_site import folder_app
from libreseed.errors import TransportFault
from services.silexium.log_source import get, get_all
from tests.log_support import exported
from tests.silexium_support import LOG

pytestmark = pytest.mark.integration


class Busy:
    """A source that refuses ``times`` requests before it answers each path."""

    name = "busy"

    def __init__(self, times: int, reason: str = "http.status", status: int = 429) -> None:
        self.times = times
        self.fault = TransportFault(reason, "wait", evidence={"status": status})
        self.asked: list[str] = []

    async def get(self, path: str, most: int) -> bytes | None:
        self.asked.append(path)
        if self.asked.count(path) <= self.times:
            raise self.fault
        return path.encode()


@pytest.mark.parametrize(("reason", "status"), [("http.status", 429), ("http.status", 503), ("http.timeout", 0)])
async def test_a_busy_source_is_given_time(autojump_clock: trio.testing.MockClock, reason: str, status: int) -> None:
    source = Busy(3, reason, status)
    assert await get(source, "a", 10) == b"a"
    assert trio.current_time() == pytest.approx(7.0)
    assert await get_all(Busy(2), ["a", "b", "c"], 10) == [b"a", b"b", b"c"]


async def test_a_source_that_stays_busy_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(TransportFault):
        await get(Busy(99), "a", 10)


@pytest.mark.parametrize(("reason", "status"), [("http.status", 500), ("http.too-large", 0), ("http.unreachable", 0)])
async def test_what_waiting_does_not_heal_is_told_at_once(reason: str, status: int) -> None:
    source = Busy(1, reason, status)
    with pytest.raises(TransportFault) as error:
        await get_all(source, ["a", "b"], 10)
    assert error.value is source.fault and len(source.asked) <= 2


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
async def test_who_interrupts_a_mirror_gets_a_clean_end_and_can_go_on(tmp_path: Path, number: signal.Signals) -> None:
    """The source stops answering in the middle; the person does not wait for it."""
    folder = LogFolder(exported(tmp_path / "log", [300]))
    site, stuck = folder_app(folder), trio.Event()

    async def half(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["path"].startswith("/tile/bodies"):
            stuck.set()
            await trio.sleep_forever()
        await site(scope, receive, send)

    line = [sys.executable, "-m", "libreseed_services.silexium.cli", "mirror"]
    line_of = lambda url: [*line, url, "--out", str(tmp_path / "m"), "--log", LOG.name, str(LOG.key)]  # noqa: E731
    async with trio.open_nursery() as nursery:
        options = HttpServerOptions(host="127.0.0.78", grace_seconds=0.1)
        (url,) = await nursery.start(partial(serve, half, options))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LIBRESEED_")}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
        process = await trio.lowlevel.open_process(line_of(url), **pipes)
        with trio.fail_after(60):
            await stuck.wait()
            process.send_signal(number)
            assert await process.wait() == 130
        assert process.stderr is not None and b"Traceback" not in await process.stderr.receive_some()
        await process.stdout.aclose()
        await process.stderr.aclose()
        assert LogFolder(tmp_path / "m").checkpoint() is None
        (whole,) = await nursery.start(partial(serve, site, HttpServerOptions(host="127.0.0.79")))
        done = await trio.run_process(line_of(whole), capture_stdout=True, capture_stderr=True, env=environment)
        assert b"300 entries, 300 of them new" in done.stdout
        nursery.cancel_scope.cancel()
