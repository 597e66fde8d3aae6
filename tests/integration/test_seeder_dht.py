"""What the seeder does in a real DHT on loopback: keyless re-puts, peers, name discovery, indexes, the lag alarm."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from libreseed.dht.records import index_salt, manifest_salt, minimal_from_item, parse_index
from libreseed.ids import PackageName
from libreseed.package.minimal import MinimalManifest
from libreseed.torrent.metainfo import parse_metainfo
from tests.dht_network_support import dht_network
from tests.seeder_support import command, flip, index, make_release, running, stored_file, until
from tests.tools import require_program

pytestmark = pytest.mark.integration

_OFTEN = {"LIBRESEED_RECORD_INTERVAL": "0.4", "LIBRESEED_PEER_INTERVAL": "0.4", "LIBRESEED_RETRY_INTERVAL": "0.2"}
_NAME = PackageName("demo")


def _minimal(release: Path) -> MinimalManifest:
    return MinimalManifest((release / f"{release.name}.minimal.json").read_bytes())


def test_a_keyless_seeder_keeps_a_record_alive_after_its_packager_and_its_holders_are_gone(tmp_path: Path) -> None:
    release = make_release(tmp_path / "publisher")
    minimal = _minimal(release)
    salt = manifest_salt(minimal.release)
    with dht_network(3) as first, running(tmp_path / "state", *first.bootstrap, env=_OFTEN) as seeder:
        seeder.ask("add", path=str(release))
        shutil.rmtree(tmp_path / "publisher")  # key, folder and all
        until(lambda: seeder.only()["record_nodes"] >= 3, "put and read back")
        assert seeder.only()["last_put"] is not None and seeder.only()["lag"] == 0
        host, _, port = seeder.dht().rpartition(":")
        with dht_network(3, bootstrap=((host, int(port)),)) as second:
            first.stop()  # the nodes that hold the record are gone, those that come have never seen the packager
            until(lambda: seeder.only()["record_nodes"] >= 1, "put again")
            puts = seeder.ask("status")["announce"]["puts"]
            until(lambda: seeder.ask("status")["announce"]["puts"] >= puts + 3, "put again")
            seeder.kill()
            item = second.ask(lambda node: node.get_item(minimal.pubkey, salt))
            assert item is not None and minimal_from_item(item).data == minimal.data


def test_its_peers_and_records_are_found_by_hash_and_by_name(tmp_path: Path) -> None:
    release = make_release(tmp_path / "publisher")
    minimal = _minimal(release)
    metainfo = parse_metainfo((release / "demo@1.0.0.torrent").read_bytes(), minimal.release, minimal)
    index(tmp_path / "publisher", "demo", release / "demo@1.0.0.minimal.json")
    with dht_network(3) as network, running(tmp_path / "state", *network.bootstrap, env=_OFTEN) as seeder:
        seeder.ask("add", path=str(release))
        assert seeder.ask("status")["indexes"] == 1
        until(lambda: seeder.ask("status")["announce"]["announces"] >= 3, "announced")
        for info_hash in (metainfo.v1, metainfo.v2.truncated):
            until(lambda: network.ask(lambda node: node.get_peers(info_hash)), "peers")  # noqa: B023
            assert seeder.tcp() in network.ask(lambda node: node.get_peers(info_hash))  # noqa: B023
        found = network.ask(lambda node: node.find_records(_NAME))
        assert {item.salt for item in found} == {manifest_salt(minimal.release), index_salt(_NAME)}
        until(lambda: network.ask(lambda node: node.get_item(minimal.pubkey, index_salt(_NAME))), "index put")


def test_a_newer_index_replaces_and_an_older_one_never_does(tmp_path: Path) -> None:
    publisher = tmp_path / "publisher"
    release = make_release(publisher)
    index(publisher, "demo", release / "demo@1.0.0.minimal.json")
    old = (publisher / "out" / "demo.index.dht.json").read_bytes()
    with dht_network(3) as network, running(tmp_path / "state", *network.bootstrap, env=_OFTEN) as seeder:
        seeder.ask("add", path=str(release))
        newer = make_release(publisher, version="1.1.0")
        (publisher / "out" / "demo.index.dht.json").unlink()
        index(publisher, "demo", release / "demo@1.0.0.minimal.json", newer / "demo@1.1.0.minimal.json")
        place = ("--state-dir", tmp_path / "state", "--json")
        path = publisher / "out" / "demo.index.dht.json"
        assert json.loads(command("add", path, *place).stdout)["added"] is True
        assert json.loads(command("add", path, *place).stdout)["added"] is False
        path.write_bytes(old)
        assert json.loads(command("add", path, *place).stdout)["added"] is False
        (kept,) = (tmp_path / "state" / "indexes").iterdir()
        key = _minimal(release).pubkey
        assert parse_index(kept.read_bytes(), key).newest.text == "1.1.0"

        def newest() -> str:
            item = network.ask(lambda node: node.get_item(key, index_salt(_NAME)))
            return "" if item is None else item.value.decode("latin-1")

        until(lambda: "1.1.0" in newest(), "the newer index is in the DHT")
        path.write_bytes(old.replace(b"1.0.0", b"6.6.6"))
        refused = command("add", path, *place)
        assert (refused.returncode, json.loads(refused.stdout)["reason"]) == (20, "index.signature")


def test_a_newer_index_met_in_the_dht_is_adopted(tmp_path: Path) -> None:
    publisher = tmp_path / "publisher"
    release = make_release(publisher)
    index(publisher, "demo", release / "demo@1.0.0.minimal.json")
    newer = make_release(publisher, version="1.1.0")
    with dht_network(3) as network, running(tmp_path / "state", *network.bootstrap, env=_OFTEN) as seeder:
        seeder.ask("add", path=str(release))
        until(lambda: seeder.ask("status")["announce"]["puts"] >= 2, "put")
        (publisher / "out" / "demo.index.dht.json").unlink()
        index(publisher, "demo", release / "demo@1.0.0.minimal.json", newer / "demo@1.1.0.minimal.json")
        key = _minimal(release).pubkey
        fresh = parse_index((publisher / "out" / "demo.index.dht.json").read_bytes(), key)
        network.ask(lambda node: node.put_item(fresh.item))
        (kept,) = (tmp_path / "state" / "indexes").iterdir()
        until(lambda: parse_index(kept.read_bytes(), key).item.seq == fresh.item.seq, "adopted")


def test_a_dht_that_does_not_answer_raises_the_lag_alarm(tmp_path: Path) -> None:
    release = make_release(tmp_path / "publisher")
    dead = ("--bootstrap", "127.0.0.254:9")
    with running(tmp_path / "state", *dead, env={**_OFTEN, "LIBRESEED_RECORD_INTERVAL": "1"}) as seeder:
        seeder.ask("add", path=str(release))
        until(lambda: seeder.only()["lag"] > 0, "late")
        until(lambda: all(one["failures"] for one in seeder.ask("status")["announce"]["late"]), "tried")
        assert "no DHT node answers" in seeder.ask("status")["announce"]["late"][0]["fault"]
        until(lambda: "ALARM" in seeder.text(), "logged")
        assert "late" in command("list", "--state-dir", tmp_path / "state").stdout
        assert "OVERDUE" in command("status", "--state-dir", tmp_path / "state").stdout
        assert seeder.stop() == 0


def test_a_copy_beyond_its_own_repair_is_completed_from_another_seeder(tmp_path: Path) -> None:
    release = make_release(tmp_path / "publisher")
    with dht_network(3) as network:
        with running(tmp_path / "bad", *network.bootstrap, env=_OFTEN) as seeder:
            seeder.ask("add", path=str(release))
            seeder.stop()
        path = stored_file(tmp_path / "bad", ".tgz")
        flip(path, *range(0, 102_400, 5120))
        with running(tmp_path / "good", *network.bootstrap, env=_OFTEN) as good:
            good.ask("add", path=str(release))
            with running(tmp_path / "bad", *network.bootstrap, env=_OFTEN) as bad:
                until(lambda: bad.only()["state"] == "seeding", "completed")
                assert path.read_bytes() == (release / path.name).read_bytes()
                assert bad.only()["pieces_offered"] == bad.only()["pieces"]


@pytest.mark.slow
def test_aria2_finds_the_seeder_in_our_dht_and_downloads_from_it(tmp_path: Path) -> None:
    """aria2 1.36 asks for a hash that nobody else would announce; a newer one asks for the right one."""
    release = make_release(tmp_path / "publisher")
    with dht_network(2) as network, running(tmp_path / "state", *network.bootstrap, env=_OFTEN) as seeder:
        seeder.ask("add", path=str(release))
        until(lambda: seeder.ask("status")["announce"]["announces"] >= 4, "announced")
        host, port = network.addresses[0]
        line = [
            require_program("aria2c"),
            "--no-conf",
            "--seed-time=0",
            f"--dir={tmp_path}/out",
            f"--dht-file-path={tmp_path}/dht.dat",
        ]
        line += ["--enable-dht=true", f"--dht-entry-point={host}:{port}", "--dht-listen-port=51000-59000"]
        line += ["--bt-enable-lpd=false", "--listen-port=51000-59000", str(release / "demo@1.0.0.torrent")]
        done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout
        for suffix in (".chunks", ".parity", ".tgz"):
            name = f"demo@1.0.0{suffix}"
            assert (tmp_path / "out" / "demo@1.0.0" / name).read_bytes() == (release / name).read_bytes()
