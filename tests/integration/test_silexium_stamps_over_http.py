"""A Silexium server whose stamps and headers come over HTTP from elsewhere, as they do in production."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.adapters.silexium.releases.answers import Answers
from libreseed.adapters.silexium.releases.publication import Publication
from libreseed.adapters.silexium.stamps.embedded import EmbeddedWorld, embedded_world
from libreseed.adapters.silexium.stamps.embedded_app import embedded_app
from libreseed.adapters.silexium.stamps.header_store import HeaderStore
from libreseed.errors import UsageFault
from libreseed.ids import ReleaseId
from libreseed.silexium.bitcoin_headers import REGTEST
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.ots import attested_block, parse_ots
from libreseed.silexium.trust_policy import parse_silexium_policy
from libreseed.silexium.verification import ReleaseVerification
from services.silexium.office import open_office
from services.silexium.policy import policy_table
from services.silexium.stamp_sources import open_stamp_sources
from tests.bitcoin_node_support import node_app, serving
from tests.silexium_server_support import Shop, run, starting
from tests.unit.silexium.test_header_store import mined

pytestmark = pytest.mark.integration
GONE = "http://127.0.0.1:9"


def configure(shop: Shop, world: EmbeddedWorld, good: str, node: str) -> Path:
    """The settings of a server that relies on others; one authority and one calendar of two are not there."""
    config = shop.server / "silexium.toml"
    lines = [line for line in config.read_text().splitlines()[:5] if not line.startswith("embedded")]
    lines += ['headers = "headers"', f'headers-from = {{ rpc = "{node}", cookie = "{shop.server}/cookie" }}']
    lines += [f'calendars = ["{GONE}", {{ url = "{good}", redeemed-at = ["https://*.example.org"] }}]']
    lines += ["patience-seconds = 1"]
    lines += ["[[authorities]]", 'name = "gone"', f'url = "{GONE}"']
    lines += ["[[authorities]]", 'name = "good"', f'url = "{good}/tsa"']
    lines += ["[time]", 'network = "regtest"', "tsa-threshold = 1"]
    root = json.dumps(world.root_pem)
    for name, leaf in (("gone", root), ("good", json.dumps((world.folder / "tsa.pem").read_text()))):
        lines += ["[[time.tsas]]", f'name = "{name}"', f"root = {root}", f"leaf = {leaf}"]
    config.write_text("\n".join(lines) + "\n")
    (shop.server / "cookie").write_text("u:p\n")
    return config


async def test_a_release_is_logged_with_stamps_from_elsewhere_though_half_of_the_services_are_gone(
    tmp_path: Path,
) -> None:
    world = embedded_world(tmp_path / "world")
    world.proof(b"so that the chain does not begin with us")
    shop, now = Shop.make(tmp_path / "shop"), world.clock()
    place = shop.attested("hello@1.0.0")
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(serving(embedded_app(world)))
        node = await stack.enter_async_context(serving(node_app(world.headers)))
        world.reachable_at(good)
        configure(shop, world, good, node)
        shop.ingest(place)
        site = shop.site()
        office = stack.enter_context(open_office(site))
        log = LogStore(office.database, site.log_identity())
        stamps = await open_stamp_sources(office, stack)
        publication = Publication(
            office.catalogue,
            log,
            site.unlock("log-key"),
            stamps.stamping,
            policy=office.policy,
            headers=stamps.headers,
            patience=1,
        )
        step = await publication.advance(now)  # tokens and promises
        assert {(r.job.service, r.error.reason) for r in step.stamp_refusals} == {
            ("gone", "http.unreachable"),
            (GONE, "http.unreachable"),
        }
        await publication.advance(now + 70)  # proofs, in a block that is not at hand
        assert shop.states() == {"hello@1.0.0": "pending"} and log.size == 0
        assert stamps.feed is not None
        await stamps.feed.step(now + 70)
        await publication.advance(now + 71)
        assert shop.states() == {"hello@1.0.0": "logged"} and log.size == 1
        policy = parse_silexium_policy(policy_table(office))
        answers, name = Answers(log, headers=stamps.run), ReleaseId.parse("hello@1.0.0")
        bundle = parse_bundle(answers.bundle(answers.served(), name))
        assert bundle.headers is None
        release = verify_bundle(ReleaseVerification(policy, name, now=now + 71), bundle, chains=[stamps.headers()])
        assert release.times[0].height == 2


async def test_a_node_that_is_gone_or_lies_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = embedded_world(tmp_path / "world")
    shop = Shop.make(tmp_path / "shop")
    lies = bytearray(mined(20))
    lies[800] ^= 1
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(serving(node_app(lambda: bytes(lies))))
        for place, reason in ((GONE, "http.unreachable"), (node, "silexium.header-link")):
            configure(shop, world, GONE + "9", place)
            office = stack.enter_context(open_office(shop.site()))
            stamps = await open_stamp_sources(office, stack)
            assert stamps.feed is not None
            caplog.clear()
            await stamps.feed.step(world.clock())
            assert [record.levelname for record in caplog.records if record.name == "libreseed.silexium"] == ["WARNING"]
            assert reason in caplog.text
    assert HeaderStore(shop.server / "headers", REGTEST).record.count == 0


def test_a_server_with_embedded_authorities_lends_them_to_other_programs(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    with starting(shop) as server:
        url = f"{server.url}/embedded/"
        place = ("--dir", tmp_path / "headers", "--network", "regtest")
        assert run("headers", "import", "--url", f"{url}headers", *place)["added"] == 1
        (tmp_path / "file").write_bytes(b"hello")
        ots = [str(Path(sys.executable).with_name("ots")), "--no-cache", "-l", url]
        for line in (["stamp", "-m", "1", "-c", url, "file"], ["upgrade", "file.ots"]):
            there = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
            done = subprocess.run([*ots, *line], cwd=tmp_path, env=there, capture_output=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr.decode() + server.text()
        assert run("headers", "import", "--url", f"{url}headers", *place)["added"] == 1
    store = HeaderStore(tmp_path / "headers", REGTEST)
    proof = parse_ots((tmp_path / "file.ots").read_bytes(), hashlib.sha256(b"hello").digest())
    assert attested_block(proof, [store])[1] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("headers-from = { rpc", "headers-from = { ftp"), "config.value"),
        (("https://*.example.org", "https://*.example.org"), None),
        ((GONE, "not a url"), "http.url"),
        ((f'["{GONE}",', f'["{GONE}", "{GONE}",'), "config.stamps"),
        (('[[time.tsas]]\nname = "gone"', '[[time.tsas]]\nname = "renamed"'), "config.value"),
    ],
)
async def test_settings_that_cannot_work_are_refused_before_anything_is_asked(
    tmp_path: Path, change: tuple[str, str], reason: str | None
) -> None:
    world = embedded_world(tmp_path / "world")
    shop = Shop.make(tmp_path / "shop")
    config = configure(shop, world, "http://127.0.0.1:10", "http://127.0.0.1:11")
    config.write_text(config.read_text().replace(*change))

    async def open_sources() -> None:
        async with AsyncExitStack() as stack:
            office = stack.enter_context(open_office(shop.site()))
            await open_stamp_sources(office, stack)

    if reason is None:
        await open_sources()
        return
    with pytest.raises(UsageFault) as refusal:
        await open_sources()
    assert refusal.value.reason == reason
