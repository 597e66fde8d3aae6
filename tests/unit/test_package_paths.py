"""Section 3.4: the grammar and the bounds of paths, SRC, and what manifests say about them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libreseed.errors import ContentRejected
from libreseed.ids import Blake3Digest
from libreseed.package import paths
from libreseed.package.paths import PathSet, check_path, check_tree
from libreseed.package.src_index import SrcLine, build_src, check_src, parse_src, src_size

_ODD = st.text(st.sampled_from("aA./\\:é\n\u202e\u2069\x7f\x85 -~\ud800"), max_size=12)


@given(st.one_of(st.text(max_size=300), _ODD, st.lists(_ODD, max_size=70).map("/".join)))
@example("a" * 255)
@example("a" * 256)
@example("/".join("a" * 64))
@example("/".join("a" * 65))
@example("C:")
@example("a\n")
@example("..")
@example("a/.")
def test_the_expression_for_plain_paths_decides_as_the_rules_do(path: str) -> None:
    by_rules = paths._grammar_fault(path) is None and paths._bounds_fault(path) is None
    try:
        accepted = check_path(path, "tree") == path
    except ContentRejected as error:
        assert error.reason in ("tree.path", "tree.path-bounds")
        accepted = False
    assert accepted == by_rules


@pytest.mark.parametrize(
    "char", ["\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"]
)
def test_bidirectional_controls_reject(char: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        check_path(f"a{char}b", "manifest")
    assert caught.value.reason == "manifest.path"


def test_every_control_character_rejects() -> None:
    for code in (*range(0x20), *range(0x7F, 0xA0)):
        with pytest.raises(ContentRejected):
            check_path(f"a{chr(code)}b", "manifest")


def test_a_name_that_is_not_utf8_rejects() -> None:
    with pytest.raises(ContentRejected) as caught:
        check_path("a\udcff", "tree")
    assert caught.value.reason == "tree.path"


@pytest.mark.parametrize(
    "pair", [("a", "a"), ("a", "A"), ("ﬁ", "FI"), ("ß", "SS"), ("é", "E\u0301"), ("ａ", "A"), ("ſ", "S")]
)
@pytest.mark.parametrize("order", [1, -1])
def test_collisions_are_found_in_any_order(pair: tuple[str, str], order: int) -> None:
    with pytest.raises(ContentRejected) as caught:
        check_tree(pair[::order], "tree")
    assert caught.value.reason == "tree.collision"


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_above_a_file_is_found_in_any_order(order: int) -> None:
    with pytest.raises(ContentRejected) as caught:
        check_tree(["a/b/c", "a"][::order], "tree")
    assert caught.value.reason == "tree.file-and-folder"


def test_folders_may_differ_in_case() -> None:
    tree = PathSet("tree")
    for path in ("SRC", "src/a", "Src/b"):
        tree.add(path)
    assert tree.has_folder("src")
    assert not tree.has_folder("SRC")


_LINES = st.dictionaries(
    st.text(st.sampled_from("abc/é😀﴾"), min_size=1, max_size=6),
    st.tuples(st.integers(0, 2**33 - 1), st.binary(min_size=32, max_size=32)),
)


@given(_LINES)
def test_src_round_trip(files: dict[str, tuple[int, bytes]]) -> None:
    try:
        for path in files:
            check_path(path, "tree")
        check_tree(files, "tree")
    except ContentRejected:
        return
    lines = [SrcLine(path, size, Blake3Digest(raw)) for path, (size, raw) in files.items()]
    src = build_src(lines)
    assert parse_src(src) == tuple(sorted(lines, key=lambda line: line.path.encode()))
    assert len(src) == src_size({path: size for path, (size, _) in files.items()} | {"SRC": 99})
    check_src(src, {path: size for path, (size, _) in files.items()}, {line.path: line.blake3 for line in lines})


_GOOD = "a\t1\t" + "0" * 64 + "\nb\t2\t" + "1" * 64 + "\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("1\t0", "01\t0"),
        ("1\t0", "+1\t0"),
        ("1\t0", "-1\t0"),
        ("1\t0", "١\t0"),
        ("1\t0", "\t0"),
        ("1\t0", "99999999999\t0"),
        ("0" * 64, "0" * 63),
        ("1" * 64, "A" * 64),
        ("a\t", "c\t"),
        ("b\t", "a\t"),
        ("b\t", "B\t"),
        ("a\t", "../a\t"),
        ("a\t", "SRC\t"),
        ("a\t", "manifest.json\t"),
        ("a\t", "a \t \t"),
        ("b\t", "a/b\t"),
        ("1" * 64 + "\n", "1" * 64),
        ("1" * 64 + "\n", "1" * 64 + "\n\n"),
    ],
)
def test_src_in_another_form_rejects(old: str, new: str) -> None:
    parse_src(_GOOD.encode())
    changed = _GOOD.replace(old, new)
    assert changed != _GOOD
    with pytest.raises(ContentRejected) as caught:
        parse_src(changed.encode())
    assert caught.value.reason == "src.malformed"


@given(st.binary(max_size=200))
def test_only_the_declared_error_escapes_src(data: bytes) -> None:
    try:
        lines = parse_src(data)
    except ContentRejected as error:
        assert error.reason == "src.malformed"
        return
    assert build_src(lines) == data


def test_src_of_other_files_rejects() -> None:
    digests = {"a": Blake3Digest(bytes(32))}
    src = build_src([SrcLine("a", 1, digests["a"])])
    check_src(src, {"a": 1}, digests)
    for sizes, other in (({"a": 2}, digests), ({"a": 1, "b": 0}, {**digests, "b": Blake3Digest(bytes(32))})):
        with pytest.raises(ContentRejected) as caught:
            check_src(src, sizes, other)
        assert caught.value.reason == "src.mismatch"
