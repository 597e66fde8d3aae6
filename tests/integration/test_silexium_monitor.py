"""``libreseed-silexium monitor``: what people and cron see of it, over HTTP, from a real server, and after kill -9."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import trio

from libreseed.adapters.http.server import HttpServerOptions, serve
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.log.log_site import folder_app
from services.silexium import cli
from tests.monitor_support import PublicLog, logged, others
from tests.silexium_server_support import ORIGIN, Shop, run, starting, wait_until
from tests.silexium_support import LOG, private

pytestmark = pytest.mark.integration

THIEF = private(77)
WHICH = ("--log", LOG.name, str(LOG.key))
PROGRAM = (sys.executable, "-m", "libreseed_services.silexium.cli", "monitor")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LIBRESEED_")}


def monitor(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> list[dict[str, object]]:
    """The objects that the command prints with ``--json``."""
    capsys.readouterr()
    assert cli.main(["monitor", *map(str, arguments), "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def checkpoint(url: str) -> str:
    """What a server shows as its head."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/checkpoint", timeout=30) as answer:
        return str(answer.read().decode())


def test_an_unexpected_entry_is_told_ends_with_its_reason_and_is_not_told_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = logged("hello@1.0.0")
    known = tmp_path / "hello@1.0.0.release.json"
    known.write_bytes(mine.manifest.data)
    log = PublicLog(tmp_path).add(*others(3), mine)
    flags = (log.folder, *WHICH, "--state", tmp_path / "watch", "--package", "hello", "--expect", known)
    found, result = monitor(capsys, 0, *flags)
    assert (found["index"], found["release"], found["unexpected"], found["again"]) == (3, "hello@1.0.0", [], False)
    assert result == {"ok": True, "size": 4, "new_entries": 4, "told": 1}
    log.add(logged("hello@1.0.1", THIEF))
    found, result = monitor(capsys, 40, *flags)
    assert found["index"] == 4 and found["unexpected"]
    assert (result["reason"], result["exit"]) == ("silexium.unexpected-entry", 40)
    assert monitor(capsys, 0, *flags) == [{"ok": True, "size": 5, "new_entries": 0, "told": 0}]


def test_a_person_reads_one_line_for_each_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = PublicLog(tmp_path).add(mine := logged("hello@1.0.0"), other := logged("hello@1.0.1", THIEF))
    flags = ["--state", str(tmp_path / "watch"), "--package", "hello", "--expect", str(mine.manifest.digest)]
    assert cli.main(["monitor", str(log.folder), *WHICH, *flags]) == 40
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        f"0  hello@1.0.0  {mine.manifest.digest}",
        f"1  hello@1.0.1  {other.manifest.digest}  UNEXPECTED: its manifest is none of the known ones",
    ]
    assert "[silexium.unexpected-entry]" in told.err and "1  hello@1.0.1" in told.err


