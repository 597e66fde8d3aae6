"""PhenoAVLTrie (section 3.9): the health of every part, by division, component and part number.

A trie of three levels whose keys are bytes (base 256). The siblings below one node are an AVL tree, so a path costs at
most three times 1.44 * log2(256) steps. Every AVL node sums up its own subtree: verified and total parts, and the worst
component in it. Hence the coherence of any prefix, and what to heal next, come without looking at what lies below.

A component is what heals as one, so *worst* means the component with the least share of verified parts, the first of
several; what to heal next is its first part that does not verify. Not safe for several threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Health", "PartKey", "PhenoAVLTrie"]

PartKey = tuple[int, int, int]  # division, component, part: a byte each
_LEVELS = 3
_COMPONENT_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Health:
    """Parts that verify, of all that are known; coherence is the one divided by the other: compare, never divide."""

    verified: int
    total: int

    @property
    def is_whole(self) -> bool:
        """Whether every part verifies."""
        return self.verified == self.total

    def is_worse_than(self, other: Health) -> bool:
        """Whether a smaller share of the parts verifies, exactly."""
        return self.verified * other.total < other.verified * self.total


_NOTHING = Health(0, 0)


class PhenoAVLTrie:
    """The health index; empty at first. Keys are ``(division, component, part)``, prefixes begin like them."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node | None = None

    def set(self, key: PartKey, verified: bool) -> None:
        """Note that the part ``key`` is known, and whether it verifies; raises ``ValueError`` for an impossible key."""
        _check(key)
        if len(key) != _LEVELS:
            raise ValueError(f"{key} is not the key of a part")
        self._root = _insert(self._root, key, 0, verified)

    def remove(self, prefix: tuple[int, ...]) -> None:
        """Forget all parts whose keys begin with ``prefix``; raises ``KeyError`` if there are none."""
        _check(prefix)
        if not prefix:
            self._root = None
            return
        self._root = _remove(self._root, prefix, 0)

    def health(self, prefix: tuple[int, ...] = ()) -> Health:
        """The health of all parts whose keys begin with ``prefix``; 0 of 0 if there are none."""
        _check(prefix)
        if not prefix:
            return self._root.health if self._root else _NOTHING
        node = self._find(prefix)
        return node.own_health if node else _NOTHING

    def worst(self, prefix: tuple[int, ...] = ()) -> tuple[tuple[int, int], Health] | None:
        """The component with the least coherence below ``prefix`` (at most two long), and its health."""
        _check(prefix)
        if len(prefix) > 2:
            raise ValueError(f"{prefix} is no prefix of a component")
        node = self._find(prefix) if prefix else None
        if len(prefix) == 2:
            return ((prefix[0], prefix[1]), node.own_health) if node else None
        found = (node.own_worst if node else None) if prefix else (self._root.worst if self._root else None)
        return None if found is None else ((found[0], found[1]), found[2])

    def next_to_heal(self, prefix: tuple[int, ...] = ()) -> PartKey | None:
        """The first part that does not verify, of the worst component below ``prefix``; ``None`` if all verify."""
        found = self.worst(prefix)
        if found is None or found[1].is_whole:
            return None
        component = self._find(found[0])
        assert component is not None
        node = component.below
        while node is not None:
            if node.left is not None and not node.left.health.is_whole:
                node = node.left
            elif not node.own_health.is_whole:
                return (*found[0], node.key)
            else:
                node = node.right
        raise AssertionError("a component lacks a part that none of its parts lacks")

    def _find(self, prefix: tuple[int, ...]) -> _Node | None:
        node, found = self._root, None
        for key in prefix:
            while node is not None and node.key != key:
                node = node.left if key < node.key else node.right
            if node is None:
                return None
            found, node = node, node.below
        return found


_Worst = tuple[int, int, Health]  # division, component, health of the component


