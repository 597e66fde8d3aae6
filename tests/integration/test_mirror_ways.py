"""The ways to a mirror: TLS with one's own authority, proxies, other kinds of mirror, dead DHTs, and a real daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.http.server import HttpServerOptions
from services.resolver.mirror_options import MirrorOptions
from services.resolver.outcome import Outcome
from tests.http_support import make_tls
from tests.integration.test_resolve_mirror import faults
from tests.mirror_daemon_support import mirror
from tests.mirror_support import FakeMirror, files_of, refusing, start, without_chunks
from tests.proxy_support import Proxy
from tests.resolver_support import Sample, Scene, assert_installed, make_sample, rejects, scene

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("mirror-ways"), 600_000)


async def from_mirrors(it: Scene, *urls: str, **more: object) -> Outcome:
    return await it.resolve(bootstrap=(), mirrors=MirrorOptions(urls, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("http2", [True, False])
async def test_over_tls_with_an_authority_of_ones_own(tmp_path: Path, sample: Sample, http2: bool) -> None:
    tls = make_tls(tmp_path / "tls")
    options = HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile, http2=http2)
    async with (
        scene(tmp_path, sample, publish=False) as it,
        mirror(sample.files.folder.parent, options=options) as site,
    ):
        await site.settled()
        outcome = await from_mirrors(it, site.url, ca_file=tls.certfile)
        assert_installed(sample, outcome.path)
        assert outcome.chunks["mirrored"] == sample.layout.grid.n


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, sample: Sample) -> None:
    tls = make_tls(tmp_path / "tls")
    options = HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile)
    async with (
        scene(tmp_path, sample, publish=False) as it,
        mirror(sample.files.folder.parent, options=options) as site,
    ):
        with rejects("source.none") as caught:
            await from_mirrors(it, site.url)
        assert "certificate" in caught[0].message
        assert "--ca-file" in caught[0].message


async def test_a_certificate_is_demanded_for_ranges_too(tmp_path: Path, sample: Sample) -> None:
    """The record comes from elsewhere, so that only the reader of ranges can notice."""
    tls = make_tls(tmp_path / "tls")
    options = HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile)
    async with (
        scene(tmp_path, sample, publish=False) as it,
        mirror(sample.files.folder.parent, options=options) as site,
    ):
        documents = {path: data for path, data in files_of(sample).items() if not path.startswith("/seed")}
        other = await start(it.nursery, documents)
        with rejects("source.incomplete") as caught:
            await from_mirrors(it, other.url, site.url)
        assert faults_in(caught[0].message, site.url)


def faults_in(message: str, url: str) -> bool:
    return "certificate" in message.partition(url)[2]


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_through_the_proxy_that_the_environment_names(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    tls = make_tls(tmp_path / "tls")
    options = HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile) if secure else HttpServerOptions()
    proxy = Proxy()
    async with (
        scene(tmp_path, sample, publish=False) as it,
        mirror(sample.files.folder.parent, options=options) as site,
    ):
        await site.settled()
        await it.nursery.start(proxy.run)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        outcome = await from_mirrors(it, site.url, ca_file=tls.certfile if secure else None)
        assert_installed(sample, outcome.path)
        assert len(proxy.asked) > 1
        assert all(asked.startswith("CONNECT" if secure else f"GET {site.url}") for asked in proxy.asked)


async def test_no_proxy_keeps_the_proxy_out(tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    async with scene(tmp_path, sample, publish=False) as it:
        site = await start(it.nursery, files_of(sample))
        await it.nursery.start(proxy.run)
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", site.url.partition("://")[2].partition(":")[0])
        assert_installed(sample, (await from_mirrors(it, site.url)).path)
        assert proxy.asked == []


async def test_a_mirror_that_knows_no_web_seed(tmp_path: Path, sample: Sample) -> None:
    """Another implementation: the archive and its parity under /packages only, and no torrent."""
    packages = f"/packages/{sample.minimal.release}"
    files = {path: data for path, data in files_of(sample).items() if path.endswith(("minimal.json", "chunks"))}
    files |= {packages: sample.files.tgz.read_bytes(), f"{packages}/parity": sample.files.path(".parity").read_bytes()}
    async with scene(tmp_path, sample, publish=False) as it:
        site = await start(it.nursery, without_packages_chunk(files, packages))
        outcome = await from_mirrors(it, site.url)
        assert_installed(sample, outcome.path)
        assert outcome.chunks["repaired"] == 1


def without_packages_chunk(files: dict[str, bytes], path: str) -> dict[str, bytes]:
    """One chunk is wrong, so that parity is needed."""
    data = bytearray(files[path])
    data[50_000] ^= 1
    return files | {path: bytes(data)}


async def test_with_a_dht_that_does_not_answer(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample, publish=False) as it:
        site = await start(it.nursery, files_of(sample))
        dead = (Endpoint("127.0.0.254", 9),)
        outcome = await it.resolve(bootstrap=dead, mirrors=MirrorOptions((site.url,)))
        assert_installed(sample, outcome.path)


async def test_a_mirror_that_nobody_serves_does_not_stop_the_swarm(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        outcome = await it.resolve(mirrors=MirrorOptions(("http://127.0.0.253:9",)))
        assert_installed(sample, outcome.path)
        assert faults(outcome)["http://127.0.0.253:9"]["reason"] == "http.unreachable"


async def test_an_unknown_release_is_not_found(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample, publish=False) as it:
        site = await start(it.nursery, {})
        with rejects("notfound.record", step=2):
            await from_mirrors(it, site.url)


@pytest.mark.slow
async def test_damaged_peers_and_partial_mirrors_together(tmp_path: Path) -> None:
    """Both peers' disks rotted behind their backs: they claim what they lack. One mirror knows what it lacks."""
    sample = make_sample(tmp_path / "release", 3_000_000)
    n = sample.layout.grid.n

    def rot(first: float, last: float) -> object:
        def damage(tgz: Path) -> None:
            data = bytearray(tgz.read_bytes())
            start_at, end = int(len(data) * first), int(len(data) * last)
            data[start_at:end] = b"Q" * (end - start_at)
            tgz.write_bytes(data)

        return damage

    async with scene(tmp_path, sample) as it:
        await it.seed(damage=rot(0, 0.45))  # type: ignore[arg-type]
        await it.seed(damage=rot(0.55, 1))  # type: ignore[arg-type]
        sites: list[FakeMirror] = [
            await start(it.nursery, files_of(sample), refusing(set(range(n * 4 // 10)))),
            await start(it.nursery, without_chunks(files_of(sample), sample, range(n * 6 // 10, n))),
        ]
        outcome = await it.resolve(mirrors=MirrorOptions(tuple(site.url for site in sites)))
        assert_installed(sample, outcome.path)
        named = faults(outcome)
        assert named[sites[1].url]["reason"] == "source.damaged"
        assert outcome.sources["received"]["total"] < 1.2 * sample.minimal.size  # type: ignore[index]
