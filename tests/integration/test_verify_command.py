"""``libreseed verify`` as a process: a bundle alone, with no network call, every check explained; what is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.proof_support import Desk, draft, export, settled_draft, write_policy
from tests.resolver_support import Sample, make_sample
from tests.silexium_support import MemoryLog, private
from tests.tools import require_program

pytestmark = pytest.mark.integration
MODULE = [sys.executable, "-m", "libreseed_services.user.cli", "verify"]
EVERY_CHECK = [f"10.{number}" for number in range(1, 14)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("release"), 60_000)


@pytest.fixture
def bundle(tmp_path: Path, sample: Sample) -> Path:
    path = tmp_path / "sample@1.0.0.silexium.json"
    path.write_bytes(settled_draft(sample).bundle().data)
    return path


def run(home: Path, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LIBRESEED_", "XDG_"))}
    line = [*before, *MODULE, *map(str, arguments)]
    environment = {**kept, "HOME": str(home)}
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_every_check_is_explained(tmp_path: Path, sample: Sample, bundle: Path) -> None:
    policy = write_policy(tmp_path / "policy.json")
    line = ["--bundle", bundle, "--policy", policy, "--tgz", sample.files.tgz]
    told = json.loads(run(tmp_path, *line, "--json").stdout)
    assert told["ok"] is True
    assert [row["check"] for row in told["checks"]] == EVERY_CHECK
    assert {row["verdict"] for row in told["checks"]} == {"passed"}
    assert all(row["inputs"] for row in told["checks"])
    assert (told["release"], told["not_checked"]) == ("sample@1.0.0", [])

    text = run(tmp_path, *line, "--explain").stdout
    assert re.findall(r"^(10\.\d+) +passed", text, re.MULTILINE) == EVERY_CHECK
    assert "log.example/silexium-b3 with 16 entries" in text
    assert "regtest, which proves nothing" in text


def test_what_is_not_checked_without_the_archive_is_said(tmp_path: Path, bundle: Path) -> None:
    policy = write_policy(tmp_path / "policy.json")
    done = run(tmp_path, "--bundle", bundle, "--policy", policy)
    assert done.returncode == 0
    assert "not checked without --tgz" in done.stdout
    told = json.loads(run(tmp_path, "--bundle", bundle, "--policy", policy, "--json").stdout)
    assert told["not_checked"] == ["10.12", "10.13"]


def test_no_network_is_used(tmp_path: Path, sample: Sample, bundle: Path) -> None:
    """The kernel's word for it: no socket of the internet families is even made."""
    trace = tmp_path / "trace"
    policy = write_policy(tmp_path / "policy.json")
    strace = (require_program("strace"), "-f", "-e", "trace=socket,connect,sendto", "-o", str(trace))
    line = ["--bundle", bundle, "--policy", policy, "--tgz", sample.files.tgz, "--explain", "--json"]
    done = run(tmp_path, *line, before=strace)
    assert done.returncode == 0, done.stderr
    assert "exited with 0" in trace.read_text()  # it was really traced
    assert not re.search(r"AF_(INET|INET6|NETLINK|PACKET)", trace.read_text())


