"""contrib/auraseal/auraseal.js outside of a browser: its reader of attributes and its choice, on the public vectors.

node has WebCrypto, Blob and streams, but no page: those few globals are stood in for, and nothing of the loader is.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from libreseed import limits
from libreseed.auraseal.integrity import Integrity
from libreseed.errors import ContentRejected
from tests.tools import require_program
from tests.vectors_support import rows

LOADER = Path(__file__).parents[3] / "contrib" / "auraseal" / "auraseal.js"
_HARNESS = """\
const [, , loader] = process.argv;
const fs = require("fs"), vm = require("vm");
class Element { querySelectorAll() { return []; } }
let files = {}, asked = [];
const answer = async (url) => {
  asked.push(url);
  if (files[url] == null) throw new TypeError("not there");
  return new Response(Buffer.from(files[url], "hex"));
};
Object.assign(globalThis, {
  self: globalThis, document: { currentScript: null, documentElement: new Element() }, Element, Document: class {},
  MutationObserver: class { observe() {} }, fetch: answer,
});
vm.runInThisContext(fs.readFileSync(loader, "utf-8"));
(async () => {
  const found = [];
  for (const row of JSON.parse(fs.readFileSync(0, "utf-8"))) {
    asked = [];
    files = { "p.js": row.primary, "p.part.1.js": row.recovery };
    let parsed = null;
    try { parsed = auraseal.parse(row.attribute); } catch (error) { parsed = error.reason; }
    const used = await auraseal.fetch(row.url ?? "p.js", row.attribute).then(
      ({ bytes, why }) => [why ? "recovery" : "primary", Buffer.from(bytes).toString("hex")],
      (error) => [error.reason ?? "fetch"]);
    found.push({ parsed, used, asked });
  }
  console.log(JSON.stringify(found));
})();
"""


def _ask(folder: Path, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    harness = folder / "harness.js"
    harness.write_text(_HARNESS, encoding="utf-8")
    done = subprocess.run(
        [require_program("node"), str(harness), str(LOADER)],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_public_vectors_hold(tmp_path: Path) -> None:
    vectors = [parameter.values[0] for parameter in rows("integrity.json")]
    answers = _ask(tmp_path, vectors)
    assert len(answers) == len(vectors) > 20
    for row, answer in zip(vectors, answers, strict=True):
        if row["expect"] == "accept":
            assert answer["used"] == [row["uses"], row[row["uses"]]], row["id"]
        else:
            assert len(answer["used"]) == 1, row["id"]


def _mutants() -> list[str]:
    """Attributes with each character changed, dropped or doubled, and texts that only look alike."""
    found = []
    for text in (str(Integrity.of(b"one")), str(Integrity.of(b"one", b"two"))):
        found.append(text)
        for at in range(len(text)):
            for new in ("", text[at] * 2, chr(ord(text[at]) ^ 1), chr(ord(text[at]) ^ 32), "\n", "=", "-", "é"):
                found.append(text[:at] + new + text[at + 1 :])
        found += [text + end for end in (" ", "\n", "\r", "\0", "-", "=", "?ct=x", "\u2028")]
        found += [start + text for start in (" ", "\n", "\ufeff", "-")]
    return found


def test_it_reads_exactly_the_attributes_that_the_python_reader_reads(tmp_path: Path) -> None:
    texts = _mutants()
    answers = _ask(tmp_path, [{"attribute": text, "primary": None, "recovery": None} for text in texts])
    good = 0
    for text, answer in zip(texts, answers, strict=True):
        try:
            attribute = Integrity.parse(text)
        except ContentRejected:
            assert answer["parsed"] == "attribute", text
            assert answer["used"] == ["attribute"]
        else:
            good += 1
            assert "auraseal-sha512-" + "-".join(answer["parsed"]) == str(attribute) == text
            assert answer["used"] == ["fetch"]
    assert 400 < good < len(texts) / 2


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("core.js", "core.part.1.js"),
        ("https://a.example/js/core.min.js?v=1.2#x.y", "https://a.example/js/core.min.part.1.js?v=1.2#x.y"),
        ("https://a.example/js.d/core.mjs", "https://a.example/js.d/core.part.1.mjs"),
    ],
)
def test_where_the_recovery_file_is_looked_for(tmp_path: Path, url: str, expected: str) -> None:
    attribute = str(Integrity.of(b"a", b"b"))
    (answer,) = _ask(tmp_path, [{"attribute": attribute, "url": url, "primary": None, "recovery": None}])
    assert answer["asked"] == [url, expected]


def test_it_stays_small_and_takes_no_dangerous_way() -> None:
    text = LOADER.read_text(encoding="utf-8")
    assert len(text.encode()) < 6000
    for word in ("eval(", "innerHTML", "Function(", "import(", "importScripts", "document.write", "textContent"):
        assert word not in text
    most = re.search(r"MOST_BYTES = (\d+) << (\d+)", text)
    assert most is not None
    assert int(most[1]) << int(most[2]) == limits.WEB_COMPONENT_BYTES


@pytest.mark.parametrize("text", ["", "auraseal-sha512-", "auraseal-sha512-" + "A" * 88])
def test_short_texts_are_refused(tmp_path: Path, text: str) -> None:
    (answer,) = _ask(tmp_path, [{"attribute": text, "primary": None, "recovery": None}])
    assert answer["parsed"] == "attribute"
