"""What somebody meets who sets up a log for the first time: every mistake is answered with what to do next."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from libreseed.adapters.resolving.policy_file import read_policy
from services.silexium import cli
from services.user.cli import main as user_main
from tests.silexium_server_support import Shop, run, starting

pytestmark = pytest.mark.integration

RELEASE = "hello@1.0.0"
KEY = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop.make(tmp_path / "shop")


def test_a_server_without_authorities_says_where_they_are_named(tmp_path: Path) -> None:
    run("init", tmp_path / "log", "--origin", "log.test/b3")
    for command in ("serve", "policy"):
        told = run(command, "--config", tmp_path / "log", code=3)
        assert told["reason"] == "config.value"
        assert str(tmp_path / "log" / "silexium.toml") in told["message"]
        assert "--embedded" in told["message"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('network = "mainet"\ntsas = []', "mainet"),
        ('tsas = [{ name = "one", root = "-----BEGIN CERTIFICATE-----..." }]', "PEM"),
    ],
)
def test_no_policy_is_printed_that_clients_would_refuse(tmp_path: Path, line: str, named: str) -> None:
    run("init", tmp_path / "log", "--origin", "log.test/b3")
    with (tmp_path / "log" / "silexium.toml").open("a") as file:
        file.write(f"\n[time]\n{line}\n")
    told = run("policy", "--config", tmp_path / "log", code=3)
    assert told["reason"] == "config.policy"
    assert named in told["message"]
    assert str(tmp_path / "log" / "silexium.toml") in told["message"]
    assert "cryptography.io" not in told["message"]


@pytest.mark.parametrize("table", ['[[witnesses]]\nname = "w"\nkey = "k"', '[[authorities]]\nname = "one"'])
def test_a_setting_below_a_table_is_named_as_what_does_not_belong_there(tmp_path: Path, table: str) -> None:
    """TOML gives it to the table above it."""
    run("init", tmp_path / "log", "--origin", "log.test/b3")
    with (tmp_path / "log" / "silexium.toml").open("a") as file:
        file.write(f'\n{table}\nurl = "https://example.org"\ncosigned = 1\n')
    told = run("log", "head", "--config", tmp_path / "log", code=3)
    assert "cosigned" in told["message"]
    assert "above the first table" in told["message"]


def test_an_origin_with_a_space_is_called_a_log_s_name(tmp_path: Path) -> None:
    told = run("init", tmp_path / "log", "--origin", "my log", code=2)
    assert "'my log'" in told["message"]
    assert "without spaces" in told["message"]


def test_ingesting_what_the_tests_have_not_attested_names_the_command_that_does(shop: Shop) -> None:
    place = shop.attested(RELEASE)
    (place / f"{RELEASE}.tests.json").unlink()
    told = shop.ingest(place, code=10)
    assert told["reason"] == "notfound.file"
    assert "libreseed-silexium attest tests" in told["message"]


def test_ingesting_without_the_author_s_attestation_names_the_command_that_makes_it(shop: Shop) -> None:
    place = shop.attested(RELEASE)
    (place / f"{RELEASE}.author.json").unlink()
    assert "libreseed-silexium attest author" in shop.ingest(place, code=10)["message"]


def test_ingesting_the_release_folder_names_the_folder_that_was_meant(shop: Shop) -> None:
    place = shop.attested(RELEASE)
    folder = shop.tgz("other@1.0.0").parent
    told = shop.ingest(folder, code=10)
    assert "attest author" in told["message"]
    shutil.move(place, folder.with_name(f"{folder.name}.silexium"))
    told = shop.ingest(folder, code=10)
    assert f"{folder}.silexium" in told["message"]


def test_trusting_a_key_says_in_which_database(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --config it would be the user's own, and the server would go on refusing the key."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    capsys.readouterr()
    assert cli.main(["key", "list"]) == 0
    assert str(tmp_path / "data") in capsys.readouterr().out
    assert cli.main(["key", "trust", KEY, "--role", "author", "--config", str(shop.server)]) == 0
    assert str(shop.server / "silexium.db") in capsys.readouterr().out
    told = run("key", "revoke", KEY, "--config", shop.server)
    assert told["database"] == str(shop.server / "silexium.db")


def test_a_database_can_lie_elsewhere_and_every_command_finds_it_by_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the systemd unit has it: the settings and keys in a folder that the service cannot write."""
    monkeypatch.chdir(tmp_path)
    run("init", "log", "--origin", "log.test/b3", "--embedded", "--database", "state/silexium.db")
    (tmp_path / "state").mkdir()
    told = run("key", "trust", KEY, "--role", "author", "--config", tmp_path / "log")
    assert told["database"] == str(tmp_path / "state" / "silexium.db")
    assert (tmp_path / "state" / "silexium.db").is_file()


def test_a_check_says_what_was_compared(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.ingest(shop.attested(RELEASE))
    capsys.readouterr()
    assert cli.main(["releases", "--check", "--config", str(shop.server)]) == 0
    assert capsys.readouterr().out == "0 logged releases held against the log: no difference\n"


def test_a_check_up_knows_whom_the_printed_policy_believes(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config"
    config.mkdir()
    for name, value in (("CONFIGURATION_DIRECTORY", config), ("LIBRESEED_STORE", tmp_path), ("LIBRESEED_KEY", "")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("LIBRESEED_LISTEN", "127.0.0.1:0")

    def told(check: str) -> str:
        capsys.readouterr()
        assert user_main(["doctor", "--offline"]) == 0
        out = capsys.readouterr().out
        return out[out.index(f" {check}: ") - 5 :].partition("\nok ")[0]

    assert "libreseed-silexium policy --prefix silexium" in told("Silexium")
    assert str(config / "policy.toml") in told("Silexium")
    assert told("trust").startswith("warn")
    capsys.readouterr()
    assert cli.main(["policy", "--config", str(shop.server), "--prefix", "silexium"]) == 0
    (config / "policy.toml").write_text(capsys.readouterr().out)
    assert told("trust").startswith("ok")
    assert "1 author key " in told("trust")
    assert told("Silexium").startswith("ok")
    assert "--silexium" in told("Silexium")  # the printed policy names no source


def test_demands_of_ones_own_go_below_the_first_line_of_the_printed_policy(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/operations.md says, "The policy"."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    [demands] = re.findall(r"```toml\n *\[silexium\][^\n]*\n(.*?)```", text, re.DOTALL)
    capsys.readouterr()
    assert cli.main(["policy", "--config", str(shop.server), "--prefix", "silexium"]) == 0
    first, _, rest = capsys.readouterr().out.partition("\n")
    assert first == "[silexium]"
    (tmp_path / "policy.toml").write_text(f"{first}\n{demands}\n{rest}")
    policy = read_policy(tmp_path / "policy.toml")
    assert policy.sources == ("https://log.example.org",)
    assert not policy.silexium_waivable
    assert policy.min_age_s == 86400
    assert policy.silexium is not None


def test_with_json_a_server_tells_its_address_as_json(shop: Shop) -> None:
    with starting(shop, "--json") as server:
        told = json.loads(server.url)
    assert told["ok"] is True
    assert [url.partition("://")[0] for url in told["urls"]] == ["http"]
