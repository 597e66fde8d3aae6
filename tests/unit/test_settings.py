"""Settings: a file, overridden by variables, overridden by flags; every mistake is named with its source."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libreseed.adapters.command.settings import (
    Endpoint,
    Setting,
    address,
    boolean,
    default_directory,
    endpoint,
    file_path,
    integer,
    list_of,
    load_settings,
    seconds,
    text,
)
from libreseed.errors import LibreSeedError, NotFound, UsageFault

SCHEMA = (
    Setting("listen", endpoint, Endpoint("0.0.0.0", 0)),
    Setting("dht-port", integer(0, 65535), 6881),
    Setting("bootstrap", list_of(endpoint), ()),
    Setting("name", text),
    Setting("state-dir", file_path),
    Setting("announce", boolean, True),
    Setting("timeout", seconds, 60.0),
)


def _load(
    tmp_path: Path, content: str = "", environ: dict[str, str] | None = None, **flags: object
) -> dict[str, object]:
    config = tmp_path / "config.toml"
    config.write_text(content)
    return load_settings(
        SCHEMA,
        config=config,
        environ=environ or {},
        flags={key.replace("_", "-"): value for key, value in flags.items()},
    )


def test_defaults(tmp_path: Path) -> None:
    assert _load(tmp_path) == {setting.key: setting.default for setting in SCHEMA}


def test_flag_over_variable_over_file(tmp_path: Path) -> None:
    content, environ = "dht-port = 1\n", {"LIBRESEED_DHT_PORT": "2"}
    assert _load(tmp_path, content)["dht-port"] == 1
    assert _load(tmp_path, content, environ)["dht-port"] == 2
    assert _load(tmp_path, content, environ, dht_port="3")["dht-port"] == 3
    assert _load(tmp_path, content, environ, dht_port=None)["dht-port"] == 2


def test_every_kind_from_toml_and_from_text(tmp_path: Path) -> None:
    content = (
        'listen = "127.0.0.1:80"\nbootstrap = ["a:1", "[::1]:2"]\nname = "x"\nstate-dir = "~/s"\n'
        "announce = false\ntimeout = 2.5\n"
    )
    from_file = _load(tmp_path, content)
    environ = {
        "LIBRESEED_LISTEN": "127.0.0.1:80",
        "LIBRESEED_BOOTSTRAP": "a:1, [::1]:2",
        "LIBRESEED_NAME": "x",
        "LIBRESEED_STATE_DIR": "~/s",
        "LIBRESEED_ANNOUNCE": "false",
        "LIBRESEED_TIMEOUT": "2.5",
    }
    assert from_file == _load(tmp_path, "", environ)
    assert from_file["bootstrap"] == (Endpoint("a", 1), Endpoint("::1", 2))
    assert from_file["state-dir"] == Path("~/s").expanduser()
    assert (from_file["announce"], from_file["timeout"]) == (False, 2.5)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("dht_port = 1", "config.unknown-key"),
        ("[dht]\nport = 1", "config.unknown-key"),
        ("dht-port = ", "config.syntax"),
        ("dht-port = 1\ndht-port = 2", "config.syntax"),
        ("dht-port = true", "config.value"),
        ("dht-port = 65536", "config.value"),
        ("dht-port = -1", "config.value"),
        ('dht-port = "０"', "config.value"),
        ("dht-port = 1.0", "config.value"),
        ("name = ''", "config.value"),
        ("name = 5", "config.value"),
        ("announce = 1", "config.value"),
        ("timeout = 0", "config.value"),
        ("timeout = nan", "config.value"),
        ("timeout = inf", "config.value"),
        ("timeout = true", "config.value"),
        ("bootstrap = 5", "config.value"),
        ('listen = "127.0.0.1"', "config.endpoint"),
        ("x = " + "[" * 5000, "config.syntax"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(UsageFault) as caught:
        _load(tmp_path, content)
    assert (caught.value.reason, caught.value.exit_code) == (reason, 3)


def test_the_message_names_the_source(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="LIBRESEED_DHT_PORT"):
        _load(tmp_path, "", {"LIBRESEED_DHT_PORT": "x"})
    with pytest.raises(UsageFault, match=r"config\.toml"):
        _load(tmp_path, "dht-port = 'x'")
    with pytest.raises(UsageFault, match="--dht-port"):
        _load(tmp_path, dht_port="x")
    with pytest.raises(UsageFault, match="LIBRESEED_BOOTSTRAP"):
        _load(tmp_path, "", {"LIBRESEED_BOOTSTRAP": "x"})


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_settings(SCHEMA, config=tmp_path / "no.toml", flags={}, environ={})
    (tmp_path / "bin").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageFault) as caught:
        load_settings(SCHEMA, config=tmp_path / "bin", flags={}, environ={})
    assert caught.value.reason == "config.syntax"


@pytest.mark.parametrize("value", ["a:1", "router.example.org:6881", "127.0.0.1:65535", "[::1]:0", "[fe80::1%lo]:9"])
def test_endpoint_round_trip(value: str) -> None:
    assert str(endpoint(value)) == value


@pytest.mark.parametrize(
    "value",
    ["", "a", "a:", ":1", "a:65536", "a:-1", "a:01", "a: 1", "a:１", "::1:5", "[::1]", "a b:1", "a:1\n", None, 5],
)
def test_endpoint_refused(value: object) -> None:
    with pytest.raises(UsageFault) as caught:
        endpoint(value)
    assert caught.value.reason == "config.endpoint"


@given(st.text(max_size=40))
def test_only_declared_faults_escape_the_endpoint_reader(value: str) -> None:
    try:
        assert 0 <= endpoint(value).port <= 65535
    except LibreSeedError as error:
        assert error.reason == "config.endpoint"


@pytest.mark.parametrize("value", ["localhost", "10.0.0.0/8", "127.0.0.1:80", "[::1]", "", 1, None])
def test_what_names_no_single_address_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        address(value)


def test_an_address_is_spelled_as_connections_have_it() -> None:
    assert [address(text) for text in ("127.0.0.1", "0:0::1", "2001:DB8::0")] == ["127.0.0.1", "::1", "2001:db8::"]


def test_places(tmp_path: Path) -> None:
    assert default_directory("state", {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}) == Path("/var/lib/a")
    assert default_directory("config", {"CONFIGURATION_DIRECTORY": "/etc/a"}) == Path("/etc/a")
    assert default_directory("data", {}).name == "libreseed"


def test_no_test_sees_the_settings_of_whoever_runs_the_suite() -> None:
    look = "from libreseed.adapters.command.settings import *; print(default_directory('config'))"
    line = [sys.executable, "-c", look]
    there = Path(subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout.strip())
    assert there == default_directory("config") and there.name == "libreseed" and not there.exists()
    assert Path.home() != Path(pwd.getpwuid(os.geteuid()).pw_dir)
    assert not [name for name in os.environ if name.startswith("XDG_") or name == "LIBRESEED_KEY"]
