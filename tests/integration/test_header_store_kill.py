"""kill -9 while headers are imported, and two imports at once: what is counted is verified, the next run goes on."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from libreseed.adapters.silexium.stamps.header_store import HeaderStore
from libreseed.silexium.bitcoin_headers import HEADER_BYTES, REGTEST
from tests.unit.silexium.test_header_store import mined

pytestmark = pytest.mark.integration
HEADERS = 4000
# Small batches, so that there are many moments between two of them.
_IMPORT = """
import sys
from pathlib import Path
from libreseed.adapters.silexium.stamps import header_store
from libreseed.silexium.bitcoin_headers import REGTEST
header_store._BATCH = 50
store = header_store.HeaderStore(Path(sys.argv[1]), REGTEST)
print("ready", flush=True)
with open(sys.argv[2], "rb") as file:
    store.add(file, now=1_800_000_000)
"""


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("headers") / "headers.bin"
    path.write_bytes(mined(HEADERS))
    return path


def start(folder: Path, headers: Path) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-c", _IMPORT, str(folder), str(headers)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_kill_9_leaves_verified_headers_only_and_the_next_import_goes_on(tmp_path: Path, headers: Path) -> None:
    draw, counts = random.Random(5), [0]
    for kill in range(30):
        with start(tmp_path, headers) as process:
            try:
                process.wait(draw.uniform(0.0, 0.15) * (1 + kill / 3))  # it is given longer where it got nowhere
            except subprocess.TimeoutExpired:
                process.kill()
        store = HeaderStore(tmp_path, REGTEST)  # the record's hash is checked
        counts.append(store.record.count)
        whole = headers.read_bytes()
        assert store.headers(0, HEADERS + 1) == whole[: store.record.count * HEADER_BYTES]
        partly = any(0 < count < HEADERS + 1 for count in counts)
        if kill >= 4 and partly:
            break
    assert counts == sorted(counts)
    assert partly, counts
    with start(tmp_path, headers) as process:
        assert process.wait(60) == 0
    assert (tmp_path / "headers-regtest.bin").read_bytes() == headers.read_bytes()


def test_two_imports_at_once_take_turns(tmp_path: Path, headers: Path) -> None:
    with start(tmp_path, headers) as one, start(tmp_path, headers) as other:
        assert (one.wait(60), other.wait(60)) == (0, 0)
    assert HeaderStore(tmp_path, REGTEST).record.count == HEADERS + 1
    assert (tmp_path / "headers-regtest.bin").read_bytes() == headers.read_bytes()
