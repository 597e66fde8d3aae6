"""A server whose heads wait for a witness, both as processes; and the witness against a server with an old database."""

from __future__ import annotations

import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from libreseed.ids import PublicKey
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.tree_head import NamedKey, parse_checkpoint
from tests.integration.test_silexium_log_commands import Desk
from tests.seeder_support import loopback
from tests.silexium_server_support import Shop, run, starting, wait_until

pytestmark = pytest.mark.integration

NAME = "witness.test"


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def until(what: str, found: object, deadline: float) -> None:
    if not found:
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def cosigned_size(url: str, log: NamedKey, witness: NamedKey, least: int) -> int:
    """Wait until the served head has ``least`` entries; it never lacks the witness."""
    deadline = time.monotonic() + 60
    while True:
        status, body = get(f"{url}/checkpoint")
        if status == 200:
            checkpoint = parse_checkpoint(body, log, [witness])
            assert [one.signer for one in checkpoint.cosignatures] == [witness]
            if checkpoint.sth.size >= least:
                return checkpoint.sth.size
        until("a cosigned head", False, deadline)


@pytest.mark.slow
def test_heads_wait_for_their_witness_which_notices_an_old_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop.make(tmp_path / "shop")
    log = shop.site().log_identity()
    witness = NamedKey(
        NAME, PublicKey.parse(run("key", "new", "--out", tmp_path / "w.key", "--no-passphrase")["pubkey"])
    )
    serving = Desk(tmp_path, capsys).serving(
        *("witness", "serve", "--name", NAME, "--key", tmp_path / "w.key", "--database", tmp_path / "w.db"),
        *("--log", log.name, log.key, "--listen", f"{loopback()}:0"),
    )
    with serving as url:
        with (shop.server / "silexium.toml").open("a") as settings:
            settings.write(f'cosigned = 1\n[[witnesses]]\nname = "{NAME}"\nkey = "{witness.key}"\nurl = "{url}"\n')
        shop.ingest(shop.attested("hello@1.0.0"))
        with starting(shop) as server:
            wait_until(shop, ["hello@1.0.0"])
            assert cosigned_size(server.url, log, witness, 1) == 1
            status, data = get(f"{server.url}/bundle/hello@1.0.0")
            assert status == 200 and len(parse_bundle(data).cosignatures) == 1
            run("log", "backup", tmp_path / "yesterday.db", "--config", shop.server)
            shop.ingest(shop.attested("hello@1.1.0"))
            wait_until(shop, ["hello@1.1.0"])
            assert cosigned_size(server.url, log, witness, 2) == 2
            assert server.stop() == 0
        for path in shop.server.glob("silexium.db*"):  # on a new machine: not even the high-water file is left
            path.unlink()
        shutil.copy(tmp_path / "yesterday.db", shop.server / "silexium.db")
        shop.ingest(shop.attested("hello@2.0.0"))
        with starting(shop, wait=False) as server:
            assert server.process.wait(60) == 40
            assert "silexium.shrunk" in server.text()
        outcome = run("log", "head", "--sign", "--config", shop.server, code=40)
        assert outcome["reason"] == "silexium.shrunk"
        assert shop.states()["hello@2.0.0"] == "staged"
