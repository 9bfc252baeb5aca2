"""The OpenAPI 3.1 document of the REST API, written from the registered endpoints."""

import re
from typing import Any

import msgspec

from ecotone import __version__
from ecotone.api.endpoint import ENDPOINTS, PREFIX, Need


def document(base_url: str) -> dict[str, Any]:
    """The document; body schemas are those that the server itself decodes with."""
    bodies = [e.body for e in ENDPOINTS if e.body is not None]
    schemas, components = msgspec.json.schema_components(bodies, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(bodies, schemas, strict=True))
    paths: dict[str, Any] = {}
    for e in ENDPOINTS:
        plain = re.sub(r"{(\w+):\w+}", r"{\1}", PREFIX + e.path)
        operation: dict[str, Any] = {
            "operationId": e.handler.__name__,
            "summary": e.summary,
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"} | e.shapes.get(name, {})}
                for name in re.findall(r"{(\w+)}", plain)
            ],
            "responses": {
                str(e.status): {"description": "Success", "content": {e.media: {}}},
                "default": {
                    "description": "What was wrong, what was expected, what to do",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                },
            },
            "security": [] if e.need is Need.READ else [{"token": []}],
        }
        if e.body is not None:
            told, more = schema_of[e.body], e.shapes.get("body")
            operation["requestBody"] = {
                "required": more is not None or any(f.required for f in msgspec.structs.fields(e.body)),
                "content": {"application/json": {"schema": {"allOf": [told, more]} if more else told}},
            }
        paths.setdefault(plain, {})[e.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ecotone", "version": __version__},
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "code"],
            "properties": {
                "message": {"type": "string"},
                "code": {"type": "string"},
                "param": {"type": ["string", "null"]},
            },
        },
        "ecotone": {"type": "object"},
    },
}
