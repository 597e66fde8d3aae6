"""Section 6: which script tags of a page are ours, and their attributes written anew without touching another byte."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed.auraseal.page_scripts import find_scripts, recovery_path, with_integrity


def _one(tag: str, path: str = "index.html") -> tuple[str, str | None, str | None]:
    (found,) = find_scripts(tag, path)
    assert found.text == tag.partition(">")[0] + ">"
    return found.src, found.path, found.integrity


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ('<script type="auraseal/module" src="a.js"></script>', ("a.js", "a.js", None)),
        ("<script type='auraseal/script' src='a.js' integrity=''></script>", ("a.js", "a.js", "")),
        ("<script type=auraseal/module src=js/a.js></script>", ("js/a.js", "js/a.js", None)),
        ('<SCRIPT TYPE=" AuraSeal/Module " SRC="/a.js"></SCRIPT>', ("/a.js", "a.js", None)),
        ('<script src="a.js" integrity="auraseal-sha512-x"></script>', ("a.js", "a.js", "auraseal-sha512-x")),
        ('<script src="a.js" integrity="AURASEAL"></script>', ("a.js", "a.js", "AURASEAL")),
        ('<script type="auraseal/module"></script>', ("", None, None)),
        ('<script type="auraseal/module" src="a%20b.js?v=1#x"></script>', ("a%20b.js?v=1#x", "a b.js", None)),
        ('<script type="auraseal/module" src="a&amp;b.js"></script>', ("a&b.js", "a&b.js", None)),
        (
            '<script type="auraseal/module" src="https://x.example/a.js"></script>',
            ("https://x.example/a.js", None, None),
        ),
        ('<script type="auraseal/module" src="//x.example/a.js"></script>', ("//x.example/a.js", None, None)),
        ('<script type="auraseal/module" src="data:,x"></script>', ("data:,x", None, None)),
        ('<script type="auraseal/module" src="../a.js"></script>', ("../a.js", None, None)),
        ('<script type="auraseal/module" src="x/../../a.js"></script>', ("x/../../a.js", None, None)),
        ('<script type="auraseal/module" src="http://[bad"></script>', ("http://[bad", None, None)),
        ('<script src="a.js" type="auraseal/module" src="b.js"></script>', ("a.js", "a.js", None)),
    ],
)
def test_a_tag_of_ours_is_read(tag: str, expected: tuple[str, str | None, str | None]) -> None:
    assert _one(tag) == expected


@pytest.mark.parametrize(
    "page",
    [
        '<script src="a.js"></script>',
        '<script src="a.js" integrity="sha512-x"></script>',
        '<script type="module" src="a.js"></script>',
        '<!-- <script type="auraseal/module" src="a.js"></script> -->',
        '<script>const text = \'<script type="auraseal/module" src="a.js">\';</script>',
        '<textarea data-x="auraseal/module"></textarea><link integrity="auraseal-sha512-x">',
        "",
    ],
)
def test_what_is_not_ours_is_left_alone(page: str) -> None:
    assert find_scripts(page, "index.html") == []


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "docs/a.js"),
        ("<base href='/'>", "a.js"),
        ('<base href="../lib/">', "lib/a.js"),
        ('<base target="_top">', "docs/a.js"),
        ('<base href="https://x.example/">', None),
        ('<base href="../../">', None),
    ],
)
def test_relative_addresses_follow_the_page_and_its_base(base: str, path: str | None) -> None:
    (found,) = find_scripts(f'{base}<script type="auraseal/module" src="a.js"></script>', "docs/page.html")
    assert found.path == path


def test_places_are_told_by_line() -> None:
    page = "<p>\n\n  <script type='auraseal/module'\n src='a.js'></script>\n<script type='auraseal/x' src=b></script>"
    found = find_scripts(page, "index.html")
    assert [(tag.line, page[tag.at : tag.at + 7]) for tag in found] == [(3, "<script"), (5, "<script")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '<p>é</p><script src="a.js" type="auraseal/module" async></script>\r\n<p>',
            '<p>é</p><script src="a.js" integrity="NEW" type="auraseal/module" async></script>\r\n<p>',
        ),
        (
            "<script type='auraseal/module' src='a.js' integrity='old'  defer></script>",
            "<script type='auraseal/module' src='a.js' integrity=\"NEW\"  defer></script>",
        ),
        (
            "<script type=auraseal/module INTEGRITY = old src=a.js></script>",
            '<script type=auraseal/module INTEGRITY="NEW" src=a.js></script>',
        ),
        (
            "<script integrity type=auraseal/module src=a.js></script>",
            '<script integrity="NEW" type=auraseal/module src=a.js></script>',
        ),
        (
            '<script type="auraseal/module" data-x=" integrity=1 " src="a>b.js"></script>',
            '<script type="auraseal/module" data-x=" integrity=1 " src="a>b.js" integrity="NEW"></script>',
        ),
        ('<script type="auraseal/module"></script>', '<script integrity="NEW" type="auraseal/module"></script>'),
    ],
)
def test_only_the_attribute_is_written(before: str, after: str) -> None:
    (tag,) = find_scripts(before, "index.html")
    assert with_integrity(before, {tag: "NEW"}) == after
    (again,) = find_scripts(after, "index.html")
    assert again.integrity == "NEW"
    assert with_integrity(after, {again: "NEW"}) == after


def test_several_tags_in_one_page() -> None:
    page = "".join(f'<b>{n}</b><script type="auraseal/module" src="{n}.js"></script>\n' for n in range(5))
    tags = find_scripts(page, "index.html")
    written = with_integrity(page, {tags[1]: "one", tags[3]: "three"})
    assert re.sub(r' integrity="\w+"', "", written) == page
    assert [tag.integrity for tag in find_scripts(written, "x")] == [None, "one", None, "three", None]


_MARKUP = ["<script ", "</script>", "<!--", "-->", "<base href=/x/>", "<textarea>", "<![CDATA[", "<?", "</", "<", ">"]
_PIECES = [*_MARKUP, 'type="auraseal/module"', " src=a.js", " integrity", "=", "'", '"', "/", "\n", "é", "&quot;"]
_pieces = st.lists(st.sampled_from(_PIECES), max_size=25)


@settings(max_examples=200, deadline=None)
@given(_pieces.map("".join) | st.text(max_size=80))
def test_any_text_can_be_read_and_written(page: str) -> None:
    tags = find_scripts(page, "index.html")
    written = with_integrity(page, dict.fromkeys(tags, "NEW"))
    if not tags:
        assert written == page
    for tag in tags:
        assert page.startswith(tag.text, tag.at)


def test_the_recovery_file_stands_beside() -> None:
    assert recovery_path("js/core.min.js") == "js/core.min.part.1.js"
