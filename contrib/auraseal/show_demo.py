"""Shows auraseal.js at work: copies the demo site, damages it in five ways, and serves it on this machine.

    python3 contrib/auraseal/show_demo.py        then open the address that it prints, in any browser

Needs only Python. Plain HTTP will do on loopback, which browsers take for secure; a real site needs HTTPS.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TAMPERED = """\
document.querySelector("#{name}").classList.add("breach");
document.querySelector("#{name} .stage").textContent = "tampered code has run";
"""


def copy_site(target: Path) -> Path:
    """Copy the loader and the demo, undamaged, to the new folder ``target``; returns the demo's folder."""
    target.mkdir()
    shutil.copy(HERE / "auraseal.js", target)
    return Path(shutil.copytree(HERE / "demo", target / "demo"))


def damage_site(demo: Path) -> None:
    """What storage, networks and attackers do."""
    components = demo / "components"
    pulse = bytearray((components / "pulse.js").read_bytes())
    pulse[len(pulse) // 2] ^= 1
    (components / "pulse.js").write_bytes(pulse)
    (components / "relay.js").unlink()
    for name in ("ledger", "legacy"):
        for file in (f"{name}.js", f"{name}.part.1.js"):
            (components / file).write_text(TAMPERED.format(name=name), encoding="utf-8")
    page = (demo / "index.html").read_text(encoding="utf-8")
    before, badge, behind = page.partition('src="components/badge.js" integrity="')
    (demo / "index.html").write_text(before + badge + behind.replace("auraseal-", "sealed-", 1), encoding="utf-8")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves scripts as scripts, whatever this machine's table of types says."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012


def main() -> None:
    """Serve until Ctrl-C."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        damage_site(copy_site(site))
        handler = functools.partial(Handler, directory=str(site))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            print(f"http://127.0.0.1:{server.server_address[1]}/demo/   (Ctrl-C ends it)", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()


if __name__ == "__main__":
    main()
