"""``/openapi.json``: the table of paths for programs (OpenAPI 3.1). Generated, so it cannot say anything else."""

from __future__ import annotations

import json
from typing import Any

import libreseed

from .routes import PARAMETERS, ROUTES, Route

__all__ = ["openapi_document"]

_PROBLEM = {
    "application/problem+json": {
        "schema": {
            "type": "object",
            "required": ["status", "reason"],
            "properties": {
                "status": {"type": "integer"},
                "reason": {"type": "string"},
                "detail": {"type": "string"},
            },
        }
    }
}
_REFUSALS = {
    "400": "a query parameter that cannot be",
    "404": "no such release or file",
    "408": "the request's body did not come in time",
    "412": "If-Match names another version",
    "413": "a body, where none is wanted",
    "416": "ranges that cannot or should not be sent",
    "429": "too many requests of one client: see Retry-After",
    "503": "the copy is being verified or healed: see Retry-After; without one it is damaged beyond repair",
}


def openapi_document() -> bytes:
    """The document, as it is served."""
    paths = {"/" + "/".join(route.segments): {"get": _operation(route), "head": _operation(route)} for route in ROUTES}
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "AuraSeal Package Distribution API",
            "version": libreseed.__version__,
            "description": "A mirror of signed releases. A client verifies every byte by the signed records.",
        },
        "paths": paths,
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _operation(route: Route) -> dict[str, Any]:
    schema: dict[str, object] = {"type": "object"} if route.media_type == "application/json" else {}
    content = {route.media_type.partition(";")[0]: {"schema": schema}}
    responses: dict[str, Any] = {"200": {"description": route.summary, "content": content}}
    if route.ranges:
        responses["206"] = {
            "description": "the ranges asked for",
            "content": {**content, "multipart/byteranges": {"schema": {}}},
        }
        responses["304"] = {"description": "the client has it already"}
    responses |= {status: {"description": text, "content": _PROBLEM} for status, text in _REFUSALS.items()}
    in_path = [segment[1:-1] for segment in route.segments if segment.startswith("{")]
    parameters = [_parameter(name, "path") for name in in_path] + [_parameter(name, "query") for name in route.query]
    return {"summary": route.summary, "parameters": parameters, "responses": responses}


def _parameter(name: str, place: str) -> dict[str, Any]:
    parameter = PARAMETERS[name]
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": parameter.text,
        "schema": dict(parameter.schema),
    }
