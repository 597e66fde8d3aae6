"""Section 3.9: the health index against a plain dictionary, and the number of steps it takes."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from libreseed.auraseal import health_trie
from libreseed.auraseal.health_trie import Health, PartKey, PhenoAVLTrie

_byte = st.one_of(st.integers(0, 4), st.integers(0, 255))
_key = st.tuples(_byte, _byte, _byte)


class _AgainstADictionary(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.trie = PhenoAVLTrie()
        self.plain: dict[PartKey, bool] = {}

    @rule(key=_key, verified=st.booleans())
    def set(self, key: PartKey, verified: bool) -> None:
        self.trie.set(key, verified)
        self.plain[key] = verified

    @rule(division=_byte, component=_byte, first=st.integers(0, 200), count=st.integers(1, 40), lost=st.integers(1, 9))
    def set_component(self, division: int, component: int, first: int, count: int, lost: int) -> None:
        for part in range(first, first + count):
            self.set((division, component, part), part % 10 >= lost)

    @rule(key=_key, length=st.integers(0, 3))
    def remove(self, key: PartKey, length: int) -> None:
        prefix = key[:length]
        gone = [other for other in self.plain if other[:length] == prefix]
        if gone or not prefix:
            self.trie.remove(prefix)
        else:
            with pytest.raises(KeyError):
                self.trie.remove(prefix)
        for other in gone:
            del self.plain[other]

    @rule(key=_key, length=st.integers(0, 3))
    def health(self, key: PartKey, length: int) -> None:
        below = [verified for other, verified in self.plain.items() if other[:length] == key[:length]]
        assert self.trie.health(key[:length]) == Health(sum(below), len(below))

    @rule(key=_key, length=st.integers(0, 2))
    def worst(self, key: PartKey, length: int) -> None:
        components: dict[tuple[int, int], list[bool]] = {}
        for other, verified in self.plain.items():
            if other[:length] == key[:length]:
                components.setdefault(other[:2], []).append(verified)
        worst = min(
            components, key=lambda name: (Fraction(sum(components[name]), len(components[name])), name), default=None
        )
        found = self.trie.worst(key[:length])
        if worst is None:
            assert found is None
            assert self.trie.next_to_heal(key[:length]) is None
            return
        assert found == (worst, Health(sum(components[worst]), len(components[worst])))
        lacking = [other for other, verified in self.plain.items() if other[:2] == worst and not verified]
        assert self.trie.next_to_heal(key[:length]) == min(lacking, default=None)

    @invariant()
    def balanced(self) -> None:
        _check_balance(self.trie._root)


_AgainstADictionary.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestAgainstADictionary = _AgainstADictionary.TestCase


def _check_balance(node: health_trie._Node | None) -> int:
    if node is None:
        return 0
    left, right = _check_balance(node.left), _check_balance(node.right)
    assert abs(left - right) <= 1
    assert node.height == 1 + max(left, right)
    _check_balance(node.below)
    return node.height


def test_healing_what_comes_next_ends_with_a_whole_package() -> None:
    draw = random.Random(3)
    trie = PhenoAVLTrie()
    lost = set()
    for component in range(6):
        for part in range(60):
            verified = draw.random() > component / 10
            trie.set((0, component, part), verified)
            if not verified:
                lost.add((0, component, part))
    healed = []
    while (key := trie.next_to_heal()) is not None:
        worst = trie.worst()
        assert worst is not None
        assert worst[0] == key[:2]
        healed.append(key)
        trie.set(key, True)
    assert sorted(healed) == sorted(lost)
    assert trie.health() == Health(360, 360)
    assert trie.health().is_whole


@pytest.mark.parametrize("order", ["rising", "falling", "mixed"])
def test_no_path_is_longer_than_an_avl_tree_allows(order: str) -> None:
    keys = [(d, c, p) for d in range(5) for c in range(0, 256, 16) for p in range(256)]
    if order == "falling":
        keys.reverse()
    elif order == "mixed":
        random.Random(1).shuffle(keys)
    trie = PhenoAVLTrie()
    for key in keys:
        trie.set(key, key[2] != 9)
    assert trie.health() == Health(5 * 16 * 255, 5 * 16 * 256)
    assert trie._root is not None
    for node in (trie._root, trie._root.below, trie._root.below.below):  # type: ignore[union-attr]
        assert node is not None
        count = {0: 5, 1: 16, 2: 256}[node.level]
        assert _check_balance(node) <= 1.4405 * math.log2(count + 2)


@pytest.mark.parametrize("key", [(), (1,), (0, 0), (0, 0, 256), (0, -1, 0), (0, 0, 0, 0), (0, 0, True), (0, 0, 1.0)])
def test_what_is_no_key_of_a_part_is_refused(key: tuple[int, ...]) -> None:
    trie = PhenoAVLTrie()
    with pytest.raises(ValueError, match="key"):
        trie.set(key, True)  # type: ignore[arg-type]
    assert trie.health() == Health(0, 0)
    with pytest.raises(ValueError, match=r"key|prefix"):
        trie.worst((0, 0, 0))
