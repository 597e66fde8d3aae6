"""The mirror as a process: start and stop, other programs as its clients, crowds that must not disturb others."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libreseed.errors import UsageFault
from services.mirror import cli
from services.mirror.config import load_config
from services.packager import cli as packager
from tests.http_support import make_tls
from tests.mirror_daemon_support import big_release, curl, mirror_process, web_seed_download
from tests.seeder_support import flip, until
from tests.tools import require_program

pytestmark = pytest.mark.integration


def test_it_serves_stops_and_remembers(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=100_000)
    for judged in (True, False):
        with mirror_process(tmp_path / "store") as mirror:
            assert curl(f"{mirror.url}/packages/hello@1.0.0") == files.tgz.read_bytes()
            assert mirror.stop() == 0
        assert ("hello@1.0.0: whole" in mirror.text()) == judged
        assert "Traceback" not in mirror.text()


def test_curl_over_both_versions_of_http_with_tls_ranges_and_resume(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    whole = files.tgz.read_bytes()
    tls = make_tls(tmp_path / "tls")
    with mirror_process(tmp_path / "store", "--cert", str(tls.certfile), "--key", str(tls.keyfile)) as mirror:
        assert mirror.url.startswith("https://")
        url, trust = f"{mirror.url}/packages/hello@1.0.0", ("--cacert", str(tls.certfile))
        for version in ("--http1.1", "--http2"):
            assert curl(version, *trust, url) == whole
            assert curl(version, *trust, "--range", "1000-700000", url) == whole[1000:700_001]
        part = tmp_path / "part"
        part.write_bytes(whole[:654_321])
        curl(*trust, "--continue-at", "-", "--output", str(part), url)
        assert part.read_bytes() == whole


def test_a_new_certificate_is_taken_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    tls = make_tls(tmp_path / "tls")
    with mirror_process(tmp_path / "store", "--cert", str(tls.certfile), "--key", str(tls.keyfile)) as mirror:
        host, port = mirror.url.removeprefix("https://").split(":")
        before = ssl.get_server_certificate((host, int(port)))
        make_tls(tmp_path / "tls")
        mirror.process.send_signal(signal.SIGHUP)
        until(lambda: "read anew" in mirror.text())
        assert ssl.get_server_certificate((host, int(port))) != before
        tls.keyfile.write_text("no key")
        mirror.process.send_signal(signal.SIGHUP)
        until(lambda: "the certificate in use stays" in mirror.text())
        assert curl("--cacert", str(tls.certfile), f"{mirror.url}/health")


def test_libtorrent_takes_a_mirror_for_a_web_seed(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=3_000_000)
    with mirror_process(tmp_path / "store") as mirror:
        web_seed_download(files.path(".torrent").read_bytes(), f"{mirror.url}/seed/", tmp_path / "got")
    for suffix in (".tgz", ".chunks", ".parity"):
        assert (tmp_path / "got/hello@1.0.0" / f"hello@1.0.0{suffix}").read_bytes() == files.path(suffix).read_bytes()


def test_one_mirror_per_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with mirror_process(tmp_path / "store"), mirror_process(tmp_path / "store", wait=False) as second:
        assert second.process.wait(60) == 50
        assert "storage.locked" in second.text()


@pytest.mark.parametrize("place", ["store/key", "store/hello@1.0.0/key.json", "etc/other.key"])
def test_a_mirror_that_can_read_a_publishers_key_refuses_to_start(tmp_path: Path, place: str) -> None:
    big_release(tmp_path / "store", size=20_000)
    tls = make_tls(tmp_path / "etc")  # its own key is no reason
    (tmp_path / "etc/mirror.toml").write_text(f'cert = "{tls.certfile}"\nkey = "{tls.keyfile}"\n')
    line = ("--config", str(tmp_path / "etc/mirror.toml"), "--listen", "127.0.0.1:0")
    with mirror_process(tmp_path / "store", *line) as mirror:
        assert mirror.stop() == 0
    assert packager.main(["keygen", "--out", str(tmp_path / place), "--no-passphrase"]) == 0
    with mirror_process(tmp_path / "store", *line, wait=False) as mirror:
        assert mirror.process.wait(60) == 3
    assert "[key.on-mirror]" in mirror.text() and str(tmp_path / place) in mirror.text()


@pytest.mark.parametrize("with_certificate", [False, True])
def test_a_mirror_with_a_publishers_key_in_its_environment_refuses_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], with_certificate: bool
) -> None:
    big_release(tmp_path / "store", size=20_000)
    assert packager.main(["keygen", "--out", str(tmp_path / "key"), "--no-passphrase"]) == 0
    tls = make_tls(tmp_path / "tls")
    line = ["serve", "--store", str(tmp_path / "store"), "--listen", "127.0.0.1:0"]
    if with_certificate:
        line += ["--cert", str(tls.certfile), "--key", str(tls.keyfile)]
    monkeypatch.setenv("LIBRESEED_KEY", str(tmp_path / "key"))  # must not pass for the certificate's
    assert cli.main(line) == 3
    assert "[key.on-mirror]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--store", "absent"], 10, "notfound.file"),
        (["--store", ".", "--cert", "x"], 3, "config.tls"),
        (["--store", ".", "--cert", "/etc/hostname", "--key", "/etc/hostname"], 3, "config.tls"),
        (["--store", ".", "--listen", "nonsense"], 2, "usage"),
        (["--store", ".", "--listen", "192.0.2.1:1"], 3, "config.port"),
        (["--store", ".", "--publisher", "ed25519:x"], 2, "usage"),
        (["--config", "absent.toml"], 10, "notfound.file"),
    ],
)
def test_a_users_mistake_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["serve", *arguments]) == code
    error = capsys.readouterr().err
    assert f"[{reason}]" in error and "Traceback" not in error


@pytest.mark.parametrize("proxy", ["localhost", "10.0.0.0/8", "proxy.example.org", "127.0.0.1:8080", "[::1]"])
def test_a_proxy_that_could_never_be_recognised_is_refused(tmp_path: Path, proxy: str) -> None:
    """It would be believed to be named, and each of its clients be one of this machine's, without any bound."""
    (tmp_path / "mirror.toml").write_text(f'trusted-proxy = ["{proxy}"]\n')
    with pytest.raises(UsageFault) as raised:
        load_config(tmp_path / "mirror.toml", {}, {})
    assert raised.value.reason == "config.value" and "trusted-proxy" in raised.value.message


