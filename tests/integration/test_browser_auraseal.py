"""auraseal.js in a real Chromium, over TLS: verified code runs, damaged files heal, everything else never runs."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from libreseed.auraseal.integrity import Integrity
from libreseed_services.mirror.cli import main
from tests.browser_support import Browser, Certificate, Page, chromium, https_site, new_certificate
from tests.vectors_support import rows

pytestmark = pytest.mark.integration
AURASEAL = Path(__file__).parents[2] / "contrib" / "auraseal"
LOADER = (AURASEAL / "auraseal.js").read_bytes()
STATES = ("verified", "healed", "refused")


def _demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("show_demo", AURASEAL / "show_demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return new_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1", "127.0.0.2")


@pytest.fixture(scope="module")
def browser(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile", certificate) as browser:
        yield browser


# --- the demo page ---------------------------------------------------------------------------------------------------


def _cards(browser: Browser, address: str) -> dict[str, dict[str, Any]]:
    """Open the demo, wait for all six components, and tell what each card shows."""
    browser.open(f"{address}/demo/")
    browser.wait("self.auraseal && auraseal.results.length === 6")
    cards = browser.run(
        """return [...document.querySelectorAll(".card")].map((card) => ({
             id: card.id, state: card.dataset.state, pill: card.querySelector(".pill").textContent,
             drawn: !!card.querySelector(".stage svg"), stage: card.querySelector(".stage").textContent,
             why: card.querySelector(".why").textContent, breach: card.classList.contains("breach") }))"""
    )
    return {card["id"]: card for card in cards}


def test_the_demo_page_shows_healthy_healed_and_refused_components(
    browser: Browser, certificate: Certificate, tmp_path: Path
) -> None:
    demo = _demo()
    demo.damage_site(demo.copy_site(tmp_path / "site"))
    with https_site(certificate, tmp_path / "site") as address:
        cards = _cards(browser, address)
        assert {name: card["state"] for name, card in cards.items()} == {
            "fingerprint": "verified",
            "pulse": "healed",
            "relay": "healed",
            "ledger": "refused",
            "badge": "refused",
            "legacy": "refused",
        }
        for card in cards.values():
            ran = card["state"] != "refused"
            assert card["drawn"] == ran
            assert card["stage"].strip() == ("" if ran else "did not run")
            assert not card["breach"]
            assert card["pill"] == card["state"].capitalize()
        assert "SHA-512 differs; its recovery file ran" in cards["pulse"]["why"]
        assert "404" in cards["relay"]["why"]
        assert cards["ledger"]["why"].startswith("integrity: ")
        assert cards["badge"]["why"].startswith("attribute: ")
        tally = browser.run('return [...document.querySelectorAll(".tally b")].map((each) => each.textContent)')
        assert tally == ["1", "2", "3"]
        picture = browser.screenshot(width=1180, height=1000)
        assert picture.startswith(b"\x89PNG") and len(picture) > 20_000
        (tmp_path / "demo.png").write_bytes(picture)


def test_the_demo_as_it_is_shipped_is_healthy(browser: Browser, certificate: Certificate, tmp_path: Path) -> None:
    _demo().copy_site(tmp_path / "site")
    with https_site(certificate, tmp_path / "site") as address:
        cards = _cards(browser, address)
    assert {card["state"] for card in cards.values()} == {"verified"}
    assert cards["legacy"]["stage"] == "hello"


def test_the_demo_can_be_shown_by_one_command(browser: Browser) -> None:
    """As a reader of the README does it: plain HTTP on loopback, which browsers take for secure."""
    command = [sys.executable, str(AURASEAL / "show_demo.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0]
            cards = _cards(browser, address.removesuffix("/demo/"))
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
    assert sorted(card["state"] for card in cards.values()) == [*["healed"] * 2, *["refused"] * 3, "verified"]


def test_a_site_from_the_first_command_to_the_healing(
    browser: Browser, certificate: Certificate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``libreseed-mirror integrity`` writes, the browser verifies; damage heals there, and on disk by ``--heal``."""
    site = tmp_path / "site"
    (site / "js").mkdir(parents=True)
    (site / "auraseal.js").write_bytes(LOADER)
    (site / "js" / "app.min.js").write_text("(window.ran ??= []).push('app')")
    (site / "js" / "été.mjs").write_text("(window.ran ??= []).push(import.meta.url.slice(0, 5))")
    (site / "index.html").write_text(
        "<!DOCTYPE html><title>x</title><script src='/auraseal.js'></script>\n"
        "<SCRIPT src=js/app.min.js?v=3 type=auraseal/script></SCRIPT><base href='js/'>\n"
        "<script type='auraseal/module' integrity='' src='%C3%A9t%C3%A9.mjs'></script>\n",
        encoding="utf-8",
    )
    assert main(["integrity", str(site)]) == 0

    def states() -> list[str]:
        browser.open(f"{address}/")
        browser.wait("self.auraseal && auraseal.results.length === 2")
        assert browser.run("return ran") == ["app", "blob:"]
        return list(
            browser.run("return [...document.querySelectorAll('[data-auraseal]')].map((e) => e.dataset.auraseal)")
        )

    with https_site(certificate, site) as address:
        assert states() == ["verified", "verified"]
        (site / "js" / "app.min.js").write_text("(window.ran ??= []).push('EVIL')")
        (site / "js" / "été.mjs").unlink()
        assert states() == ["healed", "healed"]
        assert main(["integrity", str(site), "--heal"]) == 0
        assert states() == ["verified", "verified"]
    assert "healed     js/app.min.js\nhealed     js/été.mjs" in capsys.readouterr().out