def test_a_refused_bundle_says_which_check_and_what_came_before(tmp_path: Path, sample: Sample) -> None:
    policy = write_policy(tmp_path / "policy.json")
    good = settled_draft(sample).bundle()
    stamps = (replace(good.stamps[0], tsa=good.stamps[1].tsa), *good.stamps[1:])
    path = tmp_path / "bad.json"
    path.write_bytes(replace(good, stamps=stamps).data)
    done = run(tmp_path, "--bundle", path, "--policy", policy, "--explain", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit"]) == (40, 40)
    assert (told["reason"], told["step"], told["check"]) == ("silexium.tsa-imprint", 10, "10.5")
    verdicts = [(row["check"], row["verdict"]) for row in told["checks"]]
    assert verdicts == [(number, "passed") for number in EVERY_CHECK[:4]] + [("10.5", "silexium.tsa-imprint")]
    assert re.search(r"^ *10\.5 +silexium\.tsa-imprint", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("spoil", "reason"), [("bundle", "silexium.bundle"), ("manifest", "silexium.manifest")])
def test_what_cannot_be_read_is_refused_at_step_10_too(tmp_path: Path, sample: Sample, spoil: str, reason: str) -> None:
    good = settled_draft(sample).bundle()
    data = replace(good, manifest=good.manifest + b" ").data if spoil == "manifest" else good.data + b" "
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    done = run(tmp_path, "--bundle", path, "--policy", write_policy(tmp_path / "policy.json"), "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["reason"], told["step"]) == (40, reason, 10)
    assert told.get("check") == ("10.1" if spoil == "manifest" else None)


@pytest.mark.parametrize("spoil", ["archive", "release", "policy"])
def test_proofs_of_something_else_are_refused(tmp_path: Path, sample: Sample, bundle: Path, spoil: str) -> None:
    policy = write_policy(tmp_path / "policy.json", **({"author": private(99)} if spoil == "policy" else {}))
    tgz = sample.files.tgz
    if spoil == "archive":
        tgz = tmp_path / "other.tgz"
        tgz.write_bytes(sample.files.tgz.read_bytes() + b"x")
    release = ["sample@1.0.1"] if spoil == "release" else []
    done = run(tmp_path, *release, "--bundle", bundle, "--policy", policy, "--tgz", tgz, "--json")
    expected = {
        "archive": ("silexium.artifact", "10.12"),
        "release": ("silexium.release", "10.1"),
        "policy": ("silexium.key-unknown", "10.2"),
    }[spoil]
    told = json.loads(done.stdout)
    assert (told["exit"], told["reason"], told["check"]) == (40, *expected)


def test_a_bundle_that_is_not_there_is_missing_whatever_else_is(tmp_path: Path) -> None:
    done = run(tmp_path, "--bundle", tmp_path / "none.json", "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (10, "notfound.file")


def test_without_a_policy_it_says_what_to_do(tmp_path: Path, bundle: Path) -> None:
    done = run(tmp_path, "--bundle", bundle, "--json")
    assert json.loads(done.stdout)["reason"] == "silexium.unavailable"
    assert "--policy" in done.stderr
    (tmp_path / "empty.toml").write_text("silexium = 'required'\n")
    done = run(tmp_path, "--bundle", bundle, "--policy", tmp_path / "empty.toml", "--json")
    assert json.loads(done.stdout)["reason"] == "silexium.unavailable"
    assert "[silexium]" in done.stderr


@pytest.mark.parametrize(
    "line", [[], ["--tgz", "x.tgz"], ["sample@1.0.0", "--policy", "p.toml"], ["--bundle", "x", "--nonsense"]]
)
def test_what_makes_no_sense_is_a_fault_of_usage(tmp_path: Path, line: list[str]) -> None:
    done = run(tmp_path, *line, "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (2, "usage")


def test_the_log_is_held_against_what_a_store_remembers(tmp_path: Path, sample: Sample) -> None:
    making = settled_draft(sample)
    bundle = making.bundle()
    path = tmp_path / "bundle.json"
    path.write_bytes(bundle.data)
    desk = Desk(sample, tmp_path)
    grown = MemoryLog(0)
    grown.hashes = [*making.log.hashes, *MemoryLog(40).hashes[20:]]
    desk.remember(grown, at=making.logged + 10)
    line = ["--bundle", path, "--policy", write_policy(tmp_path / "policy.json"), "--json"]
    assert run(tmp_path, *line).returncode == 0  # first contact
    told = json.loads(run(tmp_path, *line, "--store", desk.store).stdout)
    assert (told["reason"], told["check"]) == ("silexium.rollback", "10.11")
    folder = export(grown, tmp_path / "log")
    assert run(tmp_path, *line, "--store", desk.store, "--silexium", folder).returncode == 0


async def test_an_installed_release_is_verified_again(tmp_path: Path, sample: Sample) -> None:
    desk = Desk(sample, tmp_path)
    outcome = await desk.resolve(draft(sample).bundle())
    line = ["sample@1.0.0", "--store", desk.store, "--json"]
    told = json.loads(run(tmp_path, *line).stdout)
    [place] = told["installed"]
    assert (place["path"], place["silexium"]) == (outcome.path, "proven")
    assert place["proofs"]["checks"] == EVERY_CHECK
    file = Path(outcome.path) / "bin" / "run"
    file.write_bytes(b"#!/bin/sh\nexit 1\n")
    done = run(tmp_path, *line)
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (50, "storage.changed")
    assert json.loads(run(tmp_path, "none@1.0.0", *line[1:]).stdout)["reason"] == "notfound.installed"
