"""Step 10 over real sockets: servers and mirrors that prove, lie, have nothing or are not there; and without any."""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from libreseed import limits, wire
from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.http.guards import ASGI, Receive, Scope, Send
from libreseed.adapters.resolving.store import Store
from libreseed.adapters.silexium.proofs.trust_memory import TrustMemory
from libreseed.resolve.policy import Policy
from libreseed.resolve.request import Request
from libreseed.silexium.bundle import Bundle
from services.resolver.mirror_options import MirrorOptions
from services.resolver.proofs import ProofOptions
from tests import mirror_support
from tests.attacks.attack_support import LyingDht
from tests.http_support import answer, served
from tests.kill_support import kill_and_resume
from tests.proof_support import (
    AUTHOR_IS_PACKAGER,
    Desk,
    draft,
    export,
    put_content,
    release_manifest,
    settled_draft,
    write_policy,
)
from tests.resolver_support import KEY, Sample, assert_installed, leftovers, make_sample, rejects, scene
from tests.silexium_support import LOG, NOW, STAMPED, policy
from tests.tools import require_program

pytestmark = pytest.mark.integration
MODULE = [sys.executable, "-m", "libreseed_services.resolver.cli"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 200_000)


def site(files: Mapping[str, bytes], asked: list[str] | None = None) -> ASGI:
    """A server of exactly these files."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/")
        if asked is not None:
            asked.append(path)
        await answer(send, 200 if path in files else 404, files.get(path, b""))

    return app


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of_bundle(bundle: Bundle) -> dict[str, bytes]:
    return {"bundle/sample@1.0.0": bundle.data}


def proven_by(*sources: str | Path, **more: object) -> dict[str, object]:
    """Options of a resolve that demands Silexium and asks ``sources``."""
    proofs = ProofOptions(sources=tuple(map(str, sources)), now=lambda: NOW)
    return {"policy": Policy(silexium=policy(), patience_s=2, peer_silence_s=2), "proofs": proofs, **more}


async def test_a_server_proves_a_release_and_whose_it_is(tmp_path: Path, sample: Sample) -> None:
    """The command as a user types it: no publisher is named, the log's proven author is believed."""
    making = settled_draft(sample, keys=AUTHOR_IS_PACKAGER)
    policy_file = write_policy(tmp_path / "policy.json", author=KEY)
    async with scene(tmp_path, sample) as it, served(site(of_bundle(making.bundle()))) as server:
        seeder = await it.seed()
        line = [*MODULE, "sample@1.0.0", "--store", str(it.store), "--json", "--peer", str(seeder.endpoint)]
        line += ["--bootstrap", str(it.bootstrap[0]), "--policy", str(policy_file), "--silexium", server.url]
        done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False)
        told = json.loads(done.stdout)
        assert told["ok"], told
        assert (told["silexium"], told["trust"], told["warnings"]) == ("proven", "silexium", [])
        assert told["sources"]["proofs"] == server.url
        assert [row["check"] for row in told["checks"]] == [f"10.{number}" for number in range(1, 14)]
        assert told["proofs"]["log"] == "log.example/silexium-b3"
        assert b"WARNING" not in done.stderr
        assert_installed(sample, told["path"])
        again = await trio.run_process([*line, "--offline"], capture_stdout=True, check=False)
        assert json.loads(again.stdout)["already_installed"] is True
        receipt = Store(it.store).receipt(sample.minimal.release, Path(told["path"]))
        assert receipt is not None
        assert receipt.proofs == told["proofs"]


async def test_an_author_who_is_not_the_packager_vouches_for_nobody(tmp_path: Path, sample: Sample) -> None:
    """The proofs are good, but their author has published no record: somebody else's is not taken for his."""
    async with scene(tmp_path, sample) as it, served(site(of_bundle(draft(sample).bundle()))) as server:
        await it.seed()
        with rejects("notfound.record", step=2):
            await it.resolve(request=Request(sample.minimal.release), **proven_by(server.url))
        assert leftovers(it.store) == []


