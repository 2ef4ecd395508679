"""Errors of requests: a status, and one line as JSON, in the form that clients of OpenAI read."""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from nuner_embed.errors import ModelError, NunerEmbedError, OutOfMemory, StoreMismatch
from nuner_embed.printable import printable

_LONGEST: Final = 500  # characters of a message
# of the errors of this package; of all others, the request is at fault
_STATUS: Final = {
    OutOfMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreMismatch: HTTPStatus.CONFLICT,
    ModelError: HTTPStatus.CONFLICT,
}
_NO_JSON: Final = (
    "the body is no JSON; send a JSON object, with the header Content-Type: application/json, as /docs describes"
)


@dataclass
class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: of the answer.
        message: one line: what was expected, what was found, what to do.
        headers: of the answer.
    """

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)


def failure(refused: Refused) -> Response:
    """The answer to a request that was refused."""
    kind = "invalid_request_error" if refused.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    line = printable(refused.message)
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST * 3 // 4]} ... {line[-_LONGEST // 4 :]}"
    body = {"error": {"message": line, "type": kind, "param": None, "code": HTTPStatus(refused.status).name.lower()}}
    return Response(msgspec.json.encode(body), refused.status, refused.headers, "application/json")


def refusal_of(error: NunerEmbedError) -> Refused:
    """The refusal that an error of this package is for a client."""
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), HTTPStatus(422))
    return Refused(status, str(error))


def add_handlers(app: FastAPI) -> None:
    """Lets an application answer errors of requests with one line."""

    async def refused(request: Request, error: Any) -> Response:
        return failure(error)

    async def of_package(request: Request, error: Any) -> Response:
        return failure(refusal_of(error))

    async def invalid(request: Request, error: Any) -> Response:
        return failure(_invalid(error))

    async def of_http(request: Request, error: Any) -> Response:
        return failure(_of_http(request, error))

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(NunerEmbedError, of_package)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)


def _of_http(request: Request, error: HTTPException) -> Refused:
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        return Refused(404, f"there is no {request.url.path[:100]} here; /docs describes what there is", headers)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return Refused(405, f"{request.url.path[:100]} does not take {request.method[:20]}; see /docs", headers)
    if error.status_code == HTTPStatus.BAD_REQUEST:  # FastAPI's answer to a body that cannot be read
        return Refused(400, _NO_JSON, headers)
    return Refused(error.status_code, str(error.detail), headers)


def _invalid(error: RequestValidationError) -> Refused:
    """The first thing that is wrong with a body, with the name of the field."""
    # a misspelt field first: that another one is missing follows from it
    found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    first = found[0]
    where = [part for part in first["loc"] if part != "body"]
    if first["type"] == "json_invalid":
        return Refused(400, f"the body is no JSON: {first['ctx']['error']} at character {where[0]}")
    if not where and first["type"] in ("missing", "model_attributes_type", "dict_type", "model_type"):
        return Refused(400 if first["type"] == "missing" else 422, _NO_JSON)
    name = ".".join(str(part) for part in where[:1]) or "the body"
    if first["type"] == "extra_forbidden":
        return Refused(422, f"{'.'.join(map(str, where))[:60]}: there is no such field; /docs names the fields")
    if first["type"] == "missing":
        return Refused(422, f"{'.'.join(map(str, where))}: the field is missing")
    # a field that takes several types has an error for each of them, which the first part of the place has in common
    same = [one for one in found if [part for part in one["loc"] if part != "body"][:1] == where[:1]]
    said = "; or: ".join(dict.fromkeys(one["msg"].removeprefix("Value error, ") for one in same))
    return Refused(422, f"{name}: {said[:1].lower()}{said[1:]}")
