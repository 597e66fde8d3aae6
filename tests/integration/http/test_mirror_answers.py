"""What a mirror answers: every path of a healthy copy, healing first, and what is given of a damaged copy."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from libreseed.adapters.http.client import HttpClient
from libreseed.auraseal.diram_package import open_package
from libreseed.auraseal.integrity_manifest import parse_integrity_manifest
from libreseed.auraseal.tgz_parts import TgzComponents
from libreseed.errors import TransportFault
from libreseed.ids import ReleaseId
from libreseed.keys.ed25519 import PrivateKey
from libreseed.package.minimal import parse_minimal
from libreseed.repair.chunkmap import parse_chunk_map
from services.mirror.copies import stamps_of
from services.mirror.judging import Rules
from services.mirror.library import STATE_FOLDER
from services.mirror.scrubber import Scrubber
from tests.http_support import raw_request
from tests.mirror_daemon_support import big_release, mirror
from tests.proof_support import settled_draft
from tests.release_support import KEY
from tests.resolver_support import make_sample
from tests.seeder_support import flip
from tests.silexium_support import manifest

pytestmark = pytest.mark.integration
MOST = 10**8


async def test_every_file_of_a_release(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        base = f"{site.url}/packages/hello@1.0.0"
        tgz = await client.get(base, most=MOST)
        assert tgz.require(200).body == files.tgz.read_bytes()
        assert tgz.headers["etag"].strip('"') and "immutable" in tgz.headers["cache-control"]
        assert tgz.headers["access-control-allow-origin"] == "*"
        assert tgz.headers["x-content-type-options"] == "nosniff"
        names = {"/minimal.json": ".minimal.json", "/dht.json": ".dht.json", "/torrent": ".torrent"}
        for path, suffix in {**names, "/chunks": ".chunks", "/parity": ".parity"}.items():
            assert (await client.get(base + path, most=MOST)).require(200).body == files.path(suffix).read_bytes()
        for suffix in (".tgz", ".chunks", ".parity"):
            seed = await client.get(f"{site.url}/seed/hello@1.0.0/hello@1.0.0{suffix}", most=MOST)
            assert seed.require(200).body == files.path(suffix).read_bytes()
        encoded = await client.get(f"{site.url}/packages/hello%401.0.0/minimal.json", most=MOST)
        assert encoded.require(200).body == files.path(".minimal.json").read_bytes()


async def test_package_zip_holds_and_is_a_zip_to_others(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    tgz = files.tgz.read_bytes()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        url = f"{site.url}/packages/hello@1.0.0/zip"
        data = (await client.get(url, most=MOST)).require(200).body
        middle = await client.get(url, most=MOST, span=(700_000, len(data) - 3))
    package = open_package(data)
    assert b"".join(package.component(key) for key in sorted(package.manifest)) == tgz
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert b"".join(opened.read(name) for name in opened.namelist()[1:]) == tgz
    assert middle.require(206).body == data[700_000 : len(data) - 3]


async def test_parts_reconstruct_the_component(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    tgz = files.tgz.read_bytes()
    components = TgzComponents(parse_chunk_map(files.path(".chunks").read_bytes()))
    offset, length = components.span(1)
    shape = components.shape(1)
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        base = f"{site.url}/packages/hello@1.0.0"
        parts = {}
        for number in range(3, shape.total_parts):  # three are lost
            parts[number] = (await client.get(f"{base}/parts/{number}?component=1", most=6000)).require(200).body
        other = (await client.get(f"{base}/components/1/3", most=6000)).require(200)
        absent = [f"/parts/{shape.total_parts}?component=1", "/parts/0?component=2", "/parts/256", "/parts/01"]
        statuses = [(await client.get(base + path, most=6000)).status for path in absent]
        strange = (await client.get(base + "/parts/0?component=x", most=6000)).status
    assert components.reconstruct(1, parts).data == tgz[offset : offset + length]
    assert other.body == parts[3]
    assert statuses == [404] * 4 and strange == 400


async def test_ranges_and_conditions(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=300_000)
    tgz = files.tgz.read_bytes()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        url = f"{site.url}/packages/hello@1.0.0"
        etag = (await client.get(url, most=MOST)).headers["etag"]

        async def ask(**headers: str) -> tuple[int, bytes]:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = await client.get(url, most=MOST, headers=fields)
            return answer.status, answer.body

        assert (await client.get(url, most=MOST, span=(5, 5125))).body == tgz[5:5125]
        assert await ask(range="bytes=-7") == (206, tgz[-7:])
        assert (await ask(range="bytes=900000000-"))[0] == 416
        assert await ask(if_none_match=etag) == (304, b"")
        assert await ask(if_match='"other"', range="bytes=0-1") != (206, tgz[:2])
        assert await ask(if_range=etag, range="bytes=0-1") == (206, tgz[:2])
        assert await ask(if_range='"other"', range="bytes=0-1") == (200, tgz)
        status, body = await ask(range="bytes=0-1,10-19")
        assert status == 206 and tgz[:2] in body and tgz[10:20] in body and body.count(b"Content-Range") == 2
        head = await raw_request(
            site.served, b"HEAD /packages/hello@1.0.0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert f"content-length: {len(tgz)}".encode() in head and head.endswith(b"\r\n\r\n")


async def test_lists_and_health(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=20_000)
    (tmp_path / "store" / "not a release").mkdir()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        await site.settled()
        listed = (await client.get(f"{site.url}/releases.json", most=MOST)).json()["releases"]
        manifest = parse_integrity_manifest((await client.get(f"{site.url}/integrity-manifest.json", most=MOST)).body)
        package = (await client.get(f"{site.url}/packages/hello@1.0.0/zip", most=MOST)).body
        components = (await client.get(f"{site.url}/packages/hello@1.0.0/integrity-manifest.json", most=MOST)).body
        health = (await client.get(f"{site.url}/health", most=MOST)).json()
        metrics = (await client.get(f"{site.url}/metrics", most=MOST)).body.decode()
        openapi = (await client.get(f"{site.url}/openapi.json", most=MOST)).json()
    (entry,) = listed
    minimal = parse_minimal(files.path(".minimal.json").read_bytes())
    assert entry["release"] == "hello@1.0.0" and entry["whole"] and entry["pubkey"] == str(minimal.pubkey)
    entry = manifest["seed/hello@1.0.0/hello@1.0.0.tgz"]
    entry.integrity.require_primary(hashlib.sha512(files.tgz.read_bytes()).digest())
    assert zipfile.ZipFile(io.BytesIO(package)).read("integrity-manifest.json") == components
    (first,) = parse_integrity_manifest(components).values()
    first.integrity.require_primary(hashlib.sha512(files.tgz.read_bytes()).digest())
    assert health["status"] == "ok" and health["releases"]["whole"] == 1
    assert 'libreseed_mirror_releases{state="whole"} 1' in metrics
    assert 'libreseed_mirror_requests_total{path="health",status="200"} 1' in metrics
    assert "/packages/{release}" in openapi["paths"]


async def test_a_damaged_copy_is_healed_before_it_is_served(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    whole = files.tgz.read_bytes()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        await site.settled()
        flip(files.tgz, 10, 400_000, 1_200_000)
        files.path(".parity").write_bytes(files.path(".parity").read_bytes()[:-100])
        got = await client.get(f"{site.url}/packages/hello@1.0.0?coherence=1", most=MOST)
        health = (await client.get(f"{site.url}/packages/hello@1.0.0/health", most=MOST)).json()
    assert got.require(200).body == whole == files.tgz.read_bytes()
    assert health["healed_chunks"] == 4 and health["coherence"]["verified"] == health["coherence"]["parts"]


async def test_a_copy_that_was_damaged_while_the_mirror_was_off_is_healed_first(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    whole = files.tgz.read_bytes()
    files.tgz.write_bytes(whole[:-6000])
    files.path(".chunks").unlink()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        got = await client.get(f"{site.url}/packages/hello@1.0.0", most=MOST)
        assert got.status == 404  # without the map nothing can be healed, and nothing is shown
    files.path(".chunks").write_bytes(b"wrong")
    files.tgz.write_bytes(whole)
    files.path(".torrent").unlink()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        got = await client.get(f"{site.url}/packages/hello@1.0.0", most=MOST)
        assert got.require(200).body == whole
        parse_chunk_map((await client.get(f"{site.url}/packages/hello@1.0.0/chunks", most=MOST)).require(200).body)
        (await client.get(f"{site.url}/packages/hello@1.0.0/torrent", most=MOST)).require(200)


async def test_a_copy_beyond_repair_gives_its_good_chunks_and_nothing_else(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    whole = files.tgz.read_bytes()
    flip(files.tgz, *(chunk * 5120 for chunk in range(100, 140)))
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        package = await client.get(f"{site.url}/packages/hello@1.0.0", most=MOST)
        health = (await client.get(f"{site.url}/packages/hello@1.0.0/health", most=MOST)).json()
        seed = f"{site.url}/seed/hello@1.0.0/hello@1.0.0.tgz"
        before = await client.get(seed, most=MOST, span=(0, 100 * 5120))
        after = await client.get(seed, most=MOST, span=(140 * 5120, len(whole)))
        across = await client.get(seed, most=MOST, span=(99 * 5120, 101 * 5120))
        all_of_it = await client.get(seed, most=MOST)
        part = await client.get(f"{site.url}/packages/hello@1.0.0/parts/1", most=MOST)
        mirror_health = (await client.get(f"{site.url}/health", most=MOST)).json()
    assert (
        package.status == 503 and package.json()["reason"] == "mirror.damaged" and "retry-after" not in package.headers
    )
    assert health["state"] == "damaged" and health["bad_data"] == [[100, 140]]
    assert before.require(206).body + after.require(206).body == whole[: 100 * 5120] + whole[140 * 5120 :]
    assert (across.status, all_of_it.status, part.status) == (503, 503, 503)
    assert mirror_health["status"] == "degraded"


async def test_bytes_that_change_while_they_are_sent_are_never_sent_wrong(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=8_000_000)
    whole = files.tgz.read_bytes()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        await site.settled()
        url = f"{site.url}/seed/hello@1.0.0/hello@1.0.0.tgz"
        got, begun = b"", False
        with contextlib.suppress(TransportFault):  # it may be cut off
            async with client.stream(url, most=MOST) as stream:
                async for chunk in stream.chunks():
                    got += chunk
                    if not begun:
                        begun = True
                        flip(files.tgz, len(whole) - 10)
                        await trio.sleep(0)
        assert got == whole[: len(got)]


async def test_another_content_under_a_held_name_is_not_shown(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=20_000)
    other = big_release(tmp_path / "other", size=20_000, seed=2)
    for suffix in (".tgz", ".chunks", ".parity"):
        files.path(suffix).write_bytes(other.path(suffix).read_bytes())
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        got = await client.get(f"{site.url}/packages/hello@1.0.0", most=MOST)
        seed = await client.get(f"{site.url}/seed/hello@1.0.0/hello@1.0.0.tgz", most=MOST)
        (holding,) = site.library.holdings.values()
    assert (got.status, seed.status) == (404, 404)
    assert holding.refusal is not None and holding.refusal.reason == "chunkmap.digest"


async def test_only_listed_publishers_are_shown(tmp_path: Path) -> None:
    big_release(tmp_path / "store", size=20_000)
    for key, status in ((KEY, 200), (PrivateKey(bytes(32)), 404)):
        async with mirror(tmp_path / "store", Rules(frozenset({key.public}))) as site, HttpClient() as client:
            assert (await client.get(f"{site.url}/packages/hello@1.0.0", most=MOST)).status == status


async def test_a_note_spares_a_restart_the_reading_and_a_wrong_one_costs_it(tmp_path: Path) -> None:
    big_release(tmp_path / "store", size=20_000)
    note = tmp_path / "store" / STATE_FOLDER / "hello@1.0.0.note.json"
    async with mirror(tmp_path / "store") as site:
        await site.settled()
        assert site.library.judged == 1
    async with mirror(tmp_path / "store") as site:
        await site.settled()
        assert site.library.judged == 0
    for damage in (b"", b"{}", note.read_bytes()[:-5], note.read_bytes().replace(b'"m":', b'"n":')):
        note.write_bytes(damage)
        async with mirror(tmp_path / "store") as site:
            await site.settled()
            assert site.library.judged == 1
    assert json.loads(note.read_bytes())["format"] == "libreseed-mirror-note-v1"


async def test_a_release_that_comes_later_is_served_and_one_that_goes_is_not(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    async with mirror(tmp_path / "store") as site, HttpClient() as client:
        url = f"{site.url}/packages/hello@1.0.0"
        assert (await client.get(url, most=MOST)).status == 404
        files = big_release(tmp_path / "store", size=20_000)
        assert (await client.get(url, most=MOST)).status == 200
        files.folder.rename(tmp_path / "away")
        await site.library.look()
        assert (await client.get(url, most=MOST)).status == 404


async def test_the_scrub_finds_what_changed_unnoticed(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=100_000)
    whole = files.tgz.read_bytes()
    async with mirror(tmp_path / "store") as site:
        await site.settled()
        (holding,) = site.library.holdings.values()
        assert holding.copy is not None
        flip(files.tgz, 7)
        # As if the disk had rotted below the file system: the stamps are those of the judged file.
        stamps = stamps_of(files)
        holding.copy = replace(holding.copy, note=replace(holding.copy.note, stamps=stamps, judged_ms=0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Scrubber(site.library, interval=3600.0, rate=10**12).run)
            with trio.fail_after(30):
                while files.tgz.read_bytes() != whole:
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
        assert site.library.healed == 1 or holding.state == "checking"


async def test_a_bundle_is_given_only_for_the_release_that_it_is_of(tmp_path: Path) -> None:
    sample = make_sample(tmp_path, 100_000)
    name = str(sample.minimal.release)
    bundle = sample.files.path(".silexium.json")
    good = settled_draft(sample).bundle().data
    other = settled_draft(sample, manifest=manifest(ReleaseId.parse("other@1.0.0"), tgz=b"x")).bundle().data
    for data, status in ((good, 200), (other, 404), (b"{}", 404)):
        bundle.write_bytes(data)
        async with mirror(tmp_path / "out") as site, HttpClient() as client:
            package = await client.get(f"{site.url}/packages/{name}", most=MOST)
            got = await client.get(f"{site.url}/packages/{name}/silexium.json", most=MOST)
        assert package.require(200).body == sample.files.tgz.read_bytes()
        assert got.status == status and (status != 200 or got.body == good)


@pytest.mark.parametrize(
    "path",
    [
        "/packages/../../../etc/passwd",
        "/packages/..%2f..%2fetc%2fpasswd",
        "/packages/%2e%2e/health",
        "/packages/hello@1.0.0/../hello@1.0.0",
        "/packages/hello@1.0.0%00",
        "/packages/hello@1.0.0/",
        "/packages//hello@1.0.0",
        "//packages/hello@1.0.0",
        "/seed/hello@1.0.0/hello@1.0.0.minimal.json",
        "/seed/hello@1.0.0/../../hello@1.0.0/hello@1.0.0.tgz",
        "/seed/hello@1.0.0/other@1.0.0.tgz",
        "/seed/hello@1.0.0/.libreseed-mirror",
        "/seed/.libreseed-mirror/lock",
        "/packages/HELLO@1.0.0",
        "/packages/hello@1.0.0\\..\\x",
        "/packages/h%C3%A9llo@1.0.0",
        "/packages/%ff%fe@1.0.0",
        "/packages/hello@01.0.0",
        "/indexes/..",
        "/indexes/hello",
        "/" + "a" * 10_000,
        "*",
    ],
)
async def test_path_tricks_find_nothing(tmp_path: Path, path: str) -> None:
    big_release(tmp_path / "store", size=20_000)
    async with mirror(tmp_path / "store") as site:
        line = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        got = await raw_request(site.served, line.encode())
    assert got.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400", b"HTTP/1.1 431")), got[:100]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
async def test_other_methods_are_refused(tmp_path: Path, method: str) -> None:
    (tmp_path / "store").mkdir()
    async with mirror(tmp_path / "store") as site:
        line = f"{method} /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        got = await raw_request(site.served, line.encode())
    assert got.startswith(b"HTTP/1.1 405") and b"allow: GET, HEAD, OPTIONS" in got


async def test_any_client_may_ask_what_the_mirror_can(tmp_path: Path) -> None:
    """RFC 9110, 9.3.7: an asterisk is the server itself."""
    big_release(tmp_path / "store", size=20_000)
    async with mirror(tmp_path / "store") as site:
        for target in (b"*", b"/packages/hello@1.0.0"):
            answer = await raw_request(
                site.served, b"OPTIONS %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target
            )
            assert answer.startswith(b"HTTP/1.1 204") and b"\r\nallow: GET, HEAD, OPTIONS\r\n" in answer
        assert b" 404 " in await raw_request(site.served, b"GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


async def test_a_browser_may_ask_for_ranges_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    async with mirror(tmp_path / "store") as site:
        head = b"Host: x\r\nOrigin: https://a\r\nAccess-Control-Request-Headers: range\r\nConnection: close\r\n"
        got = await raw_request(site.served, b"OPTIONS /releases.json HTTP/1.1\r\n" + head + b"\r\n")
    assert got.startswith(b"HTTP/1.1 204") and b"access-control-allow-headers: " in got and b"range" in got