async def test_liars_are_named_and_passed_over(tmp_path: Path, sample: Sample) -> None:
    good = draft(sample).bundle()
    stolen = replace(good, stamps=(replace(good.stamps[0], tsa=good.stamps[1].tsa), *good.stamps[1:]))
    async with scene(tmp_path, sample) as it, AsyncExitStack() as stack:
        await it.seed()
        sites = [
            of_bundle(stolen),
            {"bundle/sample@1.0.0": b"[" * 5000},
            {"bundle/sample@1.0.0": b" " * (limits.BUNDLE_BYTES + 1)},
            {},
            {"packages/sample@1.0.0/silexium.json": good.data},  # a mirror of packages
        ]
        urls = [(await stack.enter_async_context(served(site(files)))).url for files in sites]
        dead = "http://127.0.0.1:1"
        outcome = await it.resolve(**proven_by(dead, *urls))
        assert outcome.silexium == "proven"
        assert outcome.sources["proofs"] == urls[-1]
        passed_over = [str(line) for line in outcome.sources["passed_over"]]  # type: ignore[attr-defined]  # a list
        reasons = [re.findall(r"\[([a-z.-]+)\]$", line) for line in passed_over]
        assert reasons == [
            ["http.unreachable"],
            ["silexium.tsa-imprint"],
            ["silexium.bundle"],
            ["http.too-large"],
            [],
        ]
        assert [line.partition(": ")[0] for line in passed_over] == [dead, *urls[:-1]]


async def test_only_liars_refuse_it_with_the_reason_of_the_first(tmp_path: Path, sample: Sample) -> None:
    good = draft(sample).bundle()
    forged = replace(good, inclusion=replace(good.inclusion, index=3))
    async with scene(tmp_path, sample) as it, served(site({})) as empty, served(site(of_bundle(forged))) as liar:
        await it.seed()
        with rejects("silexium.inclusion", step=10) as errors:
            await it.resolve(**proven_by(empty.url, liar.url))
        assert errors[0].evidence["source"] == liar.url
        assert len(errors[0].details) == 2
        with rejects("silexium.unlogged", step=10):
            await it.resolve(**proven_by(empty.url))
        with rejects("silexium.unreachable", step=10) as errors:
            await it.resolve(**proven_by("http://127.0.0.1:1"))
        assert errors[0].exit_code == 11
        assert leftovers(it.store) == []


async def test_what_the_proofs_refuse_is_not_even_looked_for(tmp_path: Path, sample: Sample) -> None:
    """Neither the DHT nor a peer hears of a release whose documents do not hold."""
    bundle = draft(sample).bundle()
    dht = LyingDht()
    path = tmp_path / "bundle.json"
    path.write_bytes(replace(bundle, cosignatures=("x",)).data)
    options = proven_by(make_dht=lambda *_: dht)
    options["proofs"] = ProofOptions(path, now=lambda: NOW)
    async with scene(tmp_path, sample) as it:
        with rejects("silexium.witness", step=10):
            await it.resolve(**options)
    assert dht.asked == []


@pytest.mark.parametrize(("wrong", "reason"), [("tgz", "silexium.artifact"), ("src", "silexium.src")])
async def test_content_that_was_not_attested_is_fetched_and_leaves_nothing(
    tmp_path: Path, sample: Sample, wrong: str, reason: str
) -> None:
    """Only the content shows it; then not even the download is kept."""
    other = release_manifest(sample, **{wrong: b"something else"})
    async with scene(tmp_path, sample) as it, served(site(of_bundle(draft(sample, manifest=other).bundle()))) as server:
        await it.seed()
        with rejects(reason, step=10) as errors:
            await it.resolve(**proven_by(server.url))
        rows = errors[0].evidence["checks"]
        assert isinstance(rows, list)
        assert rows[-1]["verdict"] == reason
        assert len(rows) == {"tgz": 12, "src": 13}[wrong]
        assert leftovers(it.store) == []


async def test_growth_is_proven_by_the_tiles_of_a_server(tmp_path: Path, sample: Sample) -> None:
    desk = Desk(sample, tmp_path)
    making = draft(sample)
    bundle = making.bundle()
    folder = export(making.log, tmp_path / "log", bundle)
    desk.remember(making.log, 7, at=STAMPED)
    files, asked = files_of(folder), list[str]()
    async with scene(tmp_path, sample) as it, served(site(files, asked)) as server:
        await it.seed()
        without = {path: data for path, data in files.items() if not path.startswith("tile/")}
        async with served(site(without)) as bare:
            with rejects("silexium.consistency", step=10):
                await it.resolve(**proven_by(bare.url))
        assert desk.installed() == []
        outcome = await it.resolve(**proven_by(server.url))
        assert outcome.silexium == "proven"
        assert "tile/0/000.p/16" in asked
        memory = desk.recall().memory
        assert memory is not None
        assert memory.head.size == 16