# --- pages made for one question each --------------------------------------------------------------------------------


@dataclass
class Site:
    """Files of a site, and how often each was asked for."""

    files: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, path: str) -> Page | None:
        self.asked.append(path)
        return self.files.get(path)

    def script(self, path: str, says: str, *, tamper: bool = False) -> bytes:
        """Add a script that says that it ran; returns what its author wrote, whatever was made of it."""
        code = f'(window.ran ??= []).push("{says}");'.encode()
        self.files[path] = Page(code.replace(says.encode(), b"EVIL") if tamper else code, "text/javascript")
        return code

    def page(self, body: str, *, csp: str | None = None, head: str = "") -> None:
        """Add the page, whose loader stands first."""
        listen = (
            "window.events = []; for (const state of ['verified', 'healed', 'refused']) document.addEventListener("
            "'auraseal:' + state, (event) => events.push([state, event.target.id, event.detail.reason ?? null]));"
        )
        nonce = 'nonce="n0nce"' if csp and "nonce-n0nce" in csp else ""
        html = (
            f'<!DOCTYPE html><title>x</title>{head}<script src="/auraseal.js" {nonce}></script>'
            f'<script nonce="n0nce">{listen}</script>{body}'
        )
        self.files["/auraseal.js"] = Page(LOADER, "text/javascript")
        self.files["/"] = Page(html.encode(), headers={"Content-Security-Policy": csp} if csp else None)


def _tag(name: str, attribute: object, *, kind: str = "auraseal/script", more: str = "") -> str:
    return f'<script id="{name}" type="{kind}" src="/{name}.js" integrity="{attribute}" {more}></script>'


def _outcome(browser: Browser, address: str, count: int) -> tuple[list[str], dict[str, tuple[str, str | None]]]:
    """What ran, in this order, and the event of each element."""
    browser.open(f"{address}/")
    browser.wait(f"self.auraseal && auraseal.results.length >= {count}")
    browser.linger()  # what runs after its refusal shows, too
    events = browser.run("return events")
    assert len(events) == count
    return browser.run("return window.ran ?? []"), {name: (state, reason) for state, name, reason in events}


_CSPS = {
    "none": None,
    "nonce": "script-src 'nonce-n0nce'",
    "nonce-strict-dynamic": "default-src 'none'; connect-src 'self'; script-src 'nonce-n0nce' 'strict-dynamic'",
    "blob": "script-src 'self' blob: 'nonce-n0nce'",
    "trusted-types": "script-src 'nonce-n0nce'; require-trusted-types-for 'script'; trusted-types auraseal",
}


