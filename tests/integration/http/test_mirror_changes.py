"""Files of a release that change, come or go under a running mirror: each is judged before it is given, and only then.

Whoever can write into the store, and a sync beside the daemon, change files at any time. What nobody judged is never
sent, nothing outside of the store is, and no request makes the mirror read a copy again for nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from libreseed import limits
from libreseed.adapters.http.client import HttpAnswer, HttpClient
from services.mirror.judging import Rules
from tests.mirror_daemon_support import Mirror, big_release, mirror
from tests.proof_support import settled_draft
from tests.resolver_support import make_sample
from tests.seeder_support import flip

pytestmark = pytest.mark.integration
MOST = 10**8
R = "/packages/hello@1.0.0"


async def _get(client: HttpClient, site: Mirror, path: str) -> HttpAnswer:
    return await client.get(site.url + path, most=MOST)


def _refusal(answer: HttpAnswer, status: int, reason: str, store: Path) -> None:
    """A problem document with this reason, which says nothing about where the store is."""
    assert (answer.status, answer.json()["reason"]) == (status, reason)
    assert str(store) not in answer.body.decode()


async def test_a_link_in_the_place_of_a_document_gives_nothing_from_elsewhere(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=50_000)
    record = files.path(".dht.json")
    (tmp_path / "secret").write_bytes(b"outside of the store")
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        assert (await _get(client, site, f"{R}/dht.json")).require(200).body == record.read_bytes()
        record.unlink()
        record.symlink_to(tmp_path / "secret")
        _refusal(await _get(client, site, f"{R}/dht.json"), 404, "mirror.absent", tmp_path)
        assert (await _get(client, site, R)).status == 200


@pytest.mark.parametrize("what", ["tampered", "gone", "folder", "pipe", "empty"])
async def test_a_document_that_nobody_judged_is_not_given(tmp_path: Path, what: str) -> None:
    files = big_release(tmp_path / "store", size=50_000)
    record = files.path(".dht.json")
    good = record.read_bytes()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        (await _get(client, site, f"{R}/dht.json")).require(200)
        record.unlink()
        if what == "folder":
            record.mkdir()
        elif what == "pipe":
            os.mkfifo(record)
        elif what != "gone":
            record.write_bytes(good.replace(b'"seq":', b'"seq":1') if what == "tampered" else b"")
        for _ in range(2):
            _refusal(await _get(client, site, f"{R}/dht.json"), 404, "mirror.absent", tmp_path)
        judged = site.library.judged
        assert judged <= 2  # at the start, and for the change
        if what in ("folder", "pipe"):
            return
        record.write_bytes(good)
        assert (await _get(client, site, f"{R}/dht.json")).require(200).body == good
        assert site.library.judged == judged + 1


async def test_a_torrent_that_was_replaced_is_not_given_of_a_damaged_copy(tmp_path: Path) -> None:
    """Of a whole one it would be made anew."""
    files = big_release(tmp_path / "store")
    flip(files.tgz, *(chunk * 5120 for chunk in range(100, 140)))
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        good = (await _get(client, site, f"{R}/torrent")).require(200).body
        files.path(".torrent").write_bytes(b"d4:infod6:lengthi5eee")
        _refusal(await _get(client, site, f"{R}/torrent"), 404, "mirror.absent", tmp_path)
        files.path(".torrent").write_bytes(good)
        assert (await _get(client, site, f"{R}/torrent")).require(200).body == good


async def test_a_bundle_that_comes_later_is_found_by_the_request_for_it(tmp_path: Path) -> None:
    """A release is logged after it is built: its proofs come when it is mirrored already."""
    sample = make_sample(tmp_path, 100_000)
    path = f"/packages/{sample.minimal.release}/silexium.json"
    async with mirror(tmp_path / "out") as site, HttpClient() as client:
        _refusal(await _get(client, site, path), 404, "mirror.absent", tmp_path)
        bundle = settled_draft(sample).bundle().data
        sample.files.path(".silexium.json").write_bytes(bundle)
        assert (await _get(client, site, path)).require(200).body == bundle


async def test_a_release_that_was_replaced_is_given_as_one(tmp_path: Path) -> None:
    """As a sync beside the daemon does it, by renames: the old manifest fits none of the new files."""
    files = big_release(tmp_path / "store", size=50_000)
    newer = big_release(tmp_path / "newer", size=60_000, seed=2)
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        (await _get(client, site, f"{R}/minimal.json")).require(200)
        files.folder.rename(tmp_path / "old")
        newer.folder.rename(files.folder)
        minimal = (await _get(client, site, f"{R}/minimal.json")).require(200).body
        assert minimal == files.path(".minimal.json").read_bytes()
        assert (await _get(client, site, R)).require(200).body == files.tgz.read_bytes()


async def test_asking_for_a_damaged_copy_does_not_keep_the_mirror_reading_it(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    flip(files.tgz, *(chunk * 5120 for chunk in range(100, 140)))
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        await site.settled()
        for path in (R, f"{R}?coherence=1", f"{R}/zip", f"{R}/integrity-manifest.json") * 3:
            _refusal(await _get(client, site, path), 503, "mirror.damaged", tmp_path)
        assert site.library.judged == 1
        flip(files.tgz, *(chunk * 5120 for chunk in range(100, 140)))  # what was wrong is right again
        assert (await _get(client, site, R)).require(200).body == files.tgz.read_bytes()


async def test_parts_of_a_package_that_is_too_large_for_them_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMPONENTS", 1)
    big_release(tmp_path / "store")
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        for path in ("parts/0", "components/0/0", "zip", "integrity-manifest.json"):
            _refusal(await _get(client, site, f"{R}/{path}"), 404, "mirror.absent", tmp_path)


async def test_no_answer_says_where_the_store_is(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=50_000)
    async with mirror(tmp_path / "store", Rules()) as site, HttpClient() as client:
        await site.settled()
        _refusal(await _get(client, site, "/indexes/hello"), 404, "mirror.absent", tmp_path)
        (tmp_path / "store" / "hello.index.dht.json").mkdir()
        _refusal(await _get(client, site, "/indexes/hello"), 404, "mirror.absent", tmp_path)
        files.path(".chunks").unlink()
        files.path(".chunks").symlink_to("/dev/full")
        for path in (f"{R}/chunks", f"{R}/parts/0"):
            answer = await _get(client, site, path)
            assert answer.status in (200, 404, 503) and str(tmp_path) not in answer.body.decode("latin-1")


@pytest.mark.parametrize("suffix", [".tgz", ".tgz without .chunks", ".parity", ".chunks", ".minimal.json", ".torrent"])
async def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path: Path, suffix: str) -> None:
    """As many as there are judges, and more."""
    for number in range(3):
        files = big_release(tmp_path / "store", f"bad{number}@1.0.0", size=20_000)
        pipe = files.path(suffix.partition(" ")[0])
        pipe.unlink()
        os.mkfifo(pipe)
        if "without" in suffix:
            files.path(".chunks").unlink()
    big_release(tmp_path / "store", size=20_000)
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        with trio.fail_after(20):
            (await _get(client, site, R)).require(200)
            await site.settled()
