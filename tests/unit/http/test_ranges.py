"""Ranges and conditions as values: what is honoured, what is ignored, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libreseed.adapters.http.ranges import Unsatisfiable, not_modified, precondition_fails, select

TAG = '"abc"'


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("bytes=0-0", ((0, 1),)),
        ("bytes=0-", ((0, 1000),)),
        ("bytes=990-2000", ((990, 1000),)),
        ("bytes=-1", ((999, 1000),)),
        ("bytes=-5000", ((0, 1000),)),
        ("Bytes = 5-9", ((5, 10),)),
        ("bytes=5-9, 1-2", ((1, 3), (5, 10))),
        ("bytes=5-9,2000-", ((5, 10),)),
        ("", None),
        ("chunks=0-1", None),
        ("bytes 0-1", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2,x", None),
        ("bytes=+1-2", None),
        ("bytes=1_0-20", None),
        ("bytes=١-٢", None),
        ("bytes=0-" + "9" * 1000, ((0, 1000),)),
        ("bytes=-" + "9" * 1000, ((0, 1000),)),
        ("bytes=0-1" + " " * 2000, None),
    ],
)
def test_ranges_are_honoured_or_ignored(value: str, spans: object) -> None:
    assert select({"range": value}, 1000, TAG).spans == spans


@pytest.mark.parametrize(
    "value",
    [
        "bytes=1000-",
        "bytes=" + "9" * 1000 + "-",
        "bytes=5-4",
        "bytes=-0",
        "bytes=0-10,5-20",
        "bytes=0-,0-,0-",
        "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(17)),
    ],
)
def test_ranges_that_cannot_or_should_not_be_sent_are_refused(value: str) -> None:
    with pytest.raises(Unsatisfiable):
        select({"range": value}, 1000, TAG)


def test_nothing_of_an_empty_file_can_be_had_in_a_range() -> None:
    with pytest.raises(Unsatisfiable):
        select({"range": "bytes=0-"}, 0, TAG)


@pytest.mark.parametrize("value", ['"other"', 'W/"abc"', "Sun, 22 Nov 2026 00:00:00 GMT"])
def test_another_version_than_if_range_names_is_sent_whole(value: str) -> None:
    assert select({"range": "bytes=0-1", "if-range": value}, 1000, TAG).spans is None
    assert select({"range": "bytes=0-1", "if-range": TAG}, 1000, TAG).spans == ((0, 2),)


def test_conditions() -> None:
    assert not_modified({"if-none-match": '"x", W/"abc"'}, TAG)
    assert not_modified({"if-none-match": "*"}, TAG)
    assert not not_modified({"if-none-match": '"x"'}, TAG)
    assert not not_modified({"if-none-match": "abc"}, TAG)
    assert not not_modified({}, TAG)
    assert precondition_fails({"if-match": '"x"'}, TAG)
    assert precondition_fails({"if-match": 'W/"abc"'}, '"x"')
    assert not precondition_fails({"if-match": f'"x", {TAG}'}, TAG)
    assert not precondition_fails({"if-match": "*"}, TAG)


@settings(deadline=None)
@given(st.text(max_size=60).map(lambda text: "bytes=" + text), st.integers(0, 2000))
def test_any_text_is_ignored_refused_or_gives_spans_within_the_file(value: str, size: int) -> None:
    try:
        spans = select({"range": value}, size, TAG).spans
    except Unsatisfiable:
        return
    before = 0
    for start, stop in spans or ():
        assert before <= start < stop <= size
        before = stop
