"""``libreseed-resolve`` as a process: exit codes, one clear line, JSON, Ctrl-C, two at once, foreign seeds."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import libtorrent as lt
import pytest
import trio

from libreseed.adapters.command.settings import Endpoint
from libreseed.adapters.dht.udp import DhtNode, DhtOptions
from libreseed.adapters.torrent.session import TorrentSession
from libreseed.adapters.torrent.settings import SessionOptions
from libreseed.errors import TransportFault
from tests.kill_support import command, downloaded
from tests.proof_support import write_policy
from tests.resolver_support import KEY, Sample, assert_installed, make_sample, scene
from tests.tools import require_ipv6

pytestmark = pytest.mark.integration
MODULE = [sys.executable, "-m", "libreseed_services.resolver.cli"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 400_000)


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LIBRESEED_", "XDG_"))}
    return {**kept, "HOME": str(home), **more}


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    line = [*MODULE, *arguments]
    return subprocess.run(
        line, env=environment(home, **variables), capture_output=True, text=True, check=False, timeout=60
    )


def failure(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """Exit code and reason; stderr is one line that names it, and no traceback."""
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert found["exit"] == done.returncode
    assert "Traceback" not in done.stderr
    assert f"[{found['reason']}]" in done.stderr
    assert found["remedy"]
    return done.returncode, found["reason"]


def file(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_what_cannot_work_is_said_before_anything_is_tried(tmp_path: Path) -> None:
    base = ["--json", "--store", str(tmp_path / "store")]
    unknown = file(tmp_path / "unknown.toml", "storre = '/x'\n")
    policy = file(tmp_path / "policy.toml", "silexium = 'required'\n")
    whom = str(write_policy(tmp_path / "whom.json"))
    bad_policy = file(tmp_path / "bad.toml", "silexum = 'required'\n")
    bad_timeout = file(tmp_path / "timeout.toml", "timeout = 'soon'\n")
    cases: list[tuple[list[str], tuple[int, str]]] = [
        (["pkg"], (2, "usage")),
        (["pkg@1.0.0", "--publisher", "ed25519:x"], (2, "usage")),
        (["pkg@1.0.0", "--no-silexium", "--mirror", "ftp://mirror.example"], (2, "usage")),
        (["pkg@1.0.0", "--no-silexium", "--bundle", "x.json"], (2, "usage")),
        (["pkg@1.0.0", "--no-silexium", "--silexium", "https://log.example"], (2, "usage")),
        (["pkg@1.0.0", "--policy", whom, "--silexium", "ftp://log.example"], (2, "usage")),
        (["pkg@1.0.0", "--policy", whom], (40, "silexium.unavailable")),  # whom to believe, but nobody to ask
        (
            ["pkg@1.0.0", "--policy", whom, "--offline", "--silexium", "http://127.0.0.1:1"],
            (40, "silexium.unavailable"),
        ),
        (["pkg@1.0.0", "--policy", whom, "--bundle", str(tmp_path / "none.json")], (10, "notfound.file")),
        (["pkg@1.0.0", "--policy", whom, "--silexium", str(tmp_path / "nowhere")], (10, "notfound.file")),
        (["pkg@1.0.0", "--policy", policy], (40, "silexium.unavailable")),  # a demand alone: believe whom?
        (["pkg@1.0.0", "--bundle", "x.json"], (10, "notfound.file")),  # a missing file is that before all else
        (["pkg@1.0.0", "--bundle", policy], (40, "silexium.unavailable")),
        (["pkg@1.0.0", "--no-silexium", "--bootstrap", "nowhere"], (2, "usage")),
        (["pkg@1.0.0", "--no-silexium", "--peer", "nowhere"], (2, "usage")),
        (["pkg@1.0.0", "--no-silexium", "--timeout", "soon"], (2, "usage")),
        (["pkg@1.0.0", "--no-silexium", "--config", bad_timeout], (3, "config.value")),
        (["pkg@1.0.0", "--no-silexium", "--config", unknown], (3, "config.unknown-key")),
        (["pkg@1.0.0", "--no-silexium", "--policy", bad_policy], (3, "config.policy")),
        (["pkg@1.0.0", "--no-silexium", "--policy", str(tmp_path / "none.toml")], (10, "notfound.file")),
        (["pkg@1.0.0", "--no-silexium", "--policy", policy], (40, "silexium.required")),
        (["pkg@1.0.0"], (40, "silexium.unavailable")),
        (["pkg@1.0.0", "--no-silexium", "--offline", "--publisher", str(KEY.public)], (10, "notfound.offline")),
    ]
    for arguments, expected in cases:
        assert failure(run(tmp_path, *arguments, *base)) == expected, arguments
    assert not (tmp_path / "store").exists()


def test_step_of_a_failure_is_the_one_that_was_under_way(tmp_path: Path) -> None:
    line = ["pkg@1.0.0", "--no-silexium", "--json", "--publisher", str(KEY.public), "--store", str(tmp_path / "store")]
    assert json.loads(run(tmp_path, *line, "--offline").stdout)["step"] == 2
    assert json.loads(run(tmp_path, *line[:-1], file(tmp_path / "file", "")).stdout)["step"] == 1


def test_store_that_is_a_file_is_50(tmp_path: Path) -> None:
    store = file(tmp_path / "store", "not a directory")
    line = ["pkg@1.0.0", "--no-silexium", "--json", "--publisher", str(KEY.public), "--store", store]
    for where in (store, f"{store}/below"):
        assert failure(run(tmp_path, *line[:-1], where)) == (50, "storage.occupied")
        assert failure(run(tmp_path, *line[:-1], where, "--offline")) == (50, "storage.occupied")


def test_wrong_bootstrap_is_11(tmp_path: Path) -> None:
    line = ["pkg@1.0.0", "--no-silexium", "--json", "--publisher", str(KEY.public), "--store", str(tmp_path / "store")]
    assert failure(run(tmp_path, *line, "--bootstrap", "127.0.0.1:1")) == (11, "source.no-bootstrap")


def test_variables_and_configuration_are_used(tmp_path: Path) -> None:
    policy = file(tmp_path / "policy.json", '{"silexium": "required"}')
    config = file(tmp_path / "resolver.toml", f"policy = '{policy}'\n")
    store = str(tmp_path / "store")
    line = ["pkg@1.0.0", "--no-silexium", "--json", "--store", store]
    assert failure(run(tmp_path, *line, "--config", config)) == (40, "silexium.required")
    assert failure(run(tmp_path, *line, LIBRESEED_POLICY=policy)) == (40, "silexium.required")
    usual = file(tmp_path / ".config" / "libreseed" / "resolver.toml", f"policy = '{policy}'\n")
    assert failure(run(tmp_path, *line)) == (40, "silexium.required"), usual
    Path(usual).unlink()
    file(tmp_path / ".config" / "libreseed" / "policy.toml", "silexium = 'required'\n")
    assert failure(run(tmp_path, *line)) == (40, "silexium.required")  # taken without being named


def test_what_is_missing_for_proofs_is_said_with_every_way_out(tmp_path: Path) -> None:
    done = run(tmp_path, "pkg@1.0.0", "--json", "--store", str(tmp_path / "store"))
    told = json.loads(done.stdout)
    assert (told["step"], told["exit"]) == (1, 40)
    for way in ("--policy", "--bundle", "--silexium", "--no-silexium"):
        assert any(way in line for line in told["details"])
        assert way in done.stderr


def test_help_says_that_a_mirrored_log_has_no_bundles(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert "A mirrored log has no bundles" in " ".join(done.stdout.split())


async def test_result_as_text_and_as_json(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        seeder = await it.seed()
        line = command(it, "--peer", str(seeder.endpoint), "--out", str(tmp_path / "out"))
        line = [word for word in line if word not in ("--json", "--quiet")]
        done = await trio.run_process(line, capture_stdout=True, capture_stderr=True)
        path = tmp_path / "out" / str(sample.minimal.release)
        assert done.stdout.decode() == f"{path}\n"
        assert b"Silexium was NOT checked" in done.stderr
        phases, summary, _ = done.stderr.decode().partition(f"{sample.minimal.release} by ")
        assert summary, "one line sums up"
        assert phases.splitlines()[-1].startswith("installing: ")
        assert phases.endswith(", done\n"), "summed up after all that was done"
        assert_installed(sample, path)
        assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]

        hasty = file(tmp_path / "hasty.toml", "patience-seconds = 1\n")
        line = command(it, "--policy", hasty)
        done = await trio.run_process(line, capture_stdout=True, check=False, capture_stderr=True)
        assert (done.returncode, json.loads(done.stdout)["reason"]) == (11, "source.none")  # nobody is announced
        done = await trio.run_process(command(it, "--peer", str(seeder.endpoint)), capture_stdout=True)
        result = json.loads(done.stdout)
        assert result["ok"] is True
        assert result["release"] == str(sample.minimal.release)
        assert result["publisher"] == str(KEY.public)
        assert result["infohash"] == str(sample.minimal.infohash)
        assert result["size"] == sample.minimal.size
        assert result["silexium"] == "not checked"
        assert [row["step"] for row in result["steps"]] == list(range(1, 12))
        spent = [row["cpu_since_start"] for row in result["steps"]]
        assert spent == sorted(spent) and spent[0] > 0
        assert_installed(sample, result["path"])


@pytest.mark.parametrize("by", ["bootstrap", "peer"])
async def test_ipv6_works_without_being_configured(tmp_path: Path, sample: Sample, by: str) -> None:
    """A publisher who has nothing but ``[::1]``: found by its DHT node, or named as a peer."""
    require_ipv6()
    async with scene(tmp_path, sample) as it, trio.open_nursery() as nursery:
        six = DhtNode(DhtOptions(listen=(("::1", 0),)))
        session = TorrentSession(SessionOptions(listen=(("::1", 0),)))
        await nursery.start(six.run)
        await nursery.start(session.run)
        session.seed(sample.metainfo.data, sample.files.folder)
        with contextlib.suppress(TransportFault):  # it keeps the record itself
            await six.put_item(sample.item)
        line = [*MODULE, str(sample.minimal.release), "--no-silexium", "--publisher", str(KEY.public), "--json"]
        line += ["--store", str(it.store)]
        if by == "bootstrap":
            await six.announce_peer(sample.minimal.torrent.truncated, session.port)
            line += ["--bootstrap", str(Endpoint(*six.addresses[0][:2]))]
        else:
            line += ["--bootstrap", str(it.bootstrap[0]), "--peer", f"[::1]:{session.port}"]
        with trio.fail_after(60):
            done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False)
        result = json.loads(done.stdout)
        assert result["ok"], result
        assert_installed(sample, result["path"])
        nursery.cancel_scope.cancel()


def test_host_without_ipv6_is_told_nothing_of_it(tmp_path: Path) -> None:
    """No address family fails because the other one is all there is: what fails is the bootstrap that is nobody."""
    blind = file(
        tmp_path / "blind.py",
        "import socket, sys\n"
        "class Blind(socket.socket):\n"
        "    def __init__(self, family=-1, *rest, **more):\n"
        "        if family == socket.AF_INET6:\n"
        "            raise OSError(97, 'Address family not supported by protocol')\n"
        "        super().__init__(family, *rest, **more)\n"
        "socket.socket = Blind\n"
        "from libreseed_services.resolver.cli import main\n"
        "sys.exit(main())\n",
    )
    line = [sys.executable, blind, "pkg@1.0.0", "--no-silexium", "--json", "--publisher", str(KEY.public)]
    line += ["--store", str(tmp_path / "store"), "--bootstrap", "127.0.0.1:1"]
    done = subprocess.run(line, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=60)
    assert failure(done) == (11, "source.no-bootstrap")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
async def test_ctrl_c_is_130_and_the_next_run_goes_on(tmp_path: Path, sample: Sample, number: signal.Signals) -> None:
    async with scene(tmp_path, sample) as it:
        seeder = await it.seed()
        seeder.session.set_limits(upload=60_000)
        line = command(it, "--peer", str(seeder.endpoint))

        async def interrupt(process: trio.Process) -> None:
            while not downloaded(sample, it.store):
                await trio.sleep(0.05)  # the journal of another process
            process.send_signal(number)

        async with trio.open_nursery() as nursery:
            start = partial(trio.run_process, line, capture_stdout=True, capture_stderr=True, check=False)
            results: list[subprocess.CompletedProcess[bytes]] = []

            async def keep(*, task_status: trio.TaskStatus[trio.Process]) -> None:
                results.append(await start(task_status=task_status))

            process = await nursery.start(keep)
            await interrupt(process)
        [done] = results
        assert done.returncode == 130
        assert json.loads(done.stdout)["reason"] == "interrupted"
        assert json.loads(done.stdout)["step"] == 5
        assert not list((it.store / "packages").iterdir())
        seeder.session.set_limits()
        outcome = await it.resolve()
        assert outcome.chunks["reused"] > 0
        assert_installed(sample, outcome.path)


async def test_two_resolvers_at_once_share_one_store(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample) as it:
        await it.seed()
        outcomes = []

        async def one() -> None:
            outcomes.append(await it.resolve())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
        assert sorted(outcome.already for outcome in outcomes) == [False, True]
        assert_installed(sample, outcomes[0].path)


async def test_full_disk_is_50_and_nothing_is_visible(tmp_path: Path, sample: Sample) -> None:
    """RLIMIT_FSIZE stands for a full disk: writes fail in the same places."""
    async with scene(tmp_path, sample) as it:
        seeder = await it.seed()
        line = command(it, "--peer", str(seeder.endpoint))
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
        start = partial(subprocess.run, line, capture_output=True, check=False, preexec_fn=limit, timeout=60)
        done = await trio.to_thread.run_sync(start)
        told = json.loads(done.stdout)
        assert (done.returncode, told["exit"]) == (50, 50)
        assert told["reason"] in ("storage.full", "storage.io")  # libtorrent does not always say why a write was short
        assert str(it.store) in told["message"]
        assert told["step"] in (4, 5)
        assert b"Traceback" not in done.stderr
        assert not list((it.store / "packages").iterdir())
        assert_installed(sample, (await it.resolve()).path)


async def test_ordinary_libtorrent_client_is_the_only_seed(tmp_path: Path, sample: Sample) -> None:
    """Default settings of libtorrent, its own file layout, its own torrent folder."""
    async with scene(tmp_path, sample) as it:
        client = lt.session({"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False})
        params = lt.load_torrent_file(str(sample.files.path(".torrent")))
        params.save_path = str(sample.files.folder.parent)
        handle = client.add_torrent(params)
        with trio.fail_after(60):
            while not handle.status().is_seeding:
                await trio.sleep(0.05)  # libtorrent hashes its files first
        outcome = await it.resolve(peers=(Endpoint("127.0.0.1", client.listen_port()),))
        assert_installed(sample, outcome.path)
        client.pause()
