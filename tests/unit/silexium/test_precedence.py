"""The order of versions as bytes, held against SemVer's own example and another implementation."""

from __future__ import annotations

import semantic_version
from hypothesis import given
from hypothesis import strategies as st

from libreseed.ids import Version
from libreseed.silexium.precedence import rank

ORDERED = [  # SemVer 2.0.0, clause 11, with cores around it
    *("0.9.99", "1.0.0-0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"),
    *("1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0-x-y", "2.0.0", "10.0.0"),
]

number = st.integers(0, 10**6).map(str)
identifier = st.one_of(number, st.from_regex(r"[0-9]{0,2}[a-zA-Z-][0-9a-zA-Z-]{0,3}", fullmatch=True))
versions = st.builds(
    lambda core, prerelease, build: (
        ".".join(core) + ("-" + ".".join(prerelease) if prerelease else "") + ("+" + build if build else "")
    ),
    st.tuples(number, number, number),
    st.lists(identifier, max_size=3),
    st.sampled_from(["", "a", "001"]),
)


def test_the_specification_s_own_order() -> None:
    ranks = [rank(Version(text)) for text in ORDERED]
    assert ranks == sorted(set(ranks))


def test_build_metadata_does_not_count() -> None:
    assert rank(Version("1.0.0+a")) == rank(Version("1.0.0+b")) == rank(Version("1.0.0"))


@given(versions, versions)
def test_the_order_is_that_of_another_implementation(left: str, right: str) -> None:
    a, b = rank(Version(left)), rank(Version(right))
    other = [semantic_version.Version(text).truncate("prerelease") for text in (left, right)]
    assert (a < b, a == b) == (other[0] < other[1], other[0] == other[1])
