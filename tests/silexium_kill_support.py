"""Kills a Silexium server, and the ingests beside it, at random moments, and looks at what is left each time."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from libreseed import limits
from libreseed.adapters.silexium.log.log_rows import entries_between
from libreseed.adapters.silexium.log.log_store import LogStore
from libreseed.ids import ReleaseId
from libreseed.silexium.bundle import parse_bundle
from libreseed.silexium.bundle_check import verify_bundle
from libreseed.silexium.log_memory import parse_consistency
from libreseed.silexium.tree_head import SignedTreeHead
from libreseed.silexium.verification import ReleaseVerification
from services.silexium.office import open_office
from tests.silexium_server_support import Shop, starting, wait_until

__all__ = ["Ordeal", "finish", "one_round"]


@dataclass
class Ordeal:
    """What was seen: heads by size, log indices by release, and what was killed in which state."""

    shop: Shop
    heads: dict[int, SignedTreeHead] = field(default_factory=dict)
    logged: dict[str, int] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)

    def look(self) -> None:
        """Check the database as it lies there after a kill."""
        with closing(sqlite3.connect(self.shop.server / "silexium.db")) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'log_sth'").fetchone():
                return
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            rows = connection.execute(
                "SELECT name || '@' || version, log_index, state FROM versions "
                "JOIN packages ON packages.id = package_id"
            ).fetchall()
            entries = [(index, body) for index, _, body in entries_between(connection, 0, limits.LOG_ENTRIES)]
        found = {release: index for release, index, state in rows if state == "logged"}
        assert self.logged.items() <= found.items(), "a logged release was lost or moved"
        named = [json.loads(body) for _, body in entries]
        assert [index for index, _ in entries] == list(range(len(entries)))
        listed = [f"{entry['package']}@{entry['version_text']}" for entry in named]
        assert len(set(listed)) == len(listed), "a release has two entries"
        assert {release: listed.index(release) for release in listed} == found, "log and catalogue differ"
        self.logged = found
        for state in (state for _, _, state in rows):
            self.kills[state] += 1
        self._look_at_head()

    def _look_at_head(self) -> None:
        site = self.shop.site()
        with open_office(site) as office:
            log = LogStore(office.database, site.log_identity())
            head = log.head()
            if head is None:
                assert not self.heads
                return
            for size, seen in self.heads.items():
                assert size <= head.size, "the log has shrunk"
                assert log.root_at(size) == seen.root.raw, "a size has two roots"
            self.heads[head.size] = head


def one_round(ordeal: Ordeal, place: Path, draw: random.Random) -> None:
    """Ingest and serve at once; kill the server, and half of the ingests, too.

    Mostly the server is killed within the fractions of a second in which it takes a release through its states; else at
    any moment since its start.
    """
    line = [sys.executable, "-m", "libreseed_services.silexium.cli"]
    ingest = subprocess.Popen(
        [*line, "ingest", str(place), "--config", str(ordeal.shop.server)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if draw.random() < 0.5:
        ingest.wait(120)  # the server finds it staged, and begins at once
    with starting(ordeal.shop, wait=False) as server:
        if draw.random() < 0.7:
            before, started = server.text().count("INFO ready"), time.monotonic()
            while server.text().count("INFO ready") == before and server.process.poll() is None:
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.4) * (time.monotonic() - started))  # a busy machine takes longer for both
        else:
            time.sleep(draw.uniform(0, 2.5))
        if draw.random() < 0.5:
            ingest.kill()
        server.process.kill()
        server.process.wait(60)
    ingest.wait(120)
    ordeal.look()


def finish(ordeal: Ordeal, places: list[Path]) -> None:
    """Let everything be logged, and hold every bundle and every head that was seen against the end."""
    shop = ordeal.shop
    for place in places:  # those whose ingest was killed
        shop.ingest(place)
    releases = [place.name.removesuffix(".silexium") for place in places]
    with starting(shop) as server:
        wait_until(shop, releases, patience=600, server=server)
        policy, now = shop.policy(), int(time.time())
        for release in releases:
            with urllib.request.urlopen(f"{server.url}/bundle/{release}", timeout=30) as answer:
                bundle = parse_bundle(answer.read())
            verify_bundle(ReleaseVerification(policy, ReleaseId.parse(release), now=now), bundle)
        for head in ordeal.heads.values():
            asked = {"package": "hello", "os": "linux", "arch": "x86_64", "known_sth": head.members()}
            body = json.dumps(asked).encode()
            request = urllib.request.Request(f"{server.url}/install", body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                proof = json.loads(answer.read())["log_proof"]["consistency"]
            assert head.size == 0 or parse_consistency(proof).old == head.size
        assert server.stop() == 0
    ordeal.look()