class _Node:
    """A byte among its siblings; ``below`` are its children in the trie (``None`` at the level of parts).

    ``own_*`` speak of this byte, ``health`` and ``worst`` also of the siblings below it in the AVL tree.
    """

    __slots__ = ("below", "health", "height", "key", "left", "level", "own_health", "own_worst", "right", "worst")

    def __init__(self, key: int, level: int) -> None:
        self.key = key
        self.level = level
        self.below: _Node | None = None
        self.left: _Node | None = None
        self.right: _Node | None = None
        self.height = 1
        self.own_health = self.health = _NOTHING
        # A component does not know its division: 0 stands there until the level above says it.
        self.own_worst: _Worst | None = None
        self.worst: _Worst | None = None

    def refresh(self) -> None:
        """Sum up anew what ``below``, ``left`` and ``right`` say."""
        below = self.below
        if below is not None:
            self.own_health = below.health
            if self.level == _COMPONENT_LEVEL:
                self.own_worst = (0, self.key, below.health)
            elif below.worst is not None:
                self.own_worst = (self.key, *below.worst[1:])
        left, right = self.left, self.right
        self.height = 1 + max(_height(left), _height(right))
        verified, total = self.own_health.verified, self.own_health.total
        worst = self.own_worst
        for side in (left, right):
            if side is not None:
                verified += side.health.verified
                total += side.health.total
                worst = _worse(worst, side.worst)
        self.health = Health(verified, total)
        self.worst = worst


def _worse(one: _Worst | None, other: _Worst | None) -> _Worst | None:
    if one is None or other is None:
        return one or other
    if one[2].is_worse_than(other[2]):
        return one
    if other[2].is_worse_than(one[2]):
        return other
    return min(one, other, key=lambda worst: worst[:2])


def _check(prefix: tuple[int, ...]) -> None:
    if len(prefix) > _LEVELS or not all(type(key) is int and 0 <= key <= 255 for key in prefix):
        raise ValueError(f"{prefix} is no key: at most {_LEVELS} bytes")


# --- AVL among siblings ----------------------------------------------------------------------------------------------


def _height(node: _Node | None) -> int:
    return node.height if node else 0


def _balanced(node: _Node) -> _Node:
    """``node`` summed up, rotated if one side is two higher than the other."""
    lean = _height(node.left) - _height(node.right)
    if lean > 1:
        assert node.left is not None
        if _height(node.left.left) < _height(node.left.right):
            node.left = _rotated_left(node.left)
        return _rotated_right(node)
    if lean < -1:
        assert node.right is not None
        if _height(node.right.right) < _height(node.right.left):
            node.right = _rotated_right(node.right)
        return _rotated_left(node)
    node.refresh()
    return node


def _rotated_left(node: _Node) -> _Node:
    top = node.right
    assert top is not None
    node.right, top.left = top.left, node
    node.refresh()
    top.refresh()
    return top


def _rotated_right(node: _Node) -> _Node:
    top = node.left
    assert top is not None
    node.left, top.right = top.right, node
    node.refresh()
    top.refresh()
    return top


def _insert(node: _Node | None, key: PartKey, level: int, verified: bool) -> _Node:
    if node is None:
        node = _Node(key[level], level)
    if key[level] < node.key:
        node.left = _insert(node.left, key, level, verified)
    elif key[level] > node.key:
        node.right = _insert(node.right, key, level, verified)
    elif level == _LEVELS - 1:
        node.own_health = Health(int(verified), 1)
    else:
        node.below = _insert(node.below, key, level + 1, verified)
    return _balanced(node)


def _remove(node: _Node | None, prefix: tuple[int, ...], level: int) -> _Node | None:
    if node is None:
        raise KeyError(prefix)
    if prefix[level] < node.key:
        node.left = _remove(node.left, prefix, level)
    elif prefix[level] > node.key:
        node.right = _remove(node.right, prefix, level)
    elif level < len(prefix) - 1:
        node.below = _remove(node.below, prefix, level + 1)
        if node.below is None:
            return _joined(node)
    else:
        return _joined(node)
    return _balanced(node)


def _joined(node: _Node) -> _Node | None:
    """What is left of the siblings below ``node`` without it."""
    if node.left is None or node.right is None:
        return node.left or node.right
    rest, first = _without_first(node.right)
    first.left, first.right = node.left, rest
    return _balanced(first)


def _without_first(node: _Node) -> tuple[_Node | None, _Node]:
    if node.left is None:
        return node.right, node
    node.left, first = _without_first(node.left)
    return _balanced(node), first
