"""The OpenAPI document of the server: what can be asked and answered, in the form that tools read.

Patterns and bounds are those of the code that parses requests; a request that the document allows is answered with one
of the statuses that it lists. Specification: ``silexium-api.md``, 4.
"""

from __future__ import annotations

import libreseed
from libreseed import limits

__all__ = ["openapi_document"]

Schema = dict[str, object]

_HASH: Schema = {"type": "string", "pattern": "^blake3:[0-9a-f]{64}$"}
_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": limits.LOG_ENTRIES}
_PLATFORM = {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,31}$"}
_NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$", "maxLength": limits.NAME_CHARS}
_NUMBER = "(?:0|[1-9][0-9]*)"
_PART = f"(?:{_NUMBER}|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PART}(?:\.{_PART})*)?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
_VERSION = {"type": "string", "pattern": f"^{_SEMVER}$", "maxLength": limits.VERSION_CHARS}
_CHANNEL = {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,31}$"}
_INDEX_PATH = r"(?:x[0-9]{3}/){0,4}[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?"


def openapi_document() -> Schema:
    """The document, as JSON values."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Silexium",
            "version": libreseed.__version__,
            "description": "Releases with everything that proves them, and the public log that they are in. Bodies of "
            "POST are JSON; application/cbor is taken and, by Accept, given with the same members.",
        },
        "paths": {
            "/install": {"post": _question("install", "InstallRequest", "InstallAnswer")},
            "/resolve": {"post": _question("resolve", "InstallRequest", "InstallAnswer")},
            "/update": {"post": _question("update", "UpdateRequest", "UpdateAnswer")},
            "/bundle/{release}": {"get": _reading("bundle", "A release's bundle", "application/json", _RELEASE)},
            "/checkpoint": {"get": _reading("checkpoint", "The newest signed head, as a note", "text/plain")},
            "/entries/{index}": {"get": _reading("entry", "A log entry", "application/json", _ENTRY)},
            "/tile/{level}/{index}": {"get": _reading("tile", _TILE_TEXT, "application/octet-stream", *_TILE)},
            "/keys": {
                "get": _reading("keys", "The server's keys and those it takes releases from", "application/json")
            },
            "/health": {"get": _health()},
            "/metrics": {"get": _reading("metrics", "Figures for Prometheus", "text/plain")},
            "/openapi.json": {"get": _reading("openapi", "This document", "application/json")},
        },
        "components": {"schemas": _schemas()},
    }


def _parameter(name: str, pattern: str, description: str, example: str) -> Schema:
    schema = {"type": "string", "pattern": pattern, "maxLength": 129}
    described = {"description": description, "example": example, "schema": schema}
    return {"name": name, "in": "path", "required": True, **described}


_RELEASE = _parameter("release", f"^[a-z0-9][a-z0-9._-]{{0,63}}@{_SEMVER}$", "name@version", "hello@1.0.0")
_ENTRY = _parameter("index", "^(?:0|[1-9][0-9]{0,14})$", "the entry's number, from 0", "0")
_TILE = (
    _parameter("level", "^(?:0|[1-9][0-9]?|entries|bodies)$", "tree level / 8, or entries or bodies", "0"),
    _parameter("index", f"^{_INDEX_PATH}$", "groups of three digits (tlog-tiles), .p/W for a partial tile", "000.p/1"),
)
_TILE_TEXT = "A tile of the tree, or a bundle of entry hashes or entries"


_EXAMPLE: Schema = {"package": "hello", "os": "linux", "arch": "x86_64"}
_EXAMPLES = {"InstallRequest": _EXAMPLE, "UpdateRequest": {**_EXAMPLE, "current_version": "0.9.0"}}


def _question(name: str, request: str, answer: str) -> Schema:
    return {
        "operationId": name,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(request), "example": _EXAMPLES[request]}},
        },
        "responses": {
            "200": {"description": "Answered", "content": {"application/json": {"schema": _ref(answer)}}},
            **_problems(400, 404, 408, 409, 413, 415, 429, 503),
        },
    }


def _reading(name: str, description: str, media_type: str, *parameters: Schema) -> Schema:
    content = {media_type: {"schema": {} if media_type == "application/json" else {"type": "string"}}}
    operation: Schema = {
        "operationId": name,
        "responses": {
            "200": {"description": description, "content": content},
            **_problems(*((404, 429, 503) if parameters else (429, 503))),
        },
    }
    return operation | ({"parameters": list(parameters)} if parameters else {})


def _health() -> Schema:
    content = {"application/json": {"schema": {"type": "object", "required": ["status"]}}}
    return {
        "operationId": "health",
        "responses": {
            "200": {"description": "All is well", "content": content},
            "503": {"description": "Something is not", "content": content},
            **_problems(429),
        },
    }


def _problems(*statuses: int) -> Schema:
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    return {str(status): {"description": _MEANINGS[status], "content": content} for status in statuses}


_MEANINGS = {
    400: "The request is not in form",
    404: "Not in the log",
    408: "The body came too slowly",
    409: "known_sth is no head of this log, is ahead of it, or proves that the log has forked (evidence)",
    413: "The body is too long",
    415: "The body is not application/json",
    429: "Too many requests",
    503: "Not now",
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, object], optional: dict[str, object] | None = None) -> Schema:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _three(schema: Schema) -> Schema:
    return _object({"author": schema, "tests": schema, "server": schema})


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _schemas() -> Schema:
    text: Schema = {"type": "string"}
    asked: dict[str, object] = {"package": _NAME, "os": _PLATFORM, "arch": _PLATFORM}
    maybe: dict[str, object] = {"channel": _CHANNEL, "known_sth": _ref("Sth")}
    answered = _answer_members()
    sth = {"origin": text, "tree_size": _COUNT, "root_hash": _HASH, "timestamp": _COUNT, "signature": text}
    return {
        "InstallRequest": _object(asked, {**maybe, "version": _VERSION}),
        "UpdateRequest": _object({**asked, "current_version": _VERSION}, maybe),
        "InstallAnswer": _object(answered, {"headers": _ref("Headers")}),
        "UpdateAnswer": _object({**answered, "up_to_date": {"type": "boolean"}}, {"headers": _ref("Headers")}),
        "Sth": _object(dict(sth)),
        "Inclusion": _object({"leaf_index": _COUNT, "tree_size": _COUNT, "hashes": _list(_HASH)}),
        "Consistency": _object({"old_size": _COUNT, "new_size": _COUNT, "hashes": _list(_HASH)}),
        "Headers": _object({"base": _COUNT, "data": text}),
        "Artifact": _object(
            {"type": {"enum": ["source", "binary"]}, "size": _COUNT, "blake3": _HASH, "url": text},
            {"os": _PLATFORM, "arch": _PLATFORM},
        ),
        "Problem": {
            "type": "object",
            "required": ["status", "reason"],
            "properties": {
                "status": {"type": "integer"},
                "reason": text,
                "detail": text,
                "evidence": {"type": "object"},
            },
        },
    }


def _answer_members() -> dict[str, object]:
    text: Schema = {"type": "string"}
    log = {
        "entry": text,
        "inclusion": _ref("Inclusion"),
        "sth": _ref("Sth"),
        "cosignatures": _list(text),
        "consistency": {"oneOf": [_ref("Consistency"), {"type": "null"}]},
    }
    artifacts = {"source": _ref("Artifact"), "binary": {"oneOf": [_ref("Artifact"), {"type": "null"}]}}
    return {
        "release": text,
        "manifest": _object({"data": text, "blake3": _HASH}),
        "attestations": _three(text),
        "proofs": _three(_object({"tsa": _list(text), "ots": _list(text)})),
        "log_proof": _object(dict(log)),
        "artifacts": _object(dict(artifacts)),
    }
