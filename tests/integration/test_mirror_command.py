"""``libreseed-resolve`` with mirrors as a user runs it: flags, configuration, variables, exit codes, the report."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from libreseed.adapters.resolving.resolver_settings import load_resolver_settings
from libreseed.errors import UsageFault
from tests.mirror_support import Asked, FakeMirror, files_of, start, without_chunks
from tests.resolver_support import KEY, Sample, assert_installed, make_sample, scene

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("mirror-command"), 400_000)


async def run(store: Path, *flags: str, **variables: str) -> tuple[int, dict[str, Any], str]:
    line = [sys.executable, "-m", "libreseed_services.resolver.cli", "sample@1.0.0", "--no-silexium", "--json"]
    line += ["--store", str(store), "--publisher", str(KEY.public), *flags]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIBRESEED_")}
    done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False, env=kept | variables)
    return done.returncode, json.loads(done.stdout), done.stderr.decode()


@pytest.mark.slow
async def test_by_flag_by_variable_and_by_configuration(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample, publish=False) as it:
        site = await start(it.nursery, files_of(sample))
        config = tmp_path / "resolver.toml"
        config.write_text(f'bootstrap = []\nmirrors = ["{site.url}"]\n', encoding="utf-8")
        ways: dict[str, tuple[list[str], dict[str, str]]] = {
            "flag": (["--mirror", site.url + "/", "--bootstrap", "none"], {}),
            "variable": ([], {"LIBRESEED_MIRRORS": site.url, "LIBRESEED_BOOTSTRAP": ""}),
            "file": (["--config", str(config)], {}),
        }
        for name, (flags, variables) in ways.items():
            code, report, _ = await run(tmp_path / name, *flags, **variables)
            assert code == 0, report
            assert_installed(sample, report["path"])
            assert report["chunks"]["mirrored"] == sample.layout.grid.n
            assert report["sources"]["record"] == site.url
            assert list(report["sources"]["mirrors"]) == [site.url]
            assert report["sources"]["received"]["total"] >= sample.minimal.size


async def test_beside_a_named_peer_and_without_a_dht(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample, publish=False) as it:
        seeder = await it.seed()
        documents = {path: data for path, data in files_of(sample).items() if not path.startswith("/seed")}
        site = await start(it.nursery, documents)
        flags = ["--mirror", site.url, "--peer", str(seeder.endpoint), "--bootstrap", "none"]
        code, report, _ = await run(tmp_path / "store", *flags)
        assert code == 0, report
        assert_installed(sample, report["path"])
        assert report["chunks"]["mirrored"] == 0


@pytest.mark.slow
async def test_what_is_wrong_with_each_mirror_is_said(tmp_path: Path, sample: Sample) -> None:
    async with scene(tmp_path, sample, publish=False) as it:
        liar = await start(it.nursery, without_chunks(files_of(sample), sample, range(sample.layout.grid.n)))
        dead = "http://127.0.0.252:9"
        policy = tmp_path / "policy.toml"
        policy.write_text("patience-seconds = 1\n", encoding="utf-8")
        flags = ["--mirror", liar.url, "--mirror", dead, "--bootstrap", "none", "--policy", str(policy)]
        code, report, _ = await run(tmp_path / "store", *flags)
        assert (code, report["reason"], report["step"]) == (11, "source.incomplete", 5)
        assert "none of them as signed" in report["message"].partition(liar.url)[2]
        assert "cannot be reached" in report["message"].partition(dead)[2]


@pytest.mark.slow
async def test_a_resolver_that_is_stopped_for_longer_than_its_patience_goes_on(tmp_path: Path, sample: Sample) -> None:
    """Ctrl-Z, a frozen container, a starved machine: the mirror was not silent, nobody listened."""
    policy = tmp_path / "policy.toml"
    policy.write_text("patience-seconds = 2\npeer-silence-seconds = 2\n", encoding="utf-8")
    processes: list[trio.Process] = []

    async def stop_and_go_on(mirror: FakeMirror, asked: Asked, stream: trio.SocketStream) -> bool:
        if len(mirror.asked) == 1:
            processes[0].send_signal(signal.SIGSTOP)
            await trio.sleep(6)
            processes[0].send_signal(signal.SIGCONT)
            await trio.sleep(0.5)  # it has looked at its clock by now
        return False

    async with scene(tmp_path, sample, publish=False) as it:
        site = await start(it.nursery, files_of(sample), stop_and_go_on)
        line = [sys.executable, "-m", "libreseed_services.resolver.cli", "sample@1.0.0", "--no-silexium"]
        line += ["--store", str(it.store), "--publisher", str(KEY.public), "--policy", str(policy)]
        line += ["--mirror", site.url, "--bootstrap", "none"]
        async with trio.open_nursery() as nursery:
            processes.append(await nursery.start(partial(trio.run_process, line, capture_stderr=True, check=False)))
            code = await processes[0].wait()
        assert code == 0
        assert_installed(sample, it.store / "packages" / "sample@1.0.0")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--mirror", "https://user:secret@example.org"], (2, "usage")),
        (["--mirror", "https://example.org/?a=b"], (2, "usage")),
        ([flag for n in range(17) for flag in ("--mirror", f"http://127.0.0.1:{9000 + n}")], (2, "usage")),
        (
            ["--mirror", "https://127.0.0.1:9", "--ca-file", "/nowhere/ca.pem", "--bootstrap", "none"],
            (10, "notfound.file"),
        ),
        (["--mirror", "https://127.0.0.1:9", "--ca-file", os.devnull, "--bootstrap", "none"], (3, "http.ca")),
    ],
    ids=["password", "query", "too-many", "no-ca-file", "empty-ca-file"],
)
async def test_bad_settings_are_said_before_anything_is_asked(
    tmp_path: Path, flags: list[str], reason: tuple[int, str]
) -> None:
    code, report, _ = await run(tmp_path / "store", *flags)
    assert (code, report["reason"]) == reason
    assert "secret" not in report["message"]


_MANY = [f"http://127.0.0.1:{9000 + number}" for number in range(17)]


@pytest.mark.parametrize(
    ("urls", "reason"), [(["ftp://example.org"], "http.url"), (_MANY, "config.value")], ids=["no-http", "too-many"]
)
@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_a_mirror_that_cannot_be_used_is_blamed_on_who_named_it(
    tmp_path: Path, source: str, urls: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "resolver.toml"
    config.write_text(f"mirrors = {json.dumps(urls)}\n" if source == "file" else "", encoding="utf-8")
    if source == "variable":
        monkeypatch.setenv("LIBRESEED_MIRRORS", " ".join(urls))
    with pytest.raises(UsageFault) as caught:
        load_resolver_settings(config, {"mirrors": urls} if source == "flag" else {})
    named = {"flag": "--mirror: ", "variable": "LIBRESEED_MIRRORS: ", "file": f"mirrors in {config}: "}[source]
    assert caught.value.message.startswith(named)
    assert caught.value.reason == ("usage" if source == "flag" else reason)
