"""A real Chromium, driven by its own chromedriver (W3C WebDriver: a handful of calls over HTTP), and pages over TLS.

The browser gets a fresh profile, talks to loopback only and trusts exactly the one key that the test's server has.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import ipaddress
import json
import ssl
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.tools import require_program

__all__ = ["Browser", "Certificate", "Page", "chromium", "https_site", "new_certificate"]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_WAIT_S = 30


@dataclass(frozen=True, slots=True)
class Certificate:
    """A self-signed certificate for an address of this machine; ``spki`` is what Chromium is told to accept."""

    path: Path
    spki: str


def new_certificate(folder: Path, *addresses: str) -> Certificate:
    """A key and a certificate for loopback ``addresses``, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path = folder / "loopback.pem"
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Certificate(path, base64.b64encode(hashlib.sha256(spki).digest()).decode())


@dataclass(frozen=True, slots=True)
class Page:
    """What a server answers to one path."""

    body: bytes
    kind: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] | None = None
    status: int = 200


@contextlib.contextmanager
def https_site(
    certificate: Certificate, answer: Path | Callable[[str], Page | None], *, address: str = "127.0.0.1"
) -> Iterator[str]:
    """Serve a folder, or what ``answer`` gives for a path, over TLS; gives the site's address, without a slash."""
    find = answer if callable(answer) else _folder(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = find(urllib.parse.unquote(self.path.partition("?")[0])) or Page(
                b"not here", "text/plain", status=404
            )
            self.send_response(page.status)
            self.send_header("Content-Type", page.kind)
            self.send_header("Content-Length", str(len(page.body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Access-Control-Allow-Origin", "*")
            for name, value in (page.headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path)
    server = _Quiet((address, 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"https://{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser closes connections as it likes."""


def _folder(root: Path) -> Callable[[str], Page | None]:
    def find(path: str) -> Page | None:
        file = root / (path.lstrip("/") or "index.html")
        if path.endswith("/"):
            file = root / path.strip("/") / "index.html"
        if ".." in path or not file.is_file():
            return None
        return Page(file.read_bytes(), _TYPES.get(file.suffix, "application/octet-stream"))

    return find


class Browser:
    """One session: open a page, run a script in it, take its picture."""

    def __init__(self, driver: str, capabilities: object) -> None:
        self._driver = driver
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{session['sessionId']}"
        self._call("POST", f"{self._session}/timeouts", {"script": _WAIT_S * 1000, "pageLoad": _WAIT_S * 1000})

    def open(self, url: str) -> None:
        """Load a page; returns when its load event was."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """What a script (a function's body) returns."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition: str) -> Any:
        """Wait, within the page, until an expression is true, and give its value; fails after half a minute."""
        script = (
            f"const done = arguments[0], look = () => {{ const value = ({condition});"
            " value ? done(value) : setTimeout(look, 20); }; look();"
        )
        return self._call("POST", f"{self._session}/execute/async", {"script": script, "args": []})

    def linger(self) -> None:
        """Let the page do for a moment whatever it has begun."""
        script = "const done = arguments[0]; setTimeout(done, 50)"
        self._call("POST", f"{self._session}/execute/async", {"script": script, "args": []})

    def screenshot(self, *, width: int = 1200, height: int = 900) -> bytes:
        """The page as PNG."""
        self._call("POST", f"{self._session}/window/rect", {"width": width, "height": height})
        return base64.b64decode(self._call("GET", f"{self._session}/screenshot"))

    def close(self) -> None:
        """End the session, and with it the browser."""
        self._call("DELETE", self._session)

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._driver + path, data, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=2 * _WAIT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {json.load(error)['value']['message'][:2000]}") from error


@contextlib.contextmanager
def chromium(profile: Path, *certificates: Certificate) -> Iterator[Browser]:
    """A browser with the new profile folder ``profile`` that accepts these certificates; skips where there is none."""
    binary, driver = require_program("chromium"), require_program("chromedriver")
    process = subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=profile.parent
    )
    try:
        assert process.stdout is not None
        port = next(
            line.rpartition(" ")[2].strip(" .\n") for line in process.stdout if "started successfully on port" in line
        )
        arguments = [
            *_FLAGS,
            f"--user-data-dir={profile}",
            "--ignore-certificate-errors-spki-list=" + ",".join(each.spki for each in certificates),
        ]
        options = {"binary": binary, "args": arguments}
        browser = Browser(f"http://127.0.0.1:{port}", {"goog:chromeOptions": options})
        try:
            yield browser
        finally:
            browser.close()
    finally:
        process.terminate()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()
