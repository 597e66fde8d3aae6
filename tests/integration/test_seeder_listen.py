"""Where a seeder listens: names, both IP families, one number for TCP and UDP; and what a seeder that is alone says."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import libreseed
from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from libreseed.package.minimal import parse_minimal
from tests.daemon_support import PATIENCE_S, clean_environment
from tests.seeder_support import command, loopback, make_release, running, until
from tests.tools import require_ipv6, require_program

pytestmark = pytest.mark.integration

_OFTEN = {"LIBRESEED_RETRY_INTERVAL": "0.2"}
_ALONE = "no other DHT node is known yet"


def free_port(host: str) -> int:
    """A number that TCP and UDP of ``host`` have free now."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((host, 0))
            try:
                udp.bind(tcp.getsockname())
            except OSError:
                continue
            return int(tcp.getsockname()[1])


def test_version() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"libreseed-seeder {libreseed.__version__}\n")


@pytest.mark.parametrize("host", ["no.such.invalid", "203.0.113.7", "[2001:db8::7]"])
@pytest.mark.parametrize("where", ["flag", "variable", "file"])
def test_what_cannot_be_listened_on_is_one_clear_line_at_once(tmp_path: Path, host: str, where: str) -> None:
    line: list[object] = ["run", "--state-dir", tmp_path / "state", "--dht-port", "0"]
    environment = {}
    if where == "flag":
        line += ["--listen", f"{host}:0"]
    elif where == "variable":
        environment["LIBRESEED_LISTEN"] = f"{host}:0"
    else:
        (tmp_path / "c.toml").write_text(f'listen = ["{host}:0"]\n')
        line += ["--config", tmp_path / "c.toml"]
    done = command(*line, env=environment)
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "config.port" in done.stderr and host.strip("[]") in done.stderr


def test_a_name_is_listened_on_where_it_leads_to(tmp_path: Path) -> None:
    with running(tmp_path / "state", host="localhost") as seeder:
        places = seeder.ask("status")["listen"]
        assert any(place.startswith("127.0.0.1:") for place in places)
        for place in places:
            host, _, port = place.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), 10).close()
        assert len(seeder.ask("status")["dht"]["listen"]) == len(places)


def test_each_family_is_told_its_own_endpoint(tmp_path: Path) -> None:
    require_ipv6()
    release = make_release(tmp_path / "publisher")
    minimal = parse_minimal((release / "demo@1.0.0.minimal.json").read_bytes())
    with running(tmp_path / "state", listen=("127.0.0.1:0", "[::1]:0"), env=_OFTEN) as seeder:
        seeder.ask("add", path=str(release))
        status = seeder.ask("status")
        four, six = status["dht"]["listen"]
        until(lambda: _ALONE in seeder.text(), "announced to itself")
        for place, swarm in ((four, status["listen"][0]), (six, status["listen"][1])):
            found = trio.run(_peers, place, minimal.torrent.truncated)
            assert found == [swarm]


async def _peers(place: str, info_hash: bytes) -> list[str]:
    """Who is announced, as a client hears that only knows ``place``."""
    host, _, port = place.rpartition(":")
    async with trio.open_nursery() as nursery:
        node = DhtNode(DhtOptions(client=True, bootstrap=((host.strip("[]"), int(port)),)))
        await nursery.start(node.run)
        peers = await node.get_peers(info_hash)
        nursery.cancel_scope.cancel()
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in peers]


def test_a_machine_without_ipv6_is_served_by_the_defaults(tmp_path: Path) -> None:
    """In a network namespace of its own, where IPv6 is switched off, with no flag but the state directory."""
    without = "ip link set lo up && sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.lo.disable_ipv6=1"
    unshare = [require_program("unshare"), "--map-root-user", "--net"]
    if subprocess.run([*unshare, "sh", "-c", without], check=False, capture_output=True).returncode:
        pytest.skip("network namespaces without IPv6 cannot be made here")
    run = [sys.executable, "-m", "libreseed_services.seeder.cli", "run", "--state-dir", str(tmp_path / "state")]
    said = []
    with subprocess.Popen(
        [*unshare, "sh", "-c", without + ' && exec "$@"', "sh", *run],
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if "ready" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0, said
    assert "INFO listening on tcp 0.0.0.0 port 6891\n" in said and not any("::" in line for line in said)


@pytest.mark.parametrize("wildcard", [False, True], ids=["one-address", "every-address"])
def test_one_number_serves_the_swarm_over_tcp_and_the_dht_over_udp(tmp_path: Path, wildcard: bool) -> None:
    release = make_release(tmp_path / "publisher")
    minimal = parse_minimal((release / "demo@1.0.0.minimal.json").read_bytes())
    host = "0.0.0.0" if wildcard else loopback()
    port = free_port(host)
    place = f"{'127.0.0.1' if wildcard else host}:{port}"
    with running(tmp_path / "state", "--dht-port", str(port), listen=(f"{host}:{port}",), env=_OFTEN) as seeder:
        seeder.ask("add", path=str(release))
        status = seeder.ask("status")
        assert (status["listen"], status["dht"]["listen"]) == ([f"{host}:{port}"], [f"{host}:{port}"])
        assert "not by uTP" in seeder.text()
        until(lambda: _ALONE in seeder.text(), "announced to itself")
        assert trio.run(_peers, place, minimal.torrent.truncated) == [place]
        with running(tmp_path / "other", "--bootstrap", place, env=_OFTEN) as other:
            other.ask("add", path=str(release))
            until(lambda: other.only()["record_nodes"], "put on the node that shares its port")
            until(lambda: "another DHT node is known" in seeder.text(), "met")
            until(lambda: seeder.only()["record_nodes"], "put on the other")


def test_a_lone_seeder_does_not_look_broken(tmp_path: Path) -> None:
    release = make_release(tmp_path / "publisher")
    with running(tmp_path / "state", env={**_OFTEN, "LIBRESEED_RECORD_INTERVAL": "0.3"}) as seeder:
        seeder.ask("add", path=str(release))
        until(lambda: _ALONE in seeder.text(), "said")
        status = command("status", "--state-dir", tmp_path / "state")
        assert _ALONE.removeprefix("no other DHT node is ") in status.stdout and "0 failed; 0 overdue" in status.stdout
        assert seeder.ask("status")["dht"]["alone"] is True
        assert "lag" in seeder.only() and seeder.only()["lag"] == 0
        assert seeder.stop() == 0
        assert seeder.text().count(_ALONE) == 1
        assert not any(word in seeder.text() for word in ("ALARM", "failed", "overdue"))


def test_a_list_of_bootstrap_nodes_may_name_the_node_itself(tmp_path: Path) -> None:
    release = make_release(tmp_path / "publisher")
    host = loopback()
    port = free_port(host)
    place = ("--dht-port", str(port), "--bootstrap", f"{host}:{port}")
    with running(tmp_path / "state", *place, host=host, env=_OFTEN) as seeder:
        seeder.ask("add", path=str(release))
        until(lambda: _ALONE in seeder.text(), "said")
        assert "no DHT node answers" not in seeder.text()
