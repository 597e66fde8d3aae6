"""A Silexium server's folder with embedded authorities, releases for it, and the server: in process, or as one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libreseed.adapters.command.keys import read_key_file
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.adapters.silexium.releases.answers import Answers
from libreseed.adapters.silexium.releases.publication import Publication
from libreseed.ids import PublicKey, ReleaseId
from libreseed.silexium.trust_policy import SilexiumPolicy, parse_silexium_policy
from services.silexium import cli
from services.silexium.api import Api
from services.silexium.office import Office, open_office
from services.silexium.policy import policy_table
from services.silexium.site import Site, load_site
from services.silexium.stamp_sources import open_stamp_sources
from tests.daemon_support import PATIENCE_S, DaemonProcess, daemon_process
from tests.release_support import make_release
from tests.seeder_support import loopback

__all__ = ["Shop", "SilexiumProcess", "Workshop", "run", "starting", "workshop"]

ORIGIN = "log.test/silexium-b3"


def run(*arguments: object, code: int = 0) -> dict[str, Any]:
    """One command in this process; its JSON answer."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert cli.main([*map(str, arguments), "--json"]) == code, out.getvalue()
    return dict(json.loads(out.getvalue()))


@dataclass
class Shop:
    """``root/server`` is a server's folder; ``author`` and ``tests`` are keys that it trusts for every package."""

    root: Path
    keys: dict[str, PublicKey] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path) -> Shop:
        root.mkdir(parents=True, exist_ok=True)
        shop = cls(root)
        run("init", shop.server, "--origin", ORIGIN, "--embedded", "--listen", f"{loopback()}:0")
        for role in ("author", "tests"):
            shop.keys[role] = PublicKey.parse(run("key", "new", "--out", shop.key(role), "--no-passphrase")["pubkey"])
            run("key", "trust", shop.keys[role], "--role", role, "--config", shop.server)
        return shop

    @property
    def server(self) -> Path:
        return self.root / "server"

    def key(self, role: str) -> Path:
        return self.root / f"{role}.key"

    def public(self, role: str) -> PublicKey:
        return read_key_file(self.key(role)).public

    def tgz(self, release: str, files: Mapping[str, bytes] | None = None) -> Path:
        """The .tgz of a real release, in a release folder below ``root``."""
        name = ReleaseId.parse(release).name
        made, _ = make_release(self.root, release, files or {"README": f"{release} of {name}\n".encode()})
        return made.tgz

    def attested(self, release: str, *, channel: str = "stable", binaries: Mapping[str, bytes] | None = None) -> Path:
        """A complete Silexium release folder; ``binaries`` are for ``os``: their bytes."""
        tgz = self.tgz(release)
        place = self.root / f"{release}.silexium"
        if binaries:
            place.mkdir()
            lines = [f'package = "{release.partition("@")[0]}"', f'version = "{release.partition("@")[2]}"']
            lines += [f'channel = "{channel}"', 'license = "MIT"', 'created-at = "2026-09-21T14:13:20Z"']
            for system, data in binaries.items():
                (place / f"tool-{system}").write_bytes(data)
                lines += ["[[binaries]]", f'file = "tool-{system}"', f'os = "{system}"', 'arch = "x86_64"']
                lines += [f'url = "https://example.org/tool-{system}"']
            (place / "release.toml").write_text("\n".join(lines) + "\n")
            run("attest", "author", place, "--key", self.key("author"))
        else:
            more = ("--channel", channel, "--license", "MIT")
            run("attest", "author", tgz, "--key", self.key("author"), *more)
        self.test(place)
        return place

    def test(self, place: Path, result: str = "pass") -> None:
        author = self.keys["author"]
        run(
            *("attest", "tests", place, "--key", self.key("tests"), "--author", author),
            *("--suite", "suite", "--result", result),
        )

    def ingest(self, place: Path, code: int = 0) -> dict[str, Any]:
        return run("ingest", place, "--config", self.server, code=code)

    def states(self) -> dict[str, str]:
        rows = run("releases", "--most", 10_000, "--config", self.server)["releases"]
        return {row["release"]: row["state"] for row in rows}

    def site(self) -> Site:
        arguments = cli._parser().parse_args(["releases", "--config", str(self.server)])
        return load_site(arguments)

    def policy(self) -> SilexiumPolicy:
        with open_office(self.site()) as office:
            return parse_silexium_policy(policy_table(office))


@dataclass
class Workshop:
    """A server's parts in this process; ``clock`` is its time."""

    office: Office
    log: LogStore
    publication: Publication
    api: Api

    async def publish(self, now: int) -> Any:
        """Steps until nothing is due any more; the last one."""
        for _ in range(20):
            done = await self.publication.advance(now)
            if done.next_due > now:
                return done
        raise AssertionError("something is always due")


@contextlib.asynccontextmanager
async def workshop(shop: Shop) -> Any:
    """The parts of ``shop``'s server, wired as ``serve`` wires them, without HTTP and signals."""
    site = shop.site()
    async with AsyncExitStack() as stack:
        office = stack.enter_context(open_office(site))
        log = LogStore(office.database, site.log_identity())
        stamps = await open_stamp_sources(office, stack)
        publication = Publication(
            office.catalogue,
            log,
            site.unlock("log-key"),
            stamps.stamping,
            policy=office.policy,
            headers=stamps.headers,
        )
        answers = Answers(log, headers=stamps.run)
        api = Api(answers, office.database, dict, lambda _: _no_health(), lambda _: "")
        yield Workshop(office, log, publication, api)


def _no_health() -> Any:
    raise AssertionError("not asked here")


@dataclass
class SilexiumProcess(DaemonProcess):
    """One ``libreseed-silexium serve``."""

    url: str = ""


@contextlib.contextmanager
def starting(shop: Shop, *arguments: str, wait: bool = True) -> Iterator[SilexiumProcess]:
    """Start the server; killed at the end of the block if it still runs. With ``wait`` it has said READY=1."""
    log = shop.root / "serve.log"
    line = [sys.executable, "-m", "libreseed_services.silexium.cli", "serve", "--config", str(shop.server), *arguments]
    with daemon_process(line, log, os.environ, stdout=subprocess.PIPE) as (process, notify):
        server = SilexiumProcess(process, log, notify)
        if wait:
            server.wait_ready()
            assert process.stdout is not None
            server.url = process.stdout.readline().decode().strip()
        yield server


def wait_until(
    shop: Shop,
    releases: Sequence[str],
    state: str = "logged",
    *,
    patience: float = PATIENCE_S,
    server: SilexiumProcess | None = None,
) -> None:
    """Until all of ``releases`` are in ``state`` and, of a logged one, the head that ``server`` serves covers it."""
    deadline = time.monotonic() + patience
    while not all(shop.states().get(release) == state for release in releases):
        assert time.monotonic() < deadline, shop.states()
        time.sleep(0.1)
    while server is not None and not all(_serves(server.url, release) for release in releases):
        assert time.monotonic() < deadline, f"logged, and not served: {releases}"
        time.sleep(0.1)


def _serves(url: str, release: str) -> bool:
    trusting = ssl._create_unverified_context()  # whose certificate it is, is not the question here
    try:
        with urllib.request.urlopen(f"{url}/bundle/{release}", timeout=30, context=trusting) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        with error:
            return False
