"""The server as operators and CI run it: keys, attestations, ingest, a real process, and proofs that hold."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from libreseed.adapters.http.client import HttpClient, HttpClientOptions
from libreseed.ids import ReleaseId
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.install_answer import parse_install_answer
from libreseed.silexium.tree_head import parse_checkpoint
from libreseed.silexium.verification import ReleaseVerification
from tests.http_support import make_tls
from tests.silexium_server_support import Shop, run, starting, wait_until

pytestmark = pytest.mark.integration


def post(url: str, value: object) -> bytes:
    request = urllib.request.Request(url, json.dumps(value).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


def test_a_release_goes_from_ci_into_the_log_and_its_answer_proves_it(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    first, second = shop.attested("hello@1.0.0"), shop.attested("hello@1.1.0", binaries={"linux": b"tool"})
    assert shop.ingest(first)["state"] == "staged"
    with starting(shop) as server:
        wait_until(shop, ["hello@1.0.0"], server=server)
        assert shop.ingest(first)["state"] == "logged"
        old = parse_install_answer(post(f"{server.url}/install", {"package": "hello", "os": "linux", "arch": "x86_64"}))
        assert old.release == ReleaseId.parse("hello@1.0.0")
        assert shop.ingest(second)["server_running"] is True
        wait_until(shop, ["hello@1.1.0"], server=server)
        asked = {"package": "hello", "os": "linux", "arch": "x86_64", "known_sth": old.bundle.sth}
        deadline = time.monotonic() + 60
        while (new := parse_install_answer(post(f"{server.url}/resolve", asked))).release == old.release:
            assert time.monotonic() < deadline, "the new head is served within a second"
        assert new.release == ReleaseId.parse("hello@1.1.0")
        assert new.binary is not None
        bundle = parse_bundle(get(f"{server.url}/bundle/hello@1.0.0"))
        checkpoint = get(f"{server.url}/checkpoint")
        assert json.loads(get(f"{server.url}/health"))["status"] == "ok"
        assert server.stop() == 0
    policy, now = shop.policy(), int(time.time())
    before = verify_bundle(ReleaseVerification(policy, old.release, now=now), old.bundle)
    after = verify_bundle(
        ReleaseVerification(policy, new.release, now=now), new.bundle, memory=before.memory, proof=new.consistency
    )
    assert after.memory is not None
    assert parse_checkpoint(checkpoint, policy.logs[0].identity).sth.size == after.memory.head.size == 2
    assert verify_bundle(ReleaseVerification(policy, old.release, now=now), bundle).entry == before.entry
    assert "stopped" in server.text()


def refusal(shop: Shop, code: int) -> str:
    """Why a server does not start: the reason."""
    line = [sys.executable, "-m", "libreseed_services.silexium.cli", "serve", "--config", str(shop.server), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return str(json.loads(done.stdout)["reason"])


def settings(shop: Shop, old: str, new: str) -> None:
    path = shop.server / "silexium.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "reason", "code"),
    [
        ("origin = ", "# ", "config.value", 3),
        ("origin = ", "organ = ", "config.unknown-key", 3),
        ('log-key = "log.key"', "", "config.value", 3),
        ('log-key = "log.key"', 'log-key = "none.key"', "notfound.file", 10),
        ("embedded = ", "# ", "config.value", 3),
        ("embedded = ", "time = {}\nembedded = ", "config.value", 3),
        ("embedded = ", "head-seconds = -1\nembedded = ", "config.value", 3),
        ("listen = ", 'listen = "nowhere"\n# ', "config.endpoint", 3),
        ("listen = ", 'certificate = "cert.pem"\nlisten = ', "config.tls", 3),
    ],
)
@pytest.mark.timeout(60)  # a server that starts after all would run for good
def test_settings_that_cannot_work_are_named(tmp_path: Path, old: str, new: str, reason: str, code: int) -> None:
    shop = Shop.make(tmp_path / "shop")
    settings(shop, old, new)
    assert run("serve", "--config", shop.server, code=code)["reason"] == reason
    if reason != "config.tls":  # all else is found before anything is written
        assert not (shop.server / "silexium.db.head").exists()


@pytest.mark.parametrize("place", ["environment", "beside-the-settings", "users-folder"])
@pytest.mark.timeout(60)
def test_a_server_that_can_read_a_publishers_key_refuses_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Its own two keys, and those of its embedded authorities, lie where the other tests start it."""
    shop = Shop.make(tmp_path / "shop")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    found = "LIBRESEED_KEY"
    if place == "environment":
        monkeypatch.setenv("LIBRESEED_KEY", shop.key("author").read_text())
    else:
        folder = shop.server if place == "beside-the-settings" else tmp_path / "home" / "libreseed" / "keys"
        folder.mkdir(parents=True, exist_ok=True)
        found = str(shutil.copy(shop.key("author"), folder / "somebodys.key"))
    told = run("serve", "--config", shop.server, code=3)
    assert told["reason"] == "key.on-log" and found in told["message"]
    assert not (shop.server / "silexium.db.head").exists()