@pytest.mark.parametrize("spelling", ["0:0:0:0:0:0:0:1", "::0001", "::1"])
def test_a_proxy_may_be_spelled_in_any_way(tmp_path: Path, spelling: str) -> None:
    (tmp_path / "mirror.toml").write_text(f'trusted-proxy = ["{spelling}"]\n')
    assert load_config(tmp_path / "mirror.toml", {}, {}).trusted_proxy == ("::1",)


def test_every_setting_can_come_from_a_file(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store", size=20_000)
    config = tmp_path / "mirror.toml"
    config.write_text(
        f'store = "{tmp_path}/store"\nlisten = ["127.0.0.1:0", "127.0.0.2:0"]\nscrub-interval = 3600\n'
        "connections = 50\nconnections-per-client = 10\nrequest-rate = 100\nrequest-burst = 1000\n"
        'trusted-proxy = ["127.0.0.1"]\nhead-timeout = 5\nstall-timeout = 20\npatience = 5\n'
    )
    with mirror_process(tmp_path / "store", "--config", str(config)) as mirror:
        assert mirror.text().count("serving http://") == 2
        assert curl(f"{mirror.url}/packages/hello@1.0.0") == files.tgz.read_bytes()


def test_a_store_that_cannot_be_written_to_is_served_and_not_healed(tmp_path: Path) -> None:
    files = big_release(tmp_path / "store")
    whole = files.tgz.read_bytes()
    under = []
    if os.geteuid() == 0:  # without its capabilities, root is an owner like others
        under = [require_program("setpriv"), "--bounding-set=-all", "--inh-caps=-all"]
    flip(files.tgz, 200 * 5120)
    for path in (*files.folder.iterdir(), files.folder, tmp_path / "store"):
        path.chmod(0o555)
    line = [*under, sys.executable, "-m", "libreseed_services.mirror.cli", "serve", "--store", str(tmp_path / "store")]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*line, "--listen", "127.0.0.1:0"], stdout=output, stderr=output)
    try:
        until(lambda: "damaged" in log.read_text() and "serving " in log.read_text())
        url = log.read_text().partition("serving ")[2].split()[0]
        assert curl("--range", "0-999999", f"{url}/seed/hello@1.0.0/hello@1.0.0.tgz") == whole[:1_000_000]
        status = ("--output", str(tmp_path / "answer"), "--write-out", "%{http_code}", "--no-fail")
        assert curl(*status, f"{url}/packages/hello@1.0.0") == b"503"
    finally:
        process.kill()
        process.wait()
        for path in (tmp_path / "store", files.folder):
            path.chmod(0o755)


