"""Makes the OpenAPI 3.1 description from the table of calls and the schemas. Pure."""

from collections.abc import Sequence
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from dispatcher.http.problem import CONTENT_TYPE, Kind
from dispatcher.http.routes import OF_ANY_CALL, Call
from dispatcher.http.schemas import ProblemAnswer

REF: Final = "#/components/schemas/{model}"


def describe(calls: Sequence[Call], version: str) -> dict[str, Any]:
    """The whole document."""
    models: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemAnswer, "serialization")]
    for call in calls:
        models += [
            (model, "validation")
            for model in (call.request, call.request_or, call.query)
            if model is not None
        ]
        models += [(model, "serialization") for model in call.answers.values() if model is not None]
    refs, definitions = models_json_schema(list(dict.fromkeys(models)), ref_template=REF)
    schemas: dict[Any, Any] = {model: ref for (model, _), ref in refs.items()}
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hotsite",
            "version": version,
            "description": "Texts a utility's customers from two sites. Every accepted message is accounted for.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(call: Call, schemas: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": call.name, "summary": call.summary}
    if call.description:
        operation["description"] = call.description
    if call.public:
        operation["security"] = []
    if parameters := [*_path_parameters(call), *_query_parameters(call)]:
        operation["parameters"] = parameters
    if call.request is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {call.request_type: {"schema": _request(call, schemas)}},
        }
    elif call.request_type != "application/json":
        operation["requestBody"] = {"required": True, "content": {call.request_type: {}}}
    answers = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": {"X-Request-Id": {"schema": {"type": "string", "format": "uuid"}}},
            "content": {call.answer_type: {"schema": schemas[model]} if model is not None else {}}
            if status != HTTPStatus.NO_CONTENT
            else {},
        }
        for status, model in call.answers.items()
    }
    operation["responses"] = answers | _problems((*call.problems, *OF_ANY_CALL), schemas)
    return operation


def _request(call: Call, schemas: dict[Any, Any]) -> Any:
    if call.request_or is None:
        return schemas[call.request]
    return {"anyOf": [schemas[call.request], schemas[call.request_or]]}


def _problems(kinds: Sequence[Kind], schemas: dict[Any, Any]) -> dict[str, Any]:
    by_status = groupby(sorted(kinds, key=lambda kind: kind.status), key=lambda kind: kind.status)
    return {
        str(status): {
            "description": "; ".join(f"{kind.slug}: {kind.title}" for kind in same),
            "content": {CONTENT_TYPE: {"schema": schemas[ProblemAnswer]}},
        }
        for status, same in by_status
    }


def _path_parameters(call: Call) -> list[dict[str, Any]]:
    shapes = {"id": {"type": "string", "format": "uuid"}, "name": {"type": "string"}}
    return [
        {"name": name, "in": "path", "required": True, "schema": shape}
        for name, shape in shapes.items()
        if f"{{{name}}}" in call.path
    ]


def _query_parameters(call: Call) -> list[dict[str, Any]]:
    if call.query is None:
        return []
    schema = call.query.model_json_schema(ref_template=REF)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": shape.get("description", ""),
            "schema": {key: value for key, value in shape.items() if key not in {"description", "title"}},
        }
        for name, shape in schema["properties"].items()
    ]