def test_keys_of_its_own_in_the_users_folder_are_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop.make(tmp_path / "shop")
    (tmp_path / "home").mkdir()
    shop.server.rename(tmp_path / "home" / "libreseed")
    shop.server.symlink_to(tmp_path / "home" / "libreseed")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    with starting(shop) as server:
        assert server.stop() == 0


@pytest.mark.parametrize("command", ["witness", "mirror"])
@pytest.mark.timeout(60)
def test_a_witness_and_a_mirror_refuse_to_start_beside_a_publishers_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    shop = Shop.make(tmp_path / "shop")
    identity = shop.site().log_identity()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "libreseed").mkdir(parents=True)
    shutil.copy(shop.key("tests"), tmp_path / "home" / "libreseed" / "witness.key")
    line: list[object] = ["--log", identity.name, identity.key]
    if command == "witness":
        key = tmp_path / "home" / "libreseed" / "witness.key"  # its own, which is no reason
        line = ["witness", "serve", "--name", "w.example", "--key", key, "--database", tmp_path / "w.db", *line]
    else:
        line = ["mirror", tmp_path, "--out", tmp_path / "copy", "--serve", "127.0.0.1:0", *line]
    stolen = shutil.copy(shop.key("author"), tmp_path / "home" / "libreseed" / "author.key")
    told = run(*line, code=3)
    assert told["reason"] == "key.on-log"
    assert command == "mirror" or str(stolen) in told["message"]


def test_a_database_of_another_log_is_refused(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    with starting(shop) as server:
        assert server.stop() == 0
    settings(shop, "log.test/silexium-b3", "other.test/silexium-b3")
    assert refusal(shop, 3) == "config.log"


@pytest.mark.slow
def test_a_database_put_back_from_a_backup_is_refused(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    shop.ingest(shop.attested("hello@1.0.0"))
    with starting(shop) as server:
        wait_until(shop, ["hello@1.0.0"], server=server)
        assert server.stop() == 0
    run("log", "backup", tmp_path / "yesterday.db", "--config", shop.server)
    shop.ingest(shop.attested("hello@1.1.0"))
    with starting(shop) as server:
        wait_until(shop, ["hello@1.1.0"], server=server)
        assert server.stop() == 0
    for suffix in ("", "-wal", "-shm"):
        (shop.server / f"silexium.db{suffix}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "yesterday.db", shop.server / "silexium.db")
    assert refusal(shop, 40) == "silexium.shrunk"


async def test_tls_and_http_2(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    shop.ingest(shop.attested("hello@1.0.0"))
    host = shop.site().listen.host
    tls = make_tls(tmp_path / "tls", hosts=(host,))
    with starting(shop, "--certificate", str(tls.certfile), "--certificate-key", str(tls.keyfile)) as server:
        assert server.url.startswith("https://")
        wait_until(shop, ["hello@1.0.0"], server=server)
        options = HttpClientOptions(ca_file=tls.certfile, use_proxies=False)
        async with HttpClient(options) as client:
            asked = {"package": "hello", "os": "linux", "arch": "x86_64", "version": "1.0.0"}
            answer = await client.post_json(f"{server.url}/install", asked, most=2**20)
            assert parse_install_answer(answer.require().body).release == ReleaseId.parse("hello@1.0.0")
        assert server.stop() == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_cleanly_whoever_is_connected(tmp_path: Path, how: signal.Signals) -> None:
    shop = Shop.make(tmp_path / "shop")
    with starting(shop) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as idle, socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /install HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            assert get(f"{server.url}/checkpoint")
            assert server.stop(how) == 0
            assert idle.recv(1) == b""
    assert "Traceback" not in server.text()
    assert not list(shop.server.glob("*.wake"))


def test_hostile_clients_are_refused_and_others_served_beside_them(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    shop.ingest(shop.attested("hello@1.0.0"))
    with starting(shop) as server:
        wait_until(shop, ["hello@1.0.0"], server=server)
        host, port = server.url.removeprefix("http://").split(":")
        slow = [socket.create_connection((host, int(port))) for _ in range(50)]
        for connection in slow:
            connection.sendall(b"POST /install HTTP/1.1\r\nx-slow: ")
        heads = (b"content-length: 100000000\r\n", b"content-length: -1\r\n", b"transfer-encoding: gzip\r\n")
        for head in heads:
            with socket.create_connection((host, int(port))) as hostile:
                hostile.sendall(
                    b"POST /install HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" + head + b"\r\n"
                )
                status = hostile.recv(65536).split(b" ")[1]
                assert 400 <= int(status) < 500 or int(status) == 501
        for _ in range(20):
            answer = post(f"{server.url}/install", {"package": "hello", "os": "linux", "arch": "x86_64"})
            assert parse_install_answer(answer).release == ReleaseId.parse("hello@1.0.0")
        for connection in slow:
            connection.close()
        assert server.stop() == 0
    assert "Traceback" not in server.text()
