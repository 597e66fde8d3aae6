"""The seeder's page for Prometheus: parsed back by the rules of the text format, and served by a small application."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.seeder.metrics import METRICS_TYPE, MetricsPage, metrics_text

STATUS: dict[str, Any] = {
    "announce": {"announces": 7, "late": [], "late_count": 2, "put_failures": 1, "puts": 9, "duties": 3},
    "dht": {"nodes": 40},
    "down_rate": 0,
    "indexes": 1,
    "peers": 3,
    "releases": {"seeding": 2, "checking": 0, "damaged": 1, "broken": 0, "total": 3},
    "scrub": {
        "bytes_hashed": 5, "chunks_healed": 4, "chunks_judged": 6, "files_mended": 0, "releases_scrubbed": 2,
        "beyond_repair": 1,
    },
    "store": {"max_bytes": 0, "used_bytes": 123},
    "up_rate": 11,
    "uploaded": 1 << 40,
    "uptime": 77,
    "version": "0.1.0",
}  # fmt: skip
ONE = {"id": "demo@1.0.0.abc", "peers": 2, "uploaded": 5, "lag": 3, "bad_data_chunks": 4, "bad_parity_chunks": 1}
BROKEN = {"id": "gone@1.0.0+b.1.def", "peers": 0, "uploaded": 0, "lag": 0}
SAMPLE = re.compile(r'[a-z_:]+(\{[a-z]+="[A-Za-z0-9@.+_-]*"\})? [0-9]+')


def test_page_has_every_number_and_the_format() -> None:
    lines = metrics_text(STATUS, [ONE, BROKEN]).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(SAMPLE.fullmatch(line) for line in samples)
    assert len(samples) == len(set(line.rpartition(" ")[0] for line in samples))
    assert "libreseed_seeder_uploaded_bytes_total 1099511627776" in samples
    assert 'libreseed_seeder_releases{state="damaged"} 1' in samples
    assert "libreseed_seeder_overdue 2" in samples
    assert 'libreseed_seeder_release_bad_chunks{id="demo@1.0.0.abc"} 5' in samples
    assert 'libreseed_seeder_release_bad_chunks{id="gone@1.0.0+b.1.def"} 0' in samples


def test_every_series_is_declared_once_before_its_samples() -> None:
    declared: dict[str, str] = {}
    for line in metrics_text(STATUS, [ONE]).splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in declared
            declared[name] = kind
        elif not line.startswith("#"):
            name = re.split(r"[{ ]", line)[0]
            assert name in declared
            assert name.endswith("_total") <= (declared[name] == "counter")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/metrics", 200), ("HEAD", "/metrics", 200), ("POST", "/metrics", 405), ("GET", "/", 404)],
)
async def test_only_the_page_is_served(method: str, path: str, status: int) -> None:
    async def collect() -> str:
        return "x 1\n"

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await MetricsPage(collect)({"type": "http", "method": method, "path": path}, None, send)
    start, body = sent
    assert start["status"] == status
    assert (b"content-type", METRICS_TYPE.encode()) in start["headers"]
    assert body["body"] == {("GET", 200): b"x 1\n"}.get((method, status), body["body"])
    assert not body["body"] or method != "HEAD"
