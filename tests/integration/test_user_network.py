"""``libreseed search``, ``update`` and ``doctor`` against a real DHT node and a real seeder on loopback."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import trio

from libreseed.adapters.resolving.trust_store import TrustStore
from libreseed.dht.records import build_index, parse_index
from libreseed.errors import TransportFault
from libreseed.ids import ReleaseId
from services.user.cli import main
from tests.resolver_support import KEY, RELEASE, Scene, assert_installed, make_sample, scene

pytestmark = pytest.mark.integration
NEWER = ReleaseId.parse("sample@1.1.0")


async def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, object]]:
    """The command in a thread; it runs an event loop of its own."""
    code = await trio.to_thread.run_sync(main, [*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


async def publish_index(it: Scene, *minimals: object) -> None:
    item = parse_index(build_index(RELEASE.name, minimals, KEY, seq=9), KEY.public).item  # type: ignore[arg-type]
    with contextlib.suppress(TransportFault):  # no other node is there to take it; the hub holds it itself
        await it.hub.put_item(item)


async def test_search_lists_publishers_and_versions_and_believes_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("LIBRESEED_LISTEN", "127.0.0.1:0")
    sample = make_sample(tmp_path / "release", 50_000)
    async with scene(tmp_path, sample) as it:
        flags = ("--bootstrap", it.bootstrap[0], "--store", it.store)
        it.hub.set_records(lambda _: [sample.item])
        await it.hub.announce_name(RELEASE.name)
        code, answer = await call(capsys, "search", "sample", *flags)
        assert code == 0
        row = answer["publishers"][0]  # type: ignore[index]
        assert (row["publisher"], row["versions"], row["trusted"]) == (str(KEY.public), ["1.0.0"], False)
        TrustStore(it.store).add(RELEASE.name, KEY.public)
        await publish_index(it, sample.minimal)
        _, answer = await call(capsys, "search", "sample", *flags)
        assert answer["publishers"][0] | {"trusted": True, "indexed": True} == answer["publishers"][0]  # type: ignore[index]
        code, answer = await call(capsys, "search", "nobodys", *flags)
        assert (code, answer["reason"]) == (10, "notfound.name")
        assert (await call(capsys, "doctor", *flags))[0] == 0


async def test_search_without_any_node_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("LIBRESEED_LISTEN", "127.0.0.1:0")
    flags = ("--bootstrap", "127.0.0.1:9", "--store", tmp_path / "store")
    for verb in (("search", "sample"), ("doctor",)):
        code, answer = await call(capsys, *verb, *flags)
        assert code == 11
        assert "no DHT node answers" in json.dumps(answer)
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
async def test_update_installs_what_is_newer_and_keeps_the_old_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    old = make_sample(tmp_path / "old", 50_000)
    new = make_sample(tmp_path / "new", 60_000, release=NEWER, timestamp=2000)
    async with scene(tmp_path, old) as it:
        flags = ("--bootstrap", it.bootstrap[0], "--store", it.store)
        await it.seed()
        await it.resolve()
        code, answer = await call(capsys, "update", *flags)
        assert (code, answer["updates"][0]["newest"]) == (0, None)  # type: ignore[index]
        await publish_index(it, old.minimal, new.minimal)
        it.sample = new
        await it.publish()
        await it.seed(announce=True)
        code, answer = await call(capsys, "update", "--dry-run", *flags)
        row = answer["updates"][0]  # type: ignore[index]
        assert (code, row["newest"], row["newer"], row["updated"]) == (0, "1.1.0", True, False)
        code, answer = await call(capsys, "update", "--no-silexium", *flags)
        row = answer["updates"][0]  # type: ignore[index]
        assert (code, row["exit"]) == (10, 10)  # nobody is pinned, and nobody else is known
        assert answer["ok"] is False and answer["reason"] == row["reason"] and answer["exit"] == 10
        TrustStore(it.store).add(RELEASE.name, KEY.public)
        code, answer = await call(capsys, "update", "sample", "--no-silexium", *flags)
        assert (code, answer["updates"][0]["updated"]) == (0, True)  # type: ignore[index]
        assert_installed(new, it.store / "packages" / str(NEWER))
        assert_installed(old, it.store / "packages" / str(RELEASE))
        code, answer = await call(capsys, "update", *flags)
        assert (code, answer["updates"][0]["newer"]) == (0, False)  # type: ignore[index]
