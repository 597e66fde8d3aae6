"""contrib/ci/: the workflows are valid YAML, and their own lines, run by bash, make a release that verifies."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools import require_program

pytestmark = pytest.mark.integration
CI = Path(__file__).parents[2] / "contrib" / "ci"
TEMPLATES = ("github-release.yml", "gitlab-release.yml")
BIN = Path(sys.executable).parent


def _load(name: str) -> dict[Any, Any]:
    document = yaml.safe_load((CI / name).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def _jobs(name: str) -> Iterator[tuple[str, list[tuple[dict[str, str], str]]]]:
    """Each job's name and its scripts, with the variables that they get."""
    document = _load(name)
    if name.startswith("github"):
        for job, body in document["jobs"].items():
            steps = [step for step in body["steps"] if "run" in step]
            yield job, [(step.get("env", {}), step["run"]) for step in steps]
        return
    for job in ("package", "test"):
        body = document[job] | {"script": [*document[".libreseed"]["before_script"], *document[job]["script"]]}
        yield job, [({}, "\n".join(body["script"]))]


def _commands(name: str) -> list[list[str]]:
    """Every command line of ours, as words; variables stay as they are."""
    found = []
    for _, scripts in _jobs(name):
        for _, script in scripts:
            for line in script.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0].startswith("libreseed"):
                    found.append(words)
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_command_and_flag_exists(name: str) -> None:
    commands = _commands(name)
    assert {words[0] for words in commands} == {"libreseed-packager", "libreseed-silexium"}
    assert len(commands) == 3
    for words in commands:
        depth = 3 if words[1] == "attest" else 2
        done = subprocess.run(
            [BIN / words[0], *words[1:depth], "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{word}\b", done.stdout), f"{words[0]} {words[1]} has no {word}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository as the templates expect it, with a tag, two keys, and stand-ins for `make` and `pip`."""
    require_program("git")
    require_program("make")
    root = tmp_path / "project"
    root.mkdir()
    (root / "Makefile").write_text(
        "dist:\n\tmkdir -p dist\n\techo hello > dist/README\n"
        "check:\n\ttest -d releases\n\techo '<testsuites/>' > $(REPORT)\n.PHONY: dist check\n"
    )
    for arguments in (["init", "-q"], ["add", "-A"], ["-c", "commit.gpgsign=false", "commit", "-q", "-m", "first"]):
        identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *identity, *arguments], cwd=root, check=True, timeout=60)
    tools = tmp_path / "tools"
    tools.mkdir()
    pinned = "-m pip install --require-hashes -r libreseed.txt"  # nothing else may run beside the keys
    (tools / "python").write_text(f'#!/bin/sh\n[ "$*" = "{pinned}" ]\n')
    (tools / "python").chmod(0o755)
    for key in ("author", "tests"):
        new = [BIN / "libreseed-silexium", "key", "new", "--out", tmp_path / f"{key}.key", "--no-passphrase"]
        subprocess.run(new, check=True, timeout=60, capture_output=True)
    return root


def _environment(project: Path, name: str, job: str, variables: dict[str, str]) -> dict[str, str]:
    """What the CI system would give: the template's variables and its own, no others of LibreSeed."""
    keys = {role: project.parent / f"{role}.key" for role in ("author", "tests")}
    public = json.loads(keys["author"].read_text())["pubkey"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LIBRESEED", "SOURCE_"))}
    environ["PATH"] = os.pathsep.join([str(project.parent / "tools"), str(BIN), environ["PATH"]])
    document = _load(name)
    environ |= {key: str(value) for key, value in document.get("env", document.get("variables", {})).items()}
    environ |= {"AUTHOR": public, "VERSION": "v1.2.3", "CI_COMMIT_TAG": "v1.2.3", "CI_PIPELINE_URL": "https://ci/1"}
    if name.startswith("gitlab"):
        environ["AUTHOR_KEY" if job == "package" else "TESTS_KEY"] = str(
            keys["author" if job == "package" else "tests"]
        )
    known = {"LIBRESEED_KEY": keys["author" if job == "package" else "tests"].read_text(), "SUITE": "https://ci/1"}
    return environ | {key: known[key] for key in variables}


@pytest.mark.parametrize("name", TEMPLATES)
def test_its_own_lines_make_a_release_that_is_attested_and_verifies(name: str, project: Path) -> None:
    for job, scripts in _jobs(name):
        for variables, script in scripts:
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=project,
                env=_environment(project, name, job, variables),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{job}: {script}\n{done.stdout}{done.stderr}"
    releases = project / "releases"
    assert {path.name for path in releases.iterdir()} == {"hello@1.2.3", "hello@1.2.3.silexium"}
    epoch = int(
        subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=project, capture_output=True, text=True, timeout=60, check=True
        ).stdout
    )
    minimal = json.loads((releases / "hello@1.2.3" / "hello@1.2.3.minimal.json").read_text())
    assert minimal["timestamp"] == epoch * 1000
    attested = {path.name for path in (releases / "hello@1.2.3.silexium").iterdir()}
    assert {"hello@1.2.3.author.json", "hello@1.2.3.tests.json"} <= attested
    tests = json.loads((releases / "hello@1.2.3.silexium" / "hello@1.2.3.tests.json").read_text())
    author = json.loads((project.parent / "author.key").read_text())["pubkey"]
    assert author not in json.dumps(tests)


def test_no_secret_is_ever_written_into_a_command_line() -> None:
    """GitHub's expressions are replaced before the shell reads the line: only variables may carry what is secret."""
    for name in TEMPLATES:
        for _, scripts in _jobs(name):
            for _, script in scripts:
                assert "${{" not in script


def test_the_author_and_the_tests_do_not_share_a_job() -> None:
    github = _load(TEMPLATES[0])
    assert {job["environment"] for job in github["jobs"].values()} == {"author", "tests"}
    assert github["permissions"] == {"contents": "read"}
    gitlab = _load(TEMPLATES[1])
    assert "TESTS_KEY" not in str(gitlab["package"]) and "AUTHOR_KEY" not in str(gitlab["test"])