def test_what_was_found_comes_before_what_went_wrong_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A source that breaks down behind the hidden entry does not keep the exit code quiet about it."""
    log = PublicLog(tmp_path).add(logged("hello@1.0.0"), *others(9 * 256))
    (log.folder / "tile" / "bodies" / "008").unlink()
    flags = ("--state", tmp_path / "watch", "--package", "hello", "--expect", "blake3:" + "0" * 64)
    found, result = monitor(capsys, 40, log.folder, *WHICH, *flags)
    assert found["index"] == 0 and result["reason"] == "silexium.unexpected-entry"
    (result,) = monitor(capsys, 10, log.folder, *WHICH, *flags)
    assert result["reason"] == "notfound.log"


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--package", "Hello"],
        ["--package", "hello", "--everywhere"],
        ["--package", "hello", "--every", "often"],
        ["--package", "hello", "--author-key", "ed25519:AA"],
        ["--package", "hello", "--expect", "blake3:00"],
        ["--package", "hello", "--log", "another.example", str(LOG.key)],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: Sequence[str]
) -> None:
    (result,) = monitor(capsys, 2, tmp_path, *WHICH, "--state", tmp_path / "watch", *flags)
    assert result["reason"] == "usage" and not (tmp_path / "watch").exists()


def test_a_full_output_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = PublicLog(tmp_path).add(logged("hello@1.0.0"))
    flags = (str(log.folder), *WHICH, "--state", str(tmp_path / "watch"), "--package", "hello")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *flags], stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=60, check=False
        )
    assert done.returncode == 50 and b"[storage.output]" in done.stderr and b"Traceback" not in done.stderr
    found, _ = monitor(capsys, 0, *flags)
    assert (found["index"], found["again"]) == (0, True)


async def test_it_follows_a_log_over_http_until_a_signal(tmp_path: Path) -> None:
    log = PublicLog(tmp_path).add(*others(2), logged("hello@1.0.0"))
    async with trio.open_nursery() as nursery:
        options = HttpServerOptions(host="127.0.0.81", grace_seconds=0.1)
        (url,) = await nursery.start(partial(serve, folder_app(LogFolder(log.folder)), options))
        flags = ("--state", str(tmp_path / "watch"), "--package", "hello", "--every", "0.2", "--json")
        process = await trio.lowlevel.open_process(
            [*PROGRAM, url, *WHICH, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
        assert process.stdout is not None and process.stderr is not None
        with trio.fail_after(60):
            assert json.loads(await process.stdout.receive_some())["index"] == 2
            await trio.to_thread.run_sync(log.add, logged("hello@1.1.0"), logged("hello@1.0.0", THIEF))
            lines = b""
            while lines.count(b"\n") < 2:
                lines += await process.stdout.receive_some()
            assert [json.loads(line)["index"] for line in lines.splitlines()] == [3, 4]
            process.terminate()
            assert await process.wait() == 40  # a second entry for hello@1.0.0
            assert b"Traceback" not in await process.stderr.receive_some()
        await process.stdout.aclose()
        await process.stderr.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.slow
def test_kill_9_at_random_moments_skips_nothing_and_repeats_nothing_unsaid(tmp_path: Path) -> None:
    draw = random.Random(11)
    log, places = PublicLog(tmp_path, bundles=False), []
    entries: list[bytes] = []
    for number, other in enumerate(others(9000)):
        if number % 90 == 0:
            places.append(len(entries))
            entries.append(logged(f"hello@1.0.{number}").entry.data)
        entries.append(other)
    log.add(*entries)
    flags = (str(log.folder), *WHICH, "--state", str(tmp_path / "watch"), "--package", "hello", "--json")
    told: list[dict[str, object]] = []
    kills = interrupted = 0
    while True:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
        process = subprocess.Popen([*PROGRAM, *flags], env=ENVIRONMENT, **pipes)
        assert process.stdout is not None
        lines: list[bytes] = []
        if kills < 12 and kills % 2:  # while it tells
            lines += [process.stdout.readline() for _ in range(draw.randrange(1, 15))]
            process.kill()
        try:
            out, err = process.communicate(timeout=240 if kills >= 12 or kills % 2 else draw.uniform(0.2, 0.8))
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate(timeout=60)
        lines += out.splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.endswith(b"\n")]
        told += (entries_told := [line for line in found if "index" in line])
        if process.returncode == -9:
            kills += 1
            interrupted += bool(entries_told)
            continue
        assert process.returncode == 0, err
        if told:
            break
    indices = [line["index"] for line in told if not line["again"]]
    assert interrupted and {line["index"] for line in told} == set(places)
    assert len(indices) == len(set(indices))


@pytest.mark.slow
def test_a_release_that_a_real_server_took_from_somebody_else_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server trusts another author for my package: it logs his release and tells me nothing."""
    shop = Shop.make(tmp_path / "shop")
    places = [shop.attested("hello@1.0.0")]
    thief = run("key", "new", "--out", shop.root / "thief.key", "--no-passphrase")["pubkey"]
    run("key", "trust", thief, "--role", "author", "--config", shop.server)
    mine, shop.keys["author"] = shop.keys["author"], type(shop.keys["author"]).parse(thief)
    (shop.root / "thief.key").rename(shop.key("author"))
    places.append(shop.attested("hello@1.0.1"))
    with starting(shop) as server:
        for place in places:
            shop.ingest(place)
        wait_until(shop, ["hello@1.0.0", "hello@1.0.1"])
        key = shop.site().log_identity().key
        deadline = time.monotonic() + 60
        while checkpoint(server.url).splitlines()[1] != "2":
            assert time.monotonic() < deadline, "the new head is served within a second"
            time.sleep(0.1)
        flags = (server.url, "--log", ORIGIN, key, "--state", tmp_path / "watch", "--package", "hello")
        *found, result = monitor(capsys, 40, *flags, "--author-key", mine)
    told = {line["release"]: (line["author"], bool(line["unexpected"])) for line in found}
    assert told == {"hello@1.0.0": (str(mine), False), "hello@1.0.1": (None, True)}
    assert result["reason"] == "silexium.unexpected-entry"