async def test_what_was_installed_without_proofs_gets_them(tmp_path: Path, sample: Sample) -> None:
    """The tree stays in its place; it is fetched once more, because no tree shows which .tgz it came from."""
    async with scene(tmp_path, sample) as it, served(site(of_bundle(draft(sample).bundle()))) as server:
        await it.seed()
        first = await it.resolve()
        assert first.silexium == "not checked"
        inode = Path(first.path).stat().st_ino
        with rejects("silexium.unlogged", step=10):  # the word of an earlier run is no proof
            async with served(site({})) as empty:
                await it.resolve(**proven_by(empty.url))
        second = await it.resolve(**proven_by(server.url))
        assert (second.silexium, second.already) == ("proven", False)
        assert Path(second.path).stat().st_ino == inode
        assert_installed(sample, second.path)
        assert (await it.resolve(**proven_by())).already


async def test_a_changed_tree_is_not_proven_over(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it, served(site(of_bundle(draft(sample).bundle()))) as server:
        await it.seed()
        first = await it.resolve()
        (Path(first.path) / "bin" / "run").write_bytes(b"#!/bin/sh\nexit 1\n")
        with rejects("storage.occupied"):
            await it.resolve(**proven_by(server.url))
        receipt = Store(it.store).receipt(sample.minimal.release, Path(first.path))
        assert receipt is not None
        assert receipt.silexium == "not checked"


async def test_offline_with_a_bundle_makes_no_socket_of_the_internet(tmp_path: Path, sample: Sample) -> None:
    store, trace, bundle = tmp_path / "store", tmp_path / "trace", tmp_path / "bundle.json"
    store.mkdir()
    put_content(sample, store)
    bundle.write_bytes(settled_draft(sample).bundle().data)
    line = [require_program("strace"), "-f", "-e", "trace=socket,connect,sendto", "-o", str(trace), *MODULE]
    line += [
        "sample@1.0.0",
        "--offline",
        "--bundle",
        str(bundle),
        "--publisher",
        str(KEY.public),
        "--json",
        "--explain",
    ]
    line += ["--policy", str(write_policy(tmp_path / "policy.json")), "--store", str(store)]
    environment = {**os.environ, "HOME": str(tmp_path)}
    run = partial(trio.run_process, line, capture_stdout=True, capture_stderr=True, check=False, env=environment)
    with trio.fail_after(60):
        done = await run()
    told = json.loads(done.stdout)
    assert (told["ok"], told["silexium"]) == (True, "proven"), told
    assert re.findall(rb"^(10\.\d+) +passed", done.stderr, re.MULTILINE) == [b"10.%d" % n for n in range(1, 14)]
    assert "exited with 0" in trace.read_text()
    assert not re.search(r"AF_(INET|INET6|NETLINK|PACKET)", trace.read_text())


async def test_one_mirror_gives_the_package_and_its_proofs(tmp_path: Path, sample: Sample) -> None:
    """No DHT, no peer, no Silexium server, no pin: one place that nobody trusts has all of it."""
    files = mirror_support.files_of(sample)
    files["/packages/sample@1.0.0/silexium.json"] = settled_draft(sample, keys=AUTHOR_IS_PACKAGER).bundle().data
    line = [*MODULE, "sample@1.0.0", "--store", str(tmp_path / "store"), "--json"]
    line += ["--policy", str(write_policy(tmp_path / "policy.json", author=KEY))]
    async with trio.open_nursery() as nursery:
        mirror = await mirror_support.start(nursery, files)
        environment = {**os.environ, "HOME": str(tmp_path), "LIBRESEED_BOOTSTRAP": ""}
        run = partial(trio.run_process, [*line, "--mirror", mirror.url], env=environment, check=False)
        with trio.fail_after(60):
            done = await run(capture_stdout=True, capture_stderr=True)
        told = json.loads(done.stdout)
        assert told["ok"], told
        assert (told["silexium"], told["trust"]) == ("proven", "silexium")
        assert told["sources"]["proofs"] == mirror.url
        assert_installed(sample, told["path"])

        bundle = json.loads(files["/packages/sample@1.0.0/silexium.json"])
        bundle["entry"] = bundle["entry"].replace('"version":1', '"version":2')
        mirror.files["/packages/sample@1.0.0/silexium.json"] = wire.canonical(bundle)
        asked = len(mirror.asked)
        line[line.index("--store") + 1] = str(tmp_path / "other")
        run = partial(trio.run_process, [*line, "--mirror", mirror.url], env=environment, check=False)
        done = await run(capture_stdout=True, capture_stderr=True)
        told = json.loads(done.stdout)
        assert (told["reason"], told["check"]) == ("silexium.entry", "10.8")
        assert all("silexium" in one.path or "bundle" in one.path for one in mirror.asked[asked:])
        assert leftovers(tmp_path / "other") == []
        nursery.cancel_scope.cancel()


async def test_a_dht_that_is_not_there_keeps_no_mirror_from_giving(tmp_path: Path, sample: Sample) -> None:
    """As on a network that lets only HTTP out: the usual bootstrap nodes do not answer."""
    files = mirror_support.files_of(sample)
    files["/packages/sample@1.0.0/silexium.json"] = draft(sample).bundle().data
    async with scene(tmp_path, sample, publish=False) as it:
        mirror = await mirror_support.start(it.nursery, files)
        nobody = (Endpoint("127.0.0.1", 1),)
        more = proven_by(mirror.url, bootstrap=nobody, mirrors=MirrorOptions((mirror.url,)))
        outcome = await it.resolve(**more)
        assert outcome.silexium == "proven"
        assert_installed(sample, outcome.path)


@pytest.mark.slow
async def test_kill_9_at_random_moments_shows_nothing_and_forgets_nothing(tmp_path: Path) -> None:
    """Killed while proofs are checked, remembered, while chunks arrive: the last run finishes what the others began."""
    sample = make_sample(tmp_path / "release", 1_000_000)  # of pieces enough that some are whole long before the last
    path = tmp_path / "bundle.json"
    path.write_bytes(settled_draft(sample).bundle().data)
    proofs = ("--bundle", str(path), "--policy", str(write_policy(tmp_path / "policy.json")))
    async with scene(tmp_path, sample) as it:
        seeder = await it.seed()
        seeder.session.set_limits(upload=250_000)
        ordeal = await kill_and_resume(it, random.Random(7), most_kills=4, longest_s=1.5, more=proofs)
        assert ordeal.kills >= 4
        assert ordeal.result["silexium"] == "proven"
        assert_installed(sample, str(ordeal.result["path"]))
        memory = TrustMemory(it.store).recall(LOG, sample.minimal.release)
        assert memory.memory is not None
        assert (memory.memory.head.size, memory.memory.conflict) == (16, None)
        left = [file for file in (it.store / "silexium").rglob("*") if file.is_file()]
        assert sorted(file.suffix for file in left) == [".json", ".json"]  # a memory and an entry, nothing half-written


async def test_a_tree_whose_receipt_was_lost_in_a_crash_is_proven_again(tmp_path: Path, sample: Sample) -> None:
    """The crash came between the rename and the receipt: what the download left is judged again, the tree stays."""
    desk = Desk(sample, tmp_path)
    bundle = draft(sample).bundle()
    first = await desk.resolve(bundle)
    inode = Path(first.path).stat().st_ino
    [receipt] = (desk.store / "receipts").iterdir()
    receipt.unlink()
    with rejects("notfound.offline"):  # the workspace is gone: nothing shows which .tgz the tree came from
        await desk.resolve(bundle)
    put_content(sample, desk.store)
    again = await desk.resolve(bundle)
    assert (again.silexium, again.already, Path(again.path).stat().st_ino) == ("proven", False, inode)
    assert receipt.exists()

    receipt.unlink()
    (Path(first.path) / "data" / "empty").write_bytes(b"x")
    put_content(sample, desk.store)
    with rejects("storage.occupied"):
        await desk.resolve(bundle)
    assert not receipt.exists()


async def test_a_bundle_keeps_every_server_out_of_it(tmp_path: Path, sample: Sample) -> None:
    asked = list[str]()
    path = tmp_path / "bundle.json"
    path.write_bytes(draft(sample).bundle().data)
    async with scene(tmp_path, sample) as it, served(site({}, asked)) as server:
        await it.seed()
        options = proven_by(server.url)
        options["proofs"] = ProofOptions(path, (server.url,), now=lambda: NOW)
        assert (await it.resolve(**options)).silexium == "proven"
    assert asked == []
