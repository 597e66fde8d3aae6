"""Faults of HTTP: of servers that we ask, and of clients that ask us."""

from __future__ import annotations

from libreseed.reasons.table import Exit, Reason, rows

__all__ = ["ROWS"]

ROWS: tuple[Reason, ...] = (
    *rows(Exit.CONFIGURATION, "Name a PEM file with the certificates of the authorities that you trust.", "http.ca"),
    *rows(Exit.CONFIGURATION, "Write it as https://HOST[:PORT][/PATH] without user, query or fragment.", "http.url"),
    *rows(Exit.CONFIGURATION, "Correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY.", "http.proxy"),
    *rows(Exit.CONFIGURATION, "Give a certificate chain and its key as PEM files that belong together.", "config.tls"),
    *rows(Exit.NO_SOURCE, "Check the address, the network and any proxy, or name another server.", "http.unreachable"),
    *rows(
        Exit.NO_SOURCE,
        "The server's certificate does not hold: name its authority's certificate with --ca-file, or another server.",
        "http.certificate",
    ),
    *rows(
        Exit.NO_SOURCE,
        "The server does not answer as it should: try another one, and tell its operator.",
        "http.cut-off",
        "http.encoding",
        "http.protocol",
        "http.range",
        "http.status",
        "http.too-large",
    ),
    *rows(
        Exit.NO_SOURCE,
        "The server sends us on to a place that is not allowed: name that place itself if you trust it.",
        "http.redirect",
    ),
    *rows(Exit.NO_SOURCE, "Ask again without If-Match: the server has another version.", "http.precondition"),
    *rows(Exit.NO_SOURCE, "Ask more slowly, or ask several servers.", "http.rate"),
    *rows(Exit.NO_SOURCE, "Send less in one request.", "http.body-too-large", "http.head-too-large"),
    *rows(Exit.NO_SOURCE, "Use a method that the answer's Allow field names.", "http.method"),
    *rows(Exit.NO_SOURCE, "Ask as the server's documents say.", "http.media-type"),
    *rows(Exit.TIMED_OUT, "Send the request's body faster.", "http.body-timeout"),
    *rows(Exit.TIMED_OUT, "Raise the time allowed, or name a faster server.", "http.timeout"),
    *rows(Exit.NOT_FOUND, "Check name and version, or ask another server.", "http.not-found"),
)