@pytest.mark.parametrize("csp", _CSPS)
def test_it_works_under_a_strict_policy(browser: Browser, certificate: Certificate, csp: str) -> None:
    site = Site()
    good = site.script("/good.js", "good")
    module = b'import.meta.url; (window.ran ??= []).push("module");'  # no classic script
    site.files["/module.js"] = Page(module, "text/javascript")
    evil = site.script("/evil.js", "evil", tamper=True)
    site.page(
        _tag("good", Integrity.of(good), more="nonce=n0nce")
        + _tag("evil", Integrity.of(evil), more="nonce=n0nce")
        + _tag("module", Integrity.of(module), kind="auraseal/module", more="nonce=n0nce"),
        csp=_CSPS[csp],
    )
    with https_site(certificate, site) as address:
        ran, events = _outcome(browser, address, 3)
    assert ran == ["good", "module"]
    assert events == {"good": ("verified", None), "module": ("verified", None), "evil": ("refused", "integrity")}


def test_a_policy_that_names_hashes_lets_only_these_components_run(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    good, other = site.script("/good.js", "good"), site.script("/other.js", "other")
    listed = base64.b64encode(hashlib.sha512(good).digest()).decode()
    site.page(
        _tag("good", Integrity.of(good)) + _tag("other", Integrity.of(other)),
        csp=f"script-src 'self' 'nonce-unknown' 'sha512-{listed}'",
    )
    with https_site(certificate, site) as address:
        browser.open(f"{address}/")
        browser.wait("self.auraseal && auraseal.results.length === 2")
        assert browser.run("return window.ran") == ["good"]
        states = browser.run(
            "return auraseal.results.map((each) => [each.element.id, each.state, each.reason ?? null])"
        )
    assert sorted(states) == [["good", "verified", None], ["other", "refused", "run"]]


def test_a_policy_that_lets_nothing_of_ours_run_is_told_as_a_refusal(
    browser: Browser, certificate: Certificate
) -> None:
    site = Site()
    good = site.script("/good.js", "good")
    site.page(_tag("good", Integrity.of(good)), csp="script-src 'self'")
    with https_site(certificate, site) as address:
        browser.open(f"{address}/")
        browser.wait("self.auraseal && auraseal.results.length === 1")
        assert browser.run("return [auraseal.results[0].state, auraseal.results[0].reason, window.ran ?? null]") == [
            "refused",
            "run",
            None,
        ]


def test_a_module_that_would_pull_in_what_nobody_verified_does_not_run(
    browser: Browser, certificate: Certificate
) -> None:
    site = Site()
    site.script("/other.js", "unverified")
    code = b'import "./other.js"; (window.ran ??= []).push("importer");'
    site.files["/importer.js"] = Page(code, "text/javascript")
    site.page(_tag("importer", Integrity.of(code), kind="auraseal/module"))
    with https_site(certificate, site) as address:
        ran, events = _outcome(browser, address, 1)
    assert ran == []
    assert events == {"importer": ("verified", None)}  # its bytes are; that it fails is an error of its own
    assert "/other.js" not in site.asked


_REFUSED = {
    "other-prefix": "sealed-sha512-{0}",
    "plain-sri": "sha512-{0}",
    "capitals": "AuraSeal-sha512-{0}",
    "other-algorithm": "auraseal-sha256-{0}",
    "space-in-front": " auraseal-sha512-{0}",
    "space-behind": "auraseal-sha512-{0} ",
    "two-tokens": "auraseal-sha512-{0} auraseal-sha512-{0}",
    "options": "auraseal-sha512-{0}?x",
    "three-hashes": "auraseal-sha512-{0}-{0}-{0}",
    "no-padding": "auraseal-sha512-{1}",
    "empty": "",
}


def test_an_attribute_that_is_malformed_or_unknown_never_runs_a_good_file(
    browser: Browser, certificate: Certificate
) -> None:
    site = Site()
    tags = ""
    for name, form in _REFUSED.items():
        text = base64.b64encode(hashlib.sha512(site.script(f"/{name}.js", name)).digest()).decode()
        tags += _tag(name, form.format(text, text.rstrip("=")))
    good = site.script("/good.js", "good")
    missing = site.script("/missing.js", "missing")
    site.page(
        tags
        + f'<script id="missing" type="auraseal/module" src="/missing.js"></script>{_tag("good", Integrity.of(good))}'
    )
    with https_site(certificate, site) as address:
        ran, events = _outcome(browser, address, len(_REFUSED) + 2)
    assert missing and ran == ["good"]
    assert events.pop("good") == ("verified", None)
    assert events == dict.fromkeys([*_REFUSED, "missing"], ("refused", "attribute"))
    assert not {f"/{name}.js" for name in _REFUSED} & set(site.asked)  # not even fetched


def test_spare_bits_in_the_base64_are_refused(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    text = str(Integrity.of(site.script("/spare.js", "spare")))
    assert text[-3] in "AQgw"
    site.page(_tag("spare", text[:-3] + chr(ord(text[-3]) + 1) + "=="))
    with https_site(certificate, site) as address:
        assert _outcome(browser, address, 1) == ([], {"spare": ("refused", "attribute")})


def test_the_hashes_do_not_change_places(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    one, two = site.script("/a.js", "one"), site.script("/a.part.1.js", "two")
    site.script("/b.js", "one"), site.script("/b.part.1.js", "two")
    site.script("/c.js", "one"), site.script("/c.part.1.js", "one")
    site.script("/d.js", "two"), site.script("/d.part.1.js", "two")
    site.page(
        _tag("a", Integrity.of(two, one))  # both swapped
        + _tag("b", Integrity.of(two))  # the recovery file without a second hash
        + _tag("c", Integrity.of(two, two))  # neither
        + _tag("d", Integrity.of(one, two))  # the primary matches the second only: the recovery file is used
    )
    with https_site(certificate, site) as address:
        ran, events = _outcome(browser, address, 4)
    assert ran == ["two"]
    assert events == {
        "a": ("refused", "integrity"),
        "b": ("refused", "integrity"),
        "c": ("refused", "integrity"),
        "d": ("healed", None),
    }
    assert "/b.part.1.js" not in site.asked


def test_the_verified_bytes_run_and_nothing_is_fetched_twice(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    code = site.script("/turncoat.js", "first answer")
    site.page(_tag("turncoat", Integrity.of(code), kind="auraseal/module"))

    def answer(path: str) -> Page | None:
        page = site(path)
        if path == "/turncoat.js":
            site.script(path, "later answer", tamper=True)
        return page

    with https_site(certificate, answer) as address:
        ran, events = _outcome(browser, address, 1)
    assert ran == ["first answer"]
    assert events == {"turncoat": ("verified", None)}
    assert site.asked.count("/turncoat.js") == 1


def test_an_ordinary_tag_is_stopped_before_the_browser_runs_it(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    evil = site.script("/evil.js", "evil", tamper=True)
    module = site.script("/module.js", "module", tamper=True)
    good = site.script("/good.js", "good")
    site.script("/capitals.js", "capitals")
    site.page(
        "".join(
            f'<script id="{name}" src="/{name}.js" integrity="{attribute}" {more}></script>'
            for name, attribute, more in [
                ("evil", Integrity.of(evil), ""),
                ("module", Integrity.of(module), 'type="module"'),
                ("good", Integrity.of(good), ""),
                ("capitals", str(Integrity.of(good)).replace("auraseal", "AuraSeal"), ""),
            ]
        )
        + '<script id="bad" src="/good.js" integrity="auraseal-sha999-x" defer></script>'
    )
    with https_site(certificate, site) as address:
        ran, events = _outcome(browser, address, 5)
    assert ran == ["good"]
    assert events == {
        "evil": ("refused", "integrity"),
        "module": ("refused", "integrity"),
        "good": ("verified", None),
        "capitals": ("refused", "attribute"),
        "bad": ("refused", "attribute"),
    }


def test_without_the_loader_a_browser_runs_what_was_tampered_with(browser: Browser, certificate: Certificate) -> None:
    """What all of this is for; and the proof that the pages above would show it."""
    site = Site()
    evil = site.script("/evil.js", "evil", tamper=True)
    site.files["/"] = Page(f'<!DOCTYPE html><script src="/evil.js" integrity="{Integrity.of(evil)}"></script>'.encode())
    with https_site(certificate, site) as address:
        browser.open(f"{address}/")
        assert browser.run("return window.ran") == ["EVIL"]


def test_what_ran_before_us_is_told_and_not_run_again(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    early = site.script("/early.js", "early")
    site.page("", head=f'<script id="early" src="/early.js" integrity="{Integrity.of(early)}"></script>')
    with https_site(certificate, site) as address:
        browser.open(f"{address}/")
        browser.wait("self.auraseal && auraseal.results.length === 1")
        browser.linger()
        reasons = browser.run("return auraseal.results.map((each) => [each.element.id, each.state, each.reason])")
        assert browser.run("return ran") == ["early"]
    assert reasons == [["early", "refused", "late"]]


def test_a_script_that_is_added_later_is_verified_like_any_other(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    good, evil = site.script("/good.js", "good"), site.script("/evil.js", "evil", tamper=True)
    site.page("<p id=here></p>")
    with https_site(certificate, site) as address:
        browser.open(f"{address}/")
        for name, code in (("good", good), ("evil", evil)):
            browser.run(
                "const box = document.createElement('div'), script = document.createElement('script');"
                "[script.id, script.type, script.src] = [arguments[0], 'auraseal/module', `/${arguments[0]}.js`];"
                "script.setAttribute('integrity', arguments[1]); box.append(script);"
                "document.querySelector('#here').append(box);"
                # What is read is the attribute at this moment: changing it later helps nobody.
                "queueMicrotask(() => queueMicrotask(() => script.setAttribute('integrity', arguments[2])));",
                name,
                str(Integrity.of(code)),
                str(Integrity.of(site.files["/evil.js"].body)),
            )
        browser.wait("auraseal.results.length === 2")
        assert browser.run("return ran") == ["good"]
        assert sorted(browser.run("return events")) == [["refused", "evil", "integrity"], ["verified", "good", None]]


def test_components_run_in_the_order_of_the_page(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    codes = {name: site.script(f"/{name}.js", name) for name in ("slow", "gone", "quick", "own-way")}
    del site.files["/gone.js"]
    site.page(
        "".join(_tag(name, Integrity.of(codes[name])) for name in ("slow", "gone", "quick"))
        + _tag("own-way", Integrity.of(codes["own-way"]), more="async")
    )
    others = threading.Event()
    arrived: set[str] = set()

    def answer(path: str) -> Page | None:
        arrived.add(path)
        if {"/gone.js", "/quick.js", "/own-way.js"} <= arrived:
            others.set()
        if path == "/slow.js":
            assert others.wait(30)  # all are fetched at once
        return site(path)

    with https_site(certificate, answer) as address:
        ran, events = _outcome(browser, address, 4)
    assert [name for name in ran if name != "own-way"] == ["slow", "quick"]
    assert "own-way" in ran
    assert events["gone"] == ("refused", "fetch")


def test_the_recovery_file_may_be_on_another_host(browser: Browser, certificate: Certificate) -> None:
    site, backup = Site(), Site()
    code = site.script("/part.js", "from the backup", tamper=True)
    backup.script("/copies/part.js", "from the backup")
    with https_site(certificate, backup, address="127.0.0.2") as other:
        more = f'data-fallback-url="{other}/copies/part.js" crossorigin="anonymous"'
        site.page(_tag("part", Integrity.of(code, code), kind="auraseal/module", more=more))
        with https_site(certificate, site) as address:
            ran, events = _outcome(browser, address, 1)
    assert ran == ["from the backup"]
    assert events == {"part": ("healed", None)}
    assert backup.asked == ["/copies/part.js"]


def test_how_files_are_asked_for_and_that_no_blob_stays(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    code = site.script("/part.js", "part", tamper=True)
    site.script("/part.part.1.js", "part")
    own = site.script("/own.js", "own")
    watch = (
        "const asked = [], blobs = new Set(), [get, make, drop] = [fetch, URL.createObjectURL, URL.revokeObjectURL];"
        "fetch = (url, how) => { asked.push([new URL(url, location).pathname, how.credentials, how.cache ?? null]);"
        " return get(url, how); };"
        "URL.createObjectURL = (blob) => { const url = make(blob); blobs.add(url); window.made = true; return url; };"
        "URL.revokeObjectURL = (url) => { blobs.delete(url); drop(url); };"
    )
    site.page(
        _tag("part", Integrity.of(code, code)) + _tag("own", Integrity.of(own), more='crossorigin="use-credentials"'),
        head=f'<script nonce="n0nce">{watch}</script>',
    )
    with https_site(certificate, site) as address:
        ran, _ = _outcome(browser, address, 2)
        asked, made, left = browser.run("return [asked.sort(), window.made, blobs.size]")
    assert ran == ["part", "own"]
    assert asked == [
        ["/own.js", "include", None],
        ["/part.js", "same-origin", None],
        ["/part.part.1.js", "same-origin", "reload"],
    ]
    assert (made, left) == (True, 0)


def test_endless_data_is_not_kept(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    flood = b"/" * ((32 << 20) + 1)
    site.files["/flood.js"] = Page(flood, "text/javascript")
    site.page(_tag("flood", Integrity.of(flood)))
    with https_site(certificate, site) as address:
        assert _outcome(browser, address, 1) == ([], {"flood": ("refused", "fetch")})
        assert browser.run("return auraseal.results[0].why") == "too large"


def test_a_server_that_never_answers_is_given_up_for_the_recovery_file(
    browser: Browser, certificate: Certificate
) -> None:
    site = Site()
    code = site.script("/mute.js", "primary")
    site.script("/mute.part.1.js", "primary")
    site.page(
        _tag("mute", Integrity.of(code, code), more='onload="window.waited = asked"'),
        head='<script nonce="n0nce">const whole = AbortSignal.timeout.bind(AbortSignal), asked = [];'
        "AbortSignal.timeout = (ms) => { asked.push(ms); return whole(ms / 100); };</script>",
    )
    over = threading.Event()

    def answer(path: str) -> Page | None:
        if path == "/mute.js":
            over.wait(30)
        return site(path)

    with https_site(certificate, answer) as address:
        try:
            ran, events = _outcome(browser, address, 1)
            assert browser.run("return waited") == [30_000, 30_000]
        finally:
            over.set()
    assert (ran, events) == (["primary"], {"mute": ("healed", None)})


def test_an_unknown_type_or_no_source_is_refused(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    good = site.script("/other.js", "other")
    inline = "window.ran = ['inline']"
    site.page(
        _tag("other", Integrity.of(good), kind="auraseal/worker")
        + f'<script id="inline" type="auraseal/module" integrity="{Integrity.of(inline.encode())}">{inline}</script>'
    )
    with https_site(certificate, site) as address:
        ran, events = _outcome(browser, address, 2)
    assert (ran, events) == ([], {"other": ("refused", "type"), "inline": ("refused", "src")})


def test_a_page_can_listen_to_load_and_error(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    good, evil = site.script("/good.js", "good"), site.script("/evil.js", "evil", tamper=True)
    on = "onload=\"told.push('load ' + this.id)\" onerror=\"told.push('error ' + this.id)\""
    site.page(
        '<script nonce="n0nce">window.told = []</script>'
        + _tag("good", Integrity.of(good), more=on)
        + _tag("evil", Integrity.of(evil), more=on)
    )
    with https_site(certificate, site) as address:
        _outcome(browser, address, 2)
        assert sorted(browser.run("return told")) == ["error evil", "load good"]
        assert browser.run("return document.querySelector('#evil').dataset.auraseal") == "refused"


def test_the_public_vectors_hold_in_the_browser(browser: Browser, certificate: Certificate) -> None:
    site = Site()
    site.page("")
    vectors = [parameter.values[0] for parameter in rows("integrity.json")]
    for number, row in enumerate(vectors):
        for name in ("primary", "recovery"):
            if row[name] is not None:
                site.files[f"/{number}/{name}"] = Page(bytes.fromhex(row[name]), "application/octet-stream")
    with https_site(certificate, site) as address:
        browser.open(f"{address}/")
        found = browser.run(
            """return Promise.all(arguments[0].map((attribute, number) =>
                 auraseal.fetch(`/${number}/primary`, attribute, `/${number}/recovery`)
                   .then(({ why }) => (why ? "recovery" : "primary"), () => "refused")))""",
            [row["attribute"] for row in vectors],
        )
    assert found == [row.get("uses", "refused") for row in vectors]
    assert len(found) > 20
