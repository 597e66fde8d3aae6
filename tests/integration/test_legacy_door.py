"""Clients that compute another info-hash of a hybrid torrent are led to the session; everybody else is sent away."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from libreseed import bencode
from libreseed.adapters.torrent.legacy_door import LegacyDoor
from libreseed.torrent.legacy import hash_without_empty_names
from tests.tools import require_program
from tests.torrent_support import RELEASE, Sample, make_sample, session, tracker_for

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("door"))


def _legacy(sample: Sample) -> bytes:
    return hash_without_empty_names(bencode.encode(bencode.decode(sample.metainfo, max_bytes=10**8)[b"info"]))


@asynccontextmanager
async def _door(sample: Sample) -> AsyncIterator[LegacyDoor]:
    async with session("127.0.0.1") as seeder, trio.open_nursery() as nursery:
        seeder.seed(sample.metainfo, sample.folder)
        door = LegacyDoor(("127.0.0.1", seeder.port), hosts=["127.0.0.1"])
        door.admit(_legacy(sample), sample.v1)
        await nursery.start(door.run)
        yield door
        nursery.cancel_scope.cancel()


async def test_aria2_downloads_through_the_door(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "it.torrent").write_bytes(sample.metainfo)
    async with _door(sample) as door, tracker_for([("127.0.0.1", door.port)]) as announce:
        command = [
            require_program("aria2c"),
            "--no-conf",
            "--seed-time=0",
            f"--dir={tmp_path / 'out'}",
            "--enable-dht=false",
        ]
        command += ["--bt-enable-lpd=false", "--enable-peer-exchange=false", f"--bt-tracker={announce}"]
        command += ["--interface=127.0.0.5", "--listen-port=51000-59000", str(tmp_path / "it.torrent")]
        with trio.fail_after(60):
            result = await trio.run_process(command, capture_stdout=True, check=False)
        assert result.returncode == 0, result.stdout.decode()
    for suffix in (".chunks", ".parity", ".tgz"):
        got = tmp_path / "out" / str(RELEASE) / f"{RELEASE}{suffix}"
        assert got.read_bytes() == sample.file(suffix).read_bytes()


def _handshake(info_hash: bytes) -> bytes:
    return b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-XX0000-abcdefghijkl"


@pytest.mark.parametrize("knock", ["unknown", "right", "encrypted", "cut"])
async def test_other_callers_are_sent_away(sample: Sample, knock: str) -> None:
    words = {
        "unknown": _handshake(bytes(20)),
        "right": _handshake(sample.v1),  # whoever knows it needs no second door
        "encrypted": bytes(range(96)),
        "cut": _handshake(_legacy(sample))[:40],
    }
    async with _door(sample) as door:
        caller = await trio.open_tcp_stream("127.0.0.1", door.port)
        async with caller:
            await caller.send_all(words[knock])
            if knock == "cut":
                await caller.send_eof()
            with trio.fail_after(30):
                with contextlib.suppress(trio.BrokenResourceError):  # reset, because it sent more than was read
                    assert await caller.receive_some(100) == b""


async def test_a_caller_gets_the_hash_that_it_asked_for_and_a_dismissed_one_nothing(sample: Sample) -> None:
    legacy = _legacy(sample)
    async with _door(sample) as door:
        for admitted in (True, False):
            if not admitted:
                door.dismiss(legacy)
            caller = await trio.open_tcp_stream("127.0.0.1", door.port)
            async with caller:
                await caller.send_all(_handshake(legacy))
                answer = b""
                with trio.fail_after(30):
                    while len(answer) < 68 and (more := await caller.receive_some(68 - len(answer))):
                        answer += more
                assert answer[28:48] == (legacy if admitted else b"")
