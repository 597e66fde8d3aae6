"""The seeder as a real process: its commands, its start and stop, what it refuses, and what survives."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from libreseed.adapters.command import control
from libreseed.adapters.command.control import Request
from libreseed.errors import LibreSeedError
from tests.seeder_support import (
    SeederProcess,
    clean_environment,
    command,
    flip,
    loopback,
    make_release,
    running,
    starting,
    stored_file,
    until,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("publisher"))


def test_add_list_status_remove(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state") as seeder:
        place = ("--state-dir", tmp_path / "state", "--json")
        added = command("add", release, *place)
        assert added.returncode == 0, added.stderr
        answer = json.loads(added.stdout)
        assert (answer["ok"], answer["added"], answer["release"], answer["state"]) == (
            True,
            True,
            "demo@1.0.0",
            "seeding",
        )
        again = json.loads(command("add", release / "demo@1.0.0.tgz", *place).stdout)
        assert (again["added"], again["id"]) == (False, answer["id"])

        (listed,) = json.loads(command("list", *place).stdout)["releases"]
        assert listed["pieces_offered"] == listed["pieces"] > 0
        assert listed["publisher"].startswith("ed25519:") and listed["torrent"].startswith("btmh:1220")
        status = json.loads(command("status", "--json", env={"LIBRESEED_STATE_DIR": str(tmp_path / "state")}).stdout)
        assert status["releases"]["seeding"] == 1 and status["pid"] == seeder.process.pid
        assert status["store"]["used_bytes"] >= listed["size"]
        assert "demo@1.0.0" in command("list", *place[:2]).stdout
        assert "1 seeding" in command("status", *place[:2]).stdout

        removed = command("remove", "demo@1.0.0", *place)
        assert (removed.returncode, json.loads(removed.stdout)["removed"]) == (0, True)
        assert seeder.ask("list") == {"releases": []}
        assert list((tmp_path / "state" / "releases").iterdir()) == []
        gone = command("remove", "demo@1.0.0", *place)
        assert (gone.returncode, json.loads(gone.stdout)["reason"]) == (10, "notfound.release")


def test_metrics_are_answered_where_they_were_asked_for_and_nowhere_else(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state", "--metrics-listen", f"{loopback()}:0") as seeder:
        seeder.ask("add", path=str(release))
        found = re.search(r"metrics on (http://\S+/metrics)", seeder.text())
        assert found is not None
        with urllib.request.urlopen(found[1], timeout=30) as answer:
            page = answer.read().decode()
        assert 'libreseed_seeder_releases{state="seeding"} 1' in page.splitlines()
        assert "release_bad_chunks" in command("metrics", "--state-dir", tmp_path / "state").stdout
    with running(tmp_path / "other") as seeder:
        assert "metrics on" not in seeder.text()


def test_sigterm_is_a_clean_stop_and_systemd_is_told(tmp_path: Path) -> None:
    with running(tmp_path / "state", env={"WATCHDOG_USEC": "400000"}) as seeder:
        until(lambda: "WATCHDOG=1" in seeder.hear(), "a sign of life")
        assert seeder.stop() == 0
        assert "STOPPING=1" in seeder.hear()
        assert not (tmp_path / "state" / "control.sock").exists()
        assert "Traceback" not in seeder.text()


def test_sigint_is_a_clean_stop_too(tmp_path: Path) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.process.send_signal(signal.SIGINT)
        assert seeder.process.wait(30) == 0


def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "state") as first:
        second = command("run", "--state-dir", tmp_path / "state", "--listen", f"{loopback()}:0", "--dht-port", "0")
        assert second.returncode == 50
        assert "storage.locked" in second.stderr and str(first.process.pid) in second.stderr
        assert first.ask("list") == {"releases": []}


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
def test_an_occupied_port_is_one_clear_line(tmp_path: Path, kind: socket.SocketKind) -> None:
    host = loopback()
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        ports = (port, 0) if kind == socket.SOCK_STREAM else (0, port)
        place = ("--listen", f"{host}:{ports[0]}", "--dht-port", ports[1])
        done = command("run", "--state-dir", tmp_path / "state", *place)
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "config.port" in done.stderr and str(port) in done.stderr


def test_no_daemon_is_a_clear_error_with_a_remedy(tmp_path: Path) -> None:
    done = command("list", "--state-dir", tmp_path, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["reason"], answer["exit"]) == (3, "config.no-daemon", 3)
    assert "libreseed-seeder run" in answer["remedy"]


# --- G2 -----------------------------------------------------------------------------------------------------------


def _key(path: Path, release: Path) -> None:
    shutil.copy(release.parent.parent / "key", path)


@pytest.mark.parametrize("place", ["state", "state/releases/deep", "watch", "config", "user/libreseed", "environment"])
def test_a_seeder_that_can_read_a_private_key_refuses_to_start(tmp_path: Path, release: Path, place: str) -> None:
    for folder in ("state/releases/deep", "watch", "config", "user/libreseed"):
        (tmp_path / folder).mkdir(parents=True)
    config = tmp_path / "config" / "seeder.toml"
    config.write_text(f'state-dir = "{tmp_path}/state"\nwatch = "{tmp_path}/watch"\nlisten = ["{loopback()}:0"]\n')
    env = {"XDG_CONFIG_HOME": str(tmp_path / "user")}
    if place == "environment":
        env["LIBRESEED_KEY"] = (release.parent.parent / "key").read_text()
    else:
        _key(tmp_path / place / "publisher.key", release)
    done = command("run", "--config", config, "--dht-port", "0", env=env)
    assert done.returncode == 3
    assert "key.on-seeder" in done.stderr and len(done.stderr.strip().splitlines()) == 1


# --- bad input ----------------------------------------------------------------------------------------------------


def test_an_unknown_configuration_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('state_dir = "/x"\n')
    done = command("run", "--config", tmp_path / "c.toml")
    assert done.returncode == 3 and "config.unknown-key" in done.stderr and "state_dir" in done.stderr


def _copied(release: Path, tmp_path: Path) -> Path:
    copy = tmp_path / release.name
    shutil.copytree(release, copy)
    return copy


@pytest.mark.parametrize(
    ("suffix", "exit_code"),
    [(".tgz", 30), (".chunks", 30), (".parity", 30), (".torrent", 30), (".minimal.json", 20), (".dht.json", 20)],
)
def test_a_release_with_one_changed_byte_is_refused_and_leaves_nothing(
    tmp_path: Path, release: Path, suffix: str, exit_code: int, seeder_here: SeederProcess
) -> None:
    bad = _copied(release, tmp_path)
    path = bad / f"demo@1.0.0{suffix}"
    flip(path, path.stat().st_size // 2)
    done = command("add", bad, "--state-dir", seeder_here.state, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"], answer["exit"]) == (exit_code, False, exit_code)
    assert list((seeder_here.state / "releases").iterdir()) == []
    notes = sorted((seeder_here.state / "quarantine").glob("*.reason.json"))
    assert json.loads(notes[-1].read_text())["reason"] == answer["reason"]


@pytest.mark.parametrize("suffix", [".tgz", ".chunks", ".parity", ".torrent", ".minimal.json", ".dht.json"])
def test_a_changed_byte_is_refused_for_a_release_that_is_held_too(tmp_path: Path, release: Path, suffix: str) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    with running(tmp_path / "state", "--watch", str(watch), env={"LIBRESEED_WATCH_INTERVAL": "0.1"}) as seeder:
        seeder.ask("add", path=str(release))
        held = {path.name: path.read_bytes() for path in seeder.state.glob("releases/*/*")}
        bad = _copied(release, tmp_path)
        path = bad / f"demo@1.0.0{suffix}"
        flip(path, path.stat().st_size // 2)
        done = command("add", bad, "--state-dir", seeder.state, "--json")
        answer = json.loads(done.stdout)
        assert (answer["ok"], done.returncode) == (False, 20 if suffix.endswith(".json") else 30)
        (note,) = seeder.state.glob("quarantine/*.reason.json")
        assert json.loads(note.read_text())["reason"] == answer["reason"]
        bad.rename(watch / bad.name)
        until(lambda: list((watch / ".quarantine").glob("*.reason.json")), "quarantined")
        assert {path.name: path.read_bytes() for path in seeder.state.glob("releases/*/*")} == held
        assert seeder.only()["state"] == "seeding"
        again = seeder.ask("add", path=str(release))
        assert again["added"] is False


@pytest.fixture(scope="module")
def seeder_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeederProcess]:
    with running(tmp_path_factory.mktemp("shared") / "state") as seeder:
        yield seeder


@pytest.mark.parametrize("suffix", [".tgz", ".chunks", ".parity", ".torrent", ".minimal.json", ".dht.json"])
def test_a_missing_file_of_a_release_is_not_found(
    tmp_path: Path, release: Path, suffix: str, seeder_here: SeederProcess
) -> None:
    bad = _copied(release, tmp_path)
    (bad / f"demo@1.0.0{suffix}").unlink()
    done = command("add", bad, "--state-dir", seeder_here.state, "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (10, "notfound.file")
    assert list((seeder_here.state / "releases").iterdir()) == []


def test_a_path_that_does_not_exist_is_not_found(tmp_path: Path, seeder_here: SeederProcess) -> None:
    done = command("add", tmp_path / "nothing", "--state-dir", seeder_here.state)
    assert done.returncode == 10 and "notfound.file" in done.stderr


def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path, release: Path, seeder_here: SeederProcess) -> None:
    bad = _copied(release, tmp_path)
    (bad / "demo@1.0.0.tgz").unlink()
    (bad / "demo@1.0.0.tgz").symlink_to(release / "demo@1.0.0.tgz")
    done = command("add", bad, "--state-dir", seeder_here.state, "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (2, "usage")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs to give up root's rights")
def test_a_daemon_that_may_not_read_the_release_is_handed_its_files(tmp_path: Path, release: Path) -> None:
    folder = _copied(release, tmp_path)  # that belongs to somebody else
    for path in (folder, *folder.iterdir()):
        os.chown(path, 65534, 65534)
        path.chmod(0o700)
    like_a_user = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    with running(tmp_path / "state", under=like_a_user) as seeder:
        assert control_call(tmp_path / "state", "add", path=str(folder)) in ("notfound.file", "storage.permission")
        done = command("add", folder, "--state-dir", tmp_path / "state", "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["state"] == "seeding", done.stdout
        assert seeder.only()["state"] == "seeding"


def control_call(state: Path, name: str, **arguments: str) -> str:
    """The reason with which the daemon refuses."""
    with pytest.raises(LibreSeedError) as caught:
        control.call(state / "control.sock", Request(name, arguments))
    return caught.value.reason


def test_a_full_store_refuses_before_it_copies(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state", env={"LIBRESEED_MAX_STORE_BYTES": "200000"}) as seeder:
        done = command("add", release, "--state-dir", tmp_path / "state", "--json")
        assert (done.returncode, json.loads(done.stdout)["reason"]) == (50, "storage.quota")
        assert seeder.ask("list") == {"releases": []}
        assert list((tmp_path / "state" / "releases").iterdir()) == []


def test_a_full_disk_is_a_clear_error_and_the_daemon_goes_on(tmp_path: Path, release: Path) -> None:
    def limit() -> None:  # a limit of the file size fails a write in the same place as a full disk does
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    with running(tmp_path / "state", preexec_fn=limit) as seeder:
        done = command("add", release, "--state-dir", tmp_path / "state", "--json")
        assert (done.returncode, json.loads(done.stdout)["reason"]) == (50, "storage.full")
        assert list((tmp_path / "state" / "releases").iterdir()) == []
        assert seeder.ask("list") == {"releases": []}


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs to mount")
def test_a_read_only_state_directory_is_a_clear_error(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    mount = 'mount -t tmpfs -o ro none "$1" && shift && exec "$@"'
    line = ["unshare", "--mount", "sh", "-c", mount, "sh", state, sys.executable, "-m", "libreseed_services.seeder.cli"]
    place = ["run", "--state-dir", state, "--listen", f"{loopback()}:0", "--dht-port", "0"]
    done = subprocess.run(
        [*map(str, line), *map(str, place)], capture_output=True, text=True, env=clean_environment(), check=False
    )
    if "mount:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 50, done.stderr
    assert "storage.read-only" in done.stderr and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs to mount")
def test_a_disk_that_fills_up_refuses_the_release_and_goes_on(tmp_path: Path, release: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    mount = 'mount -t tmpfs -o size=256k none "$1" && shift && exec "$@"'
    with running(state, under=("unshare", "--mount", "sh", "-c", mount, "sh", str(state))) as seeder:
        # The control socket is in the daemon's own mount: reached through its root.
        inside = Path(f"/proc/{seeder.process.pid}/root") / state.relative_to("/")
        assert control_call(inside, "add", path=str(release)) == "storage.full"
        assert list((inside / "releases").iterdir()) == []
        assert control.call(inside / "control.sock", Request("list", {})) == {"releases": []}
        assert seeder.stop() == 0


def test_a_state_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("/proc/nowhere/state", tmp_path / "file" / "state", tmp_path / "file"):
        done = command("run", "--state-dir", place, "--listen", f"{loopback()}:0", "--dht-port", "0")
        assert done.returncode == 50, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and str(place) in done.stderr


# --- what survives ------------------------------------------------------------------------------------------------


def test_a_restart_hashes_nothing(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        before = seeder.only()
        assert seeder.ask("status")["scrub"]["bytes_hashed"] > before["size"]
        assert seeder.stop() == 0
    with running(tmp_path / "state") as seeder:
        after = seeder.only()
        assert (after["id"], after["state"], after["pieces_offered"]) == (before["id"], "seeding", before["pieces"])
        assert seeder.ask("status")["scrub"]["bytes_hashed"] == 0
        seeder.kill()
    with running(tmp_path / "state") as seeder:
        assert seeder.only()["state"] == "seeding"
        assert seeder.ask("status")["scrub"]["bytes_hashed"] == 0


_SMALL = (".torrent", ".minimal.json", ".dht.json")
_DAMAGE = [(".tgz", ".parity"), (".chunks",), _SMALL, ("seed.json",)]


@pytest.mark.parametrize("suffixes", _DAMAGE, ids="+".join)
def test_damage_while_it_was_stopped_is_healed_on_start(
    tmp_path: Path, release: Path, suffixes: tuple[str, ...]
) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        seeder.stop()
    paths = [stored_file(tmp_path / "state", suffix) for suffix in suffixes]
    for path in paths:
        flip(path, 100)
    with running(tmp_path / "state") as seeder:
        until(lambda: seeder.only()["state"] == "seeding", "healed")
        one = seeder.only()
        assert one["pieces_offered"] == one["pieces"]
        assert one["healed"] == (2 if ".tgz" in suffixes else 0)
        for path in paths:
            assert path.name == "seed.json" or path.read_bytes() == (release / path.name).read_bytes()
        seeder.stop()
    with running(tmp_path / "state") as seeder:  # and that is remembered
        assert seeder.only()["state"] == "seeding"
        assert seeder.ask("status")["scrub"]["bytes_hashed"] == 0


@pytest.mark.parametrize("suffixes", [(".parity",), (".chunks", "seed.json"), _SMALL], ids="+".join)
def test_a_file_that_was_lost_is_made_again(tmp_path: Path, release: Path, suffixes: tuple[str, ...]) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        seeder.stop()
    paths = [stored_file(tmp_path / "state", suffix) for suffix in suffixes]
    for path in paths:
        path.unlink()
    with running(tmp_path / "state") as seeder:
        until(lambda: seeder.only()["state"] == "seeding", "healed")
        assert seeder.only()["pieces_offered"] == seeder.only()["pieces"]
        for path in paths:
            assert path.name == "seed.json" or path.read_bytes() == (release / path.name).read_bytes()


def test_a_lost_archive_is_damage_beyond_parity_and_the_rest_is_offered(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        seeder.stop()
    stored_file(tmp_path / "state", ".tgz").unlink()
    with running(tmp_path / "state") as seeder:
        until(lambda: seeder.only()["state"] == "damaged", "judged")
        one = seeder.only()
        assert one["bad_data_chunks"] == 59 and one["bad_parity_chunks"] == 0
        assert 0 < one["pieces_offered"] < one["pieces"]


def test_a_copy_damaged_beyond_repair_offers_its_good_pieces_and_says_so(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        seeder.stop()
    flip(stored_file(tmp_path / "state", ".tgz"), *range(0, 102_400, 5120))  # 20 chunks of one stripe, parity has 3
    with running(tmp_path / "state") as seeder:
        until(lambda: seeder.only()["state"] == "damaged", "judged")
        one = seeder.only()
        withheld = one["pieces"] - one["pieces_offered"]
        assert (one["bad_data_chunks"], withheld) == (20, 7)  # bytes 0..102400 in pieces of 16 KiB
        assert "beyond repair" in one["fault"]
        assert seeder.ask("status")["scrub"]["beyond_repair"] == 1
        seeder.stop()
    with running(tmp_path / "state") as seeder:  # and that is remembered too
        assert (seeder.only()["state"], seeder.only()["bad_data_chunks"]) == ("damaged", 20)
        assert seeder.ask("status")["scrub"]["bytes_hashed"] == 0


def test_adding_a_damaged_release_again_mends_it(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        seeder.stop()
    path = stored_file(tmp_path / "state", ".tgz")
    flip(path, *range(0, 102_400, 5120))
    with running(tmp_path / "state") as seeder:
        until(lambda: seeder.only()["state"] == "damaged", "judged")
        assert seeder.ask("add", path=str(release))["state"] == "seeding"
        assert path.read_bytes() == (release / path.name).read_bytes()
        assert seeder.only()["pieces_offered"] == seeder.only()["pieces"]


def test_a_release_without_map_and_archive_is_broken_until_it_is_added_again(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        seeder.stop()
    flip(stored_file(tmp_path / "state", ".chunks"), 100)
    flip(stored_file(tmp_path / "state", ".tgz"), 100)
    with running(tmp_path / "state") as seeder:
        until(lambda: seeder.only()["state"] == "broken", "judged")
        assert seeder.only()["pieces_offered"] == 0 and "chunk map" in seeder.only()["fault"]
        assert seeder.ask("add", path=str(release))["state"] == "seeding"
        for suffix in (".chunks", ".tgz"):
            path = stored_file(tmp_path / "state", suffix)
            assert path.read_bytes() == (release / path.name).read_bytes()


def test_rot_under_a_running_seeder_is_found_by_the_scrub_and_healed(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state", env={"LIBRESEED_SCRUB_INTERVAL": "0.3"}) as seeder:
        seeder.ask("add", path=str(release))
        path = stored_file(tmp_path / "state", ".tgz")
        flip(path, 7, 150_000)
        flip(stored_file(tmp_path / "state", ".parity"), 9)
        until(lambda: seeder.only()["healed"] == 3, "healed by the scrub")
        assert path.read_bytes() == (release / path.name).read_bytes()
        until(lambda: seeder.only()["state"] == "seeding", "offered again")
        counters = seeder.ask("status")["scrub"]
        assert counters["chunks_healed"] == 3 and counters["releases_scrubbed"] >= 1


def test_a_scrub_can_be_asked_for(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        path = stored_file(tmp_path / "state", ".tgz")
        flip(path, 7)
        done = command("scrub", "demo@1.0.0", "--state-dir", tmp_path / "state", "--json")
        assert (done.returncode, json.loads(done.stdout)["healed"]) == (0, 1)
        assert path.read_bytes() == (release / path.name).read_bytes()
        assert seeder.only()["state"] == "seeding"


def test_a_slow_scrub_keeps_nobody_waiting(tmp_path: Path, release: Path) -> None:
    # 65536 bytes per second: the .tgz alone takes five seconds, and then begins again
    slow = {"LIBRESEED_SCRUB_RATE": "65536", "LIBRESEED_SCRUB_INTERVAL": "0.1"}
    with running(tmp_path / "state", env=slow) as seeder:
        seeder.ask("add", path=str(release))
        until(lambda: seeder.ask("status")["scrub"]["chunks_judged"], "scrubbing")
        assert seeder.only()["state"] == "seeding"
        flip(stored_file(tmp_path / "state", ".tgz"), 5)
        assert seeder.ask("scrub", id="demo@1.0.0")["healed"] == 1
        assert seeder.ask("remove", id="demo@1.0.0")["removed"] is True
        assert seeder.ask("status")["scrub"]["releases_scrubbed"] == 1
        assert list((tmp_path / "state" / "releases").iterdir()) == []
        assert seeder.stop() == 0


def test_what_a_killed_add_left_vanishes(tmp_path: Path, release: Path) -> None:
    with running(tmp_path / "state") as seeder:
        seeder.kill()
    staging = tmp_path / "state" / "releases" / ".libreseed-staging-0123456789abcdef"
    shutil.copytree(release, staging)
    with running(tmp_path / "state") as seeder:
        assert seeder.ask("list") == {"releases": []}
        assert list((tmp_path / "state" / "releases").iterdir()) == []
        seeder.ask("add", path=str(release))
        assert seeder.only()["state"] == "seeding"


def test_two_publishers_can_use_one_name(tmp_path: Path, release: Path) -> None:
    other = make_release(tmp_path / "other", size=200_000)
    with running(tmp_path / "state") as seeder:
        first = seeder.ask("add", path=str(release))
        second = seeder.ask("add", path=str(other))
        assert first["id"] != second["id"] and len(seeder.ask("list")["releases"]) == 2
        ambiguous = command("remove", "demo@1.0.0", "--state-dir", tmp_path / "state")
        assert ambiguous.returncode == 2 and first["id"] in ambiguous.stderr
        assert seeder.ask("remove", id=first["torrent"])["id"] == first["id"]
        assert seeder.only()["id"] == second["id"]


# --- the swarm ----------------------------------------------------------------------------------------------------


def test_a_plain_libtorrent_client_downloads_from_it(tmp_path: Path, release: Path) -> None:
    import libtorrent as lt

    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        quiet = dict.fromkeys(
            ("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_outgoing_utp"), False
        )
        session = lt.session({"listen_interfaces": f"{loopback()}:0", **quiet})
        params = lt.load_torrent_file(str(release / "demo@1.0.0.torrent"))
        params.save_path = str(tmp_path / "download")
        handle = session.add_torrent(params)
        handle.connect_peer(seeder.tcp())
        until(lambda: handle.status().is_seeding, "downloaded")
        until(lambda: seeder.only()["uploaded"] >= 300_000, "counted")
        for path in release.glob("demo@1.0.0.[tcp]*"):
            if path.suffix in (".tgz", ".chunks", ".parity"):
                assert (tmp_path / "download" / "demo@1.0.0" / path.name).read_bytes() == path.read_bytes()
        session.remove_torrent(handle)
        seeder.stop()
    with running(tmp_path / "state") as seeder:  # reading for peers has not changed what is trusted
        assert seeder.ask("status")["scrub"]["bytes_hashed"] == 0


def test_a_file_cut_off_under_a_running_seeder_is_found_by_its_readers_and_healed(
    tmp_path: Path, release: Path
) -> None:
    import libtorrent as lt

    with running(tmp_path / "state", env={"LIBRESEED_RETRY_INTERVAL": "0.2"}) as seeder:
        seeder.ask("add", path=str(release))
        path = stored_file(tmp_path / "state", ".tgz")
        os.truncate(path, path.stat().st_size - 5000)
        session = lt.session({"listen_interfaces": f"{loopback()}:0", "enable_dht": False, "enable_lsd": False})
        params = lt.load_torrent_file(str(release / "demo@1.0.0.torrent"))
        params.save_path = str(tmp_path / "download")
        handle = session.add_torrent(params)
        handle.connect_peer(seeder.tcp())
        until(lambda: seeder.only()["healed"] >= 1, "found and healed")
        until(lambda: seeder.only()["state"] == "seeding", "offered again")
        assert path.read_bytes() == (release / path.name).read_bytes()
        handle.connect_peer(seeder.tcp())
        until(lambda: handle.status().is_seeding, "downloaded")
        session.remove_torrent(handle)


# --- watch folder -------------------------------------------------------------------------------------------------


def test_a_release_renamed_into_the_watch_folder_is_seeded_and_a_removed_one_stays_removed(
    tmp_path: Path, release: Path
) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    line = ("--watch", str(watch))
    with running(tmp_path / "state", *line, env={"LIBRESEED_WATCH_INTERVAL": "0.1"}) as seeder:
        shutil.copytree(release, watch / ".incoming")
        (watch / ".incoming").rename(watch / "demo@1.0.0")
        until(lambda: seeder.ask("list")["releases"], "picked up")
        assert seeder.only()["state"] == "seeding"
        until((tmp_path / "state" / "watched.json").exists, "noted")
        seeder.ask("remove", id="demo@1.0.0")
        seeder.stop()
    with running(tmp_path / "state", *line, env={"LIBRESEED_WATCH_INTERVAL": "0.1"}) as seeder:
        make_release(tmp_path / "publisher", name="later").rename(watch / "later@1.0.0")
        until(lambda: seeder.ask("list")["releases"], "a later look")
        assert seeder.only()["release"] == "later@1.0.0"
        assert (watch / "demo@1.0.0" / "demo@1.0.0.tgz").exists()


def test_a_bad_release_in_the_watch_folder_is_quarantined_with_its_reason(tmp_path: Path, release: Path) -> None:
    watch = tmp_path / "watch"
    watch.mkdir()
    with running(tmp_path / "state", "--watch", str(watch), env={"LIBRESEED_WATCH_INTERVAL": "0.1"}) as seeder:
        bad = _copied(release, tmp_path)
        flip(bad / "demo@1.0.0.tgz", 1000)
        bad.rename(watch / "demo@1.0.0")
        until(lambda: list((watch / ".quarantine").glob("*.reason.json")), "quarantined")
        (note,) = (watch / ".quarantine").glob("*.reason.json")
        assert json.loads(note.read_text())["exit"] == 30
        assert not (watch / "demo@1.0.0").exists()
        assert seeder.ask("list") == {"releases": []}
        assert seeder.ask("status")["watch"]["quarantined"] == 1


# --- kill -9 ------------------------------------------------------------------------------------------------------


def test_kill_minus_nine_while_adding_leaves_all_or_nothing(tmp_path: Path, release: Path) -> None:
    """bench/kill_seeder.py does this fifty times, at random moments of everything that a seeder does."""
    import random
    import time

    draw = random.Random(9)
    for _ in range(3):
        with running(tmp_path / "state") as seeder:
            for one in seeder.ask("list")["releases"]:
                assert one["state"] == "seeding"
                seeder.ask("remove", id=one["id"])
            assert [path for path in (tmp_path / "state" / "releases").iterdir()] == []
            line = ["add", str(release), "--state-dir", str(tmp_path / "state")]
            add = subprocess.Popen(
                [sys.executable, "-m", "libreseed_services.seeder.cli", *line],
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(draw.uniform(0.05, 0.3))
            seeder.kill()
            add.wait(60)
    with running(tmp_path / "state") as seeder:
        seeder.ask("add", path=str(release))
        assert (seeder.only()["state"], seeder.only()["healed"]) == ("seeding", 0)


def test_start_fails_clearly_when_the_lock_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a directory should be")
    with starting(tmp_path / "state") as seeder:
        assert seeder.process.wait(60) in (10, 50)
        assert "Traceback" not in seeder.text()