@contextlib.contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1, 50], ids=["one-address", "many-addresses"])
def test_a_thousand_idle_and_half_open_connections_do_not_disturb_downloads(tmp_path: Path, spread: int) -> None:
    files = big_release(tmp_path / "store", size=5_000_000)
    digest = hashlib.sha256(files.tgz.read_bytes()).digest()
    with many_descriptors(3000), mirror_process(tmp_path / "store") as mirror, contextlib.ExitStack() as crowd:
        host, port = mirror.url.removeprefix("http://").split(":")
        curl(f"{mirror.url}/packages/hello@1.0.0")
        for number in range(1000):
            source = (f"127.0.1.{number % spread + 1}", 0)
            one = crowd.enter_context(socket.create_connection((host, int(port)), timeout=30, source_address=source))
            with contextlib.suppress(OSError):
                if number % 3 == 0:
                    one.sendall(b"GET /packages/hello@1.0.0 HTTP/1.1\r\nHost: x\r\nX-Slow: ")
                elif number % 3 == 1:  # asks for all of it, and reads nothing
                    one.sendall(b"GET /packages/hello@1.0.0 HTTP/1.1\r\nHost: x\r\n\r\n")
            if number % 100 == 99:
                assert hashlib.sha256(curl(f"{mirror.url}/packages/hello@1.0.0")).digest() == digest
        assert b"libreseed_mirror_connections_evicted_total" in curl(f"{mirror.url}/metrics")
        assert mirror.stop() == 0
    assert "Traceback" not in mirror.text()


@pytest.mark.slow
def test_schemathesis_finds_no_5xx(tmp_path: Path) -> None:
    big_release(tmp_path / "store")
    program = Path(sys.executable).with_name("schemathesis")
    examples = os.environ.get("MIRROR_SCHEMATHESIS_EXAMPLES", "15")
    line = [str(program), "run", "--no-color", "--max-examples", examples, "--seed", "1"]
    # JSON Schema takes 1.0 for an integer, and cannot say all that a version's grammar says.
    line += ["--exclude-checks", "positive_data_acceptance", "--generation-database", "none"]
    line += ["--phases", "examples,coverage,fuzzing"]
    config = tmp_path / "mirror.toml"
    config.write_text('listen = ["127.0.0.1:0"]\nrequest-rate = 0\n')
    with mirror_process(tmp_path / "store", "--config", str(config)) as mirror:
        curl(f"{mirror.url}/packages/hello@1.0.0")
        line.append(f"{mirror.url}/openapi.json")
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert b'status="5' not in curl(f"{mirror.url}/metrics")
        assert mirror.stop() == 0
    assert "Traceback" not in mirror.text()
