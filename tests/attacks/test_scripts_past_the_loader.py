"""Ways around auraseal.js, in a real Chromium: a tag that names a hash never runs code that has another one.

In every page here ``evil.js`` is not what the attribute of its tag says. What is looked at: that it did not run, what
the page is told, and that good code beside it runs all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from libreseed.auraseal.integrity import Integrity
from tests.browser_support import Browser, Certificate, Page, chromium, https_site, new_certificate

pytestmark = pytest.mark.integration
LOADER = Path(__file__).parents[2] / "contrib" / "auraseal" / "auraseal.js"
GOOD, EVIL = b'(window.ran ??= []).push("good");', b'(window.ran ??= []).push("EVIL");'
HASH, OTHER_HASH = str(Integrity.of(GOOD)), str(Integrity.of(b"what its author wrote"))
Told = list[list[str | None]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return new_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="module")
def browser(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile", certificate) as browser:
        yield browser


def _shown(
    browser: Browser, certificate: Certificate, body: str, count: int, *, head: str = "", csp: str | None = None
) -> tuple[list[str], Told]:
    """What ran on a page, and what it was told: [element, state, reason] of each event that reached the document."""
    nonce = "nonce=n0nce" if csp is not None and "nonce-n0nce" in csp else ""
    listen = (
        f"<script {nonce}>window.told = []; for (const state of ['verified', 'healed', 'refused'])"
        " document.addEventListener('auraseal:' + state, ({ detail }) =>"
        " told.push([detail.element.id, state, detail.reason ?? null]));</script>"
    )
    page = f"<!DOCTYPE html><title>x</title>{listen}{head}<script src=/auraseal.js {nonce}></script>{body}"
    files = {
        "/": Page(page.encode(), headers={"Content-Security-Policy": csp} if csp else None),
        "/auraseal.js": Page(LOADER.read_bytes(), "text/javascript"),
        "/good.js": Page(GOOD, "text/javascript"),
        "/evil.js": Page(EVIL, "text/javascript"),
    }
    with https_site(certificate, files.get) as address:
        browser.open(f"{address}/")
        browser.wait(f"window.told.length >= {count}")
        for _ in range(4):  # what runs after its refusal shows, too
            browser.linger()
        return browser.run("return window.ran ?? []"), browser.run("return told")


def _tag(name: str, *, integrity: str, more: str = "") -> str:
    return f'<script id="{name}" src="/{name}.js" integrity="{integrity}" {more}></script>'


_MAKE = "const s = document.createElement('script'); s.id = 'evil';"
_NAME = f"s.integrity = '{OTHER_HASH}'; s.src = '/evil.js';"
_ADD = "document.head.append(s);"
_STARTED = {
    "a script adds it": f"{_MAKE} {_NAME} {_ADD}",
    "a script adds a module": f"{_MAKE} s.type = 'module'; {_NAME} {_ADD}",
    "it is added as the parser would": f"{_MAKE} s.async = false; {_NAME} {_ADD}",
    "it is added and taken away": f"{_MAKE} {_NAME} {_ADD} s.remove();",
    "it gets its source later": f"{_MAKE} {_ADD} setTimeout(() => {{ {_NAME} }}, 20);",
    "it is added again and again": f"{_MAKE} {_NAME} {_ADD} setTimeout(() => {{ {_ADD} }}, 0);",
    "it is written": f"document.write(`{_tag('evil', integrity=OTHER_HASH)}`);",
    "it is written as async": f"document.write(`{_tag('evil', integrity=OTHER_HASH, more='async')}`);",
    "a module is written": f"document.write(`{_tag('evil', integrity=OTHER_HASH, more='type=module')}`);",
}


@pytest.mark.parametrize("way", _STARTED)
def test_a_script_that_the_browser_has_begun_to_load_is_stopped(
    browser: Browser, certificate: Certificate, way: str
) -> None:
    code = _STARTED[way].replace("</script>", "<\\/script>")
    body = f"<script>{code}</script>{_tag('good', integrity=HASH)}"
    ran, told = _shown(browser, certificate, body, 2)
    assert ran == ["good"]
    assert sorted(told) == [["evil", "refused", "integrity"], ["good", "verified", None]]


def test_one_that_is_added_runs_once_it_is_verified_and_its_maker_hears_of_it(
    browser: Browser, certificate: Certificate
) -> None:
    make = (
        "const s = document.createElement('script'); s.id = 'good'; s.onload = () => ran.push('loaded');"
        f"s.integrity = '{HASH}'; s.src = '/good.js'; document.head.append(s);"
    )
    ran, told = _shown(browser, certificate, f"<script>{make}</script>", 1)
    assert ran == ["good", "loaded"]
    assert told == [["good", "verified", None]]


def test_what_waits_in_front_of_the_loader_is_stopped_and_told(browser: Browser, certificate: Certificate) -> None:
    ran, told = _shown(browser, certificate, "", 1, head=_tag("evil", integrity=OTHER_HASH, more="defer"))
    assert ran == []
    assert told == [["evil", "refused", "late"]]


_CLOBBERS = {
    "a form's method": "<form><input name=querySelectorAll><input name=nodeType><input name=localName></form>",
    "the document's": "<img name=implementation><img name=readyState><img name=querySelectorAll>",
    "a script of another language": "<math><script></script></math>",
    "the loader's name": "<form id=auraseal><input name=results></form>",
}


@pytest.mark.parametrize("which", _CLOBBERS)
def test_names_of_elements_do_not_disarm_the_loader(browser: Browser, certificate: Certificate, which: str) -> None:
    clobbers = _CLOBBERS[which]
    add = "document.body.append(...document.querySelector('template').content.childNodes)"
    body = f"<template>{clobbers}{_tag('evil', integrity=OTHER_HASH)}</template><script>{add}</script>"
    ran, told = _shown(browser, certificate, f"<p>{body}", 1, head=clobbers.replace("querySelectorAll", "x"))
    assert ran == []
    assert told == [["evil", "refused", "integrity"]]


def test_a_policy_without_room_for_the_loader_does_not_disarm_it(browser: Browser, certificate: Certificate) -> None:
    body = _tag("evil", integrity=OTHER_HASH) + _tag("good", integrity=HASH)
    ran, told = _shown(browser, certificate, body, 2, csp="trusted-types other")
    assert ran == ["good"]
    assert told == [["evil", "refused", "integrity"], ["good", "verified", None]]


def test_a_policy_that_demands_trusted_types_and_has_none_for_the_loader_refuses(
    browser: Browser, certificate: Certificate
) -> None:
    csp = "require-trusted-types-for 'script'; trusted-types other"
    ran, told = _shown(browser, certificate, _tag("good", integrity=HASH), 1, csp=csp)
    assert ran == []
    assert told == [["good", "refused", "run"]]


@pytest.mark.parametrize("csp", ["script-src 'nonce-n0nce'", "script-src 'nonce-n0nce' 'strict-dynamic'"])
@pytest.mark.parametrize(
    "more", ["type=auraseal/script", "type=auraseal/script nonce=guessed", "type=auraseal/module", ""]
)
def test_the_loader_lends_its_nonce_to_nobody_who_has_none(
    browser: Browser, certificate: Certificate, csp: str, more: str
) -> None:
    """Else whoever gets a tag onto a page, which the policy is to keep harmless, had its own code run by the loader."""
    body = _tag("good", integrity=HASH, more=more)
    ran, told = _shown(browser, certificate, body, 1, csp=csp)
    assert (ran, told) == ([], [["good", "refused", "run"]])
    ran, told = _shown(
        browser, certificate, body.replace("nonce=guessed", "").replace(" src", " nonce=n0nce src"), 1, csp=csp
    )
    assert (ran, told) == (["good"], [["good", "verified", None]])


def test_an_image_is_not_taken_for_the_loader(browser: Browser, certificate: Certificate) -> None:
    """By its name, in the place of the script that runs: it has no nonce to be equal to."""
    csp = "script-src 'nonce-n0nce' 'strict-dynamic'"
    body = _tag("good", integrity=HASH, more="type=auraseal/script")
    ran, told = _shown(browser, certificate, body, 1, head="<img name=currentScript>", csp=csp)
    assert (ran, told) == ([], [["good", "refused", "run"]])


def test_a_component_that_is_taken_away_keeps_no_other_waiting(browser: Browser, certificate: Certificate) -> None:
    add = (
        "const s = document.createElement('script'); s.id = 'gone'; s.type = 'auraseal/script'; s.src = '/evil.js';"
        f"s.setAttribute('integrity', '{Integrity.of(EVIL)}'); document.head.append(s); s.remove();"
    )
    ran, told = _shown(browser, certificate, f"<script>{add}</script>{_tag('good', integrity=HASH)}", 2)
    assert ran == ["good"]
    assert told == [["gone", "refused", "run"], ["good", "verified", None]]


def test_a_second_loader_runs_nothing_twice(browser: Browser, certificate: Certificate) -> None:
    ran, told = _shown(browser, certificate, _tag("good", integrity=HASH), 1, head="<script src=/auraseal.js></script>")
    assert ran == ["good"]
    assert told == [["good", "verified", None]]


@pytest.mark.parametrize("kind", ["application/json", "importmap", "text/plain", "text/typescript"])
def test_data_do_not_become_code(browser: Browser, certificate: Certificate, kind: str) -> None:
    """A browser would run none of these."""
    ran, told = _shown(browser, certificate, _tag("good", integrity=HASH, more=f'type="{kind}"'), 1)
    assert ran == []
    assert told == [["good", "refused", "type"]]
