"""A real log is put back from yesterday's backup, and the resolver, which has seen more of it, notices.

The server notices by itself (``<database>.head``); here its operator has removed that file, as an attacker would. What
the resolver says is enough to see: proofs that hold end in step 2, where nobody has the package; others in step 10.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from pathlib import Path

import pytest
import trio

from libreseed.adapters.command.console import Progress
from libreseed.adapters.silexium.proofs.trust_memory import TrustMemory
from libreseed.errors import LibreSeedError
from libreseed.ids import ReleaseId
from libreseed.resolve.policy import Policy
from libreseed.resolve.request import Request
from services.resolver.flow import Options, resolve
from services.resolver.proofs import ProofOptions
from tests.attacks.attack_support import LyingDht
from tests.silexium_server_support import Shop, run, starting, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]
A, UNSEEN, B, C = "first@1.0.0", "unseen@1.0.0", "second@1.0.0", "third@1.0.0"


async def verdict(shop: Shop, store: Path, release: str, source: object, bundle: Path | None = None) -> LibreSeedError:
    """How a resolve of ``release`` ends that asks ``source`` for proofs and then nobody for the package."""
    options = Options(
        request=Request(ReleaseId.parse(release)),
        policy=Policy(silexium=shop.policy(), patience_s=1),
        store=store,
        timeout=60.0,
        make_dht=lambda *_: LyingDht(),
        proofs=ProofOptions(bundle, (str(source),)),
    )
    with Progress(quiet=True) as progress, pytest.raises((LibreSeedError, BaseExceptionGroup)) as caught:
        await resolve(options, progress)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    assert isinstance(error, LibreSeedError)
    return error


def served(url: str, release: str) -> bytes:
    """Wait until the server's current head has ``release``; its bundle."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/bundle/{release}", timeout=10) as answer:
                return bytes(answer.read())
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{release} is not served")


def remembered(shop: Shop, store: Path) -> int:
    [log] = shop.policy().logs
    memory = TrustMemory(store).recall(log.identity, ReleaseId.parse(A)).memory
    assert memory is not None
    return memory.head.size


async def test_an_exported_log_proves_growth_where_no_server_is_asked(tmp_path: Path) -> None:
    """A stick with the log's folder and two bundles: the second one needs the folder, and gets it."""
    shop, store = Shop.make(tmp_path / "shop"), tmp_path / "store"
    first, second, folder = tmp_path / "first.json", tmp_path / "second.json", tmp_path / "log"
    with starting(shop) as server:
        for release, path in ((A, first), (B, second)):
            shop.ingest(shop.attested(release))
            await trio.to_thread.run_sync(wait_until, shop, [release])
            path.write_bytes(await trio.to_thread.run_sync(served, server.url, release))
        assert server.stop() == 0
    run("log", "export", folder, "--config", shop.server)
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    for bundle, release, source, expected in (
        (first, A, nothing, ("notfound.record", 2)),  # first contact
        (second, B, nothing, ("silexium.consistency", 10)),
        (second, B, folder, ("notfound.record", 2)),
    ):
        error = await verdict(shop, store, release, source, bundle)
        assert (error.reason, error.step) == expected
    assert remembered(shop, store) == 2


async def test_yesterdays_backup_of_a_real_log_is_refused(tmp_path: Path) -> None:
    shop, store = Shop.make(tmp_path / "shop"), tmp_path / "store"
    in_thread = trio.to_thread.run_sync
    database, backup = shop.server / "silexium.db", tmp_path / "backup.db"
    with starting(shop) as server:
        shop.ingest(shop.attested(A))
        await in_thread(wait_until, shop, [A])
        await in_thread(served, server.url, A)
        error = await verdict(shop, store, A, server.url)
        assert (error.reason, error.step, remembered(shop, store)) == ("notfound.record", 2, 1)
        shop.ingest(shop.attested(UNSEEN))
        await in_thread(wait_until, shop, [UNSEEN])
        assert server.stop() == 0
    shutil.copyfile(database, backup)  # the server has ended: the file is whole

    with starting(shop) as server:
        shop.ingest(shop.attested(B))
        await in_thread(wait_until, shop, [B])
        await in_thread(served, server.url, B)
        error = await verdict(shop, store, B, server.url)  # growth is proven by the tiles of the server
        assert (error.reason, error.step, remembered(shop, store)) == ("notfound.record", 2, 3)
        assert server.stop() == 0

    for left in shop.server.glob("silexium.db*"):
        left.unlink()
    shutil.copyfile(backup, database)
    with starting(shop) as server:
        await in_thread(served, server.url, A)
        error = await verdict(shop, store, A, server.url)
        told = (error.reason, error.step, error.evidence.get("check"))
        assert told == ("silexium.rollback", 10, "10.11"), error.details
        shop.ingest(shop.attested(C))
        await in_thread(wait_until, shop, [C])
        await in_thread(served, server.url, C)
        error = await verdict(shop, store, C, server.url)  # the log has three entries again, but not the same
        assert (error.reason, error.step, error.evidence["check"]) == ("silexium.fork", 10, "10.11")
        [evidence] = (store / "silexium" / "evidence").iterdir()
        assert json.loads(evidence.read_text())["first"]["tree_size"] == 3
        error = await verdict(shop, store, A, server.url)
        assert error.reason == "silexium.fork"
        assert server.stop() == 0
    assert remembered(shop, store) == 3
