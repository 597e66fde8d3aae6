"""Guarantee G2, the walks of the services: a key that can be read keeps one from starting; what cannot be reached is
not held, and keeps nobody from anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libreseed.adapters.command.keys import create_key
from tests.tools import as_an_owner

RELEASE = "hello@1.0.0"
_LOOK = {
    "seeder": """
from libreseed_services.seeder.config import load_config
from libreseed_services.seeder.guard import refuse_private_keys
look = lambda: refuse_private_keys(load_config(None, {"state-dir": str(root)}, {}), {})
""",
    "mirror": """
from libreseed_services.mirror.config import load_config
from libreseed_services.mirror.guard import refuse_private_keys
look = lambda: refuse_private_keys(load_config(None, {"store": str(root)}, {}), None, {})
""",
    "doctor": """
from libreseed_services.user.checkup import keys
look = lambda: keys(None)[0].says
""",
    "releases of a mirror": """
from libreseed_services.mirror.library import release_folders
look = lambda: ", ".join(release_folders(root))
""",
}
_TELL = """
from libreseed.errors import LibreSeedError
try:
    told = look()
except LibreSeedError as error:
    told = [error.reason, error.message]
print(json.dumps(told))
"""


def look(who: str, root: Path, home: Path, under: list[str]) -> Any:
    """What ``who`` has to say about ``root``: None if nothing, or the reason and the message of a refusal."""
    script = f"import json\nfrom pathlib import Path\nroot = Path({str(root)!r})\n{_LOOK[who]}{_TELL}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(
        [*under, sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a release, links to keys in a folder that is somebody else's, and a link to that folder."""
    root, closed = tmp_path / "home/.config/libreseed", tmp_path / "closed"
    for folder in (root / RELEASE, closed / "more"):
        folder.mkdir(parents=True)
    create_key(closed / "some.key", None)
    (root / "link").symlink_to(closed / "some.key")
    (root / RELEASE / "link").symlink_to(closed / "some.key")
    (root / "some@1.0.0").symlink_to(closed / "more")
    return root


@pytest.mark.parametrize(
    ("who", "says"),
    [
        ("seeder", None),
        ("mirror", None),
        ("doctor", "0 private keys found, none is readable by others"),
        ("releases of a mirror", RELEASE),
    ],
)
def test_links_to_what_this_user_may_not_enter_are_passed_over(root: Path, who: str, says: str | None) -> None:
    closed = root.parents[2] / "closed"
    closed.chmod(0)
    try:
        assert look(who, root, root.parents[1], as_an_owner()) == says
    finally:
        closed.chmod(0o755)


@pytest.mark.parametrize("who", ["seeder", "mirror"])
def test_the_same_links_are_judged_where_they_can_be_followed(root: Path, who: str) -> None:
    reason, message = look(who, root, root, [])
    assert reason == f"key.on-{who}" and "link looks like a private key" in message


@pytest.mark.parametrize("who", ["seeder", "mirror"])
def test_a_store_that_is_reached_by_a_link_is_looked_through(tmp_path: Path, who: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "there")
    assert look(who, tmp_path / "store", tmp_path, []) is None
    create_key(tmp_path / "there/some.key", None)
    assert look(who, tmp_path / "store", tmp_path, [])[0] == f"key.on-{who}"
