"""The ways to a source of Silexium proofs: TLS with an authority of one's own, and a proxy, for whoever asks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import trio

from libreseed.adapters.http.guards import Receive, Scope, Send
from libreseed.adapters.http.server import HttpServerOptions
from libreseed.adapters.silexium.log.log_folder import LogFolder
from libreseed.adapters.silexium.log.log_site import folder_app
from tests.http_support import TlsFiles, answer, make_tls, served
from tests.log_support import exported
from tests.proof_support import AUTHOR_IS_PACKAGER, settled_draft, write_policy
from tests.proxy_support import Proxy
from tests.resolver_support import KEY, Sample, assert_installed, make_sample, scene
from tests.silexium_support import LOG

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 200_000)


def secured(folder: Path) -> tuple[TlsFiles, HttpServerOptions]:
    tls = make_tls(folder)
    return tls, HttpServerOptions(certfile=tls.certfile, keyfile=tls.keyfile)


async def run(*words: object, **variables: str) -> tuple[int, dict[str, object]]:
    """A program of ours with nothing but ``variables`` to configure it; its exit code and its JSON."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LIBRESEED_") and not name.lower().endswith("_proxy")
    }
    line = [sys.executable, "-m", *map(str, words), "--json"]
    done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False, env=kept | variables)
    return done.returncode, dict(json.loads(done.stdout))


@pytest.mark.parametrize("way", ["flag", "variable", "proxy", "unknown-authority"])
async def test_a_resolve_asks_for_proofs_over_tls(tmp_path: Path, sample: Sample, way: str) -> None:
    tls, options = secured(tmp_path / "tls")
    bundle = settled_draft(sample, keys=AUTHOR_IS_PACKAGER).bundle().data

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        found = bundle if scope["path"] == "/bundle/sample@1.0.0" else b""
        await answer(send, 200 if found else 404, found)

    proxy = Proxy()
    async with scene(tmp_path, sample) as it, served(site, options) as server:
        seeder = await it.seed()
        await it.nursery.start(proxy.run)
        line: list[object] = ["libreseed_services.resolver.cli", "sample@1.0.0", "--store", it.store]
        line += ["--peer", seeder.endpoint, "--bootstrap", it.bootstrap[0]]
        line += ["--policy", write_policy(tmp_path / "policy.json", author=KEY), "--silexium", server.url]
        variables = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"} if way == "proxy" else {}
        if way == "variable":
            variables["LIBRESEED_CA_FILE"] = str(tls.certfile)
        elif way != "unknown-authority":
            line += ["--ca-file", tls.certfile]
        code, told = await run(*line, **variables)
        if way == "unknown-authority":
            assert (code, told["reason"]) == (11, "silexium.unreachable")
            assert "certificate" in str(told["details"])
        else:
            assert (code, told["silexium"]) == (0, "proven"), told
            assert_installed(sample, str(told["path"]))
        assert proxy.asked == ([f"CONNECT 127.0.0.1:{server.port}"] if way == "proxy" else [])


@pytest.mark.parametrize("way", ["flag", "proxy", "unknown-authority"])
async def test_a_mirror_copies_a_log_over_tls(tmp_path: Path, way: str) -> None:
    tls, options = secured(tmp_path / "tls")
    site, proxy = folder_app(LogFolder(exported(tmp_path / "log", [5]))), Proxy()
    async with served(site, options) as server:
        await server.nursery.start(proxy.run)
        line: list[object] = ["libreseed_services.silexium.cli", "mirror", server.url, "--out", tmp_path / "copy"]
        line += ["--log", LOG.name, LOG.key]
        line += [] if way == "unknown-authority" else ["--ca-file", tls.certfile]
        variables = {"HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}"} if way == "proxy" else {}
        code, told = await run(*line, **variables)
        if way == "unknown-authority":
            assert code == 11 and "certificate" in str(told["message"])
        else:
            assert (code, told.get("size")) == (0, 5), told
        assert set(proxy.asked) == ({f"CONNECT 127.0.0.1:{server.port}"} if way == "proxy" else set())
