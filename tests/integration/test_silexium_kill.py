"""kill -9 of a real server and of ingests beside it. ``bench/kill_silexium_server.py`` does it a hundred times."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.silexium_kill_support import Ordeal, finish, one_round
from tests.silexium_server_support import Shop

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_kill_9_loses_nothing_and_logs_nothing_twice(tmp_path: Path) -> None:
    shop = Shop.make(tmp_path / "shop")
    ordeal, draw = Ordeal(shop), random.Random(5)
    places = [shop.attested(f"hello@1.0.{number}") for number in range(4)]
    for place in places:
        one_round(ordeal, place, draw)
    finish(ordeal, places)
    assert len(ordeal.logged) == len(places)
