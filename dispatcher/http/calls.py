"""What a call of the API is: one method of one path, with all that is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel

from dispatcher.http import problem
from dispatcher.http.problem import Kind

OF_ANY_CALL: Final = (problem.NOT_HTTP, problem.INTERNAL, problem.TOO_MANY_CONNECTIONS)
OF_A_KEY: Final = (problem.UNAUTHORIZED, problem.TOO_MANY, problem.UNAVAILABLE)
OF_A_BODY: Final = (
    problem.MALFORMED,
    problem.INVALID,
    problem.TIMEOUT,
    problem.TOO_LARGE,
    problem.MEDIA_TYPE,
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One method of one path. `name` names its handler in `app`."""

    name: str
    method: str
    path: str
    summary: str
    description: str = ""
    query: type[BaseModel] | None = None
    request: type[BaseModel] | None = None  # with a type that is not JSON and no model: raw bytes
    request_or: type[BaseModel] | None = None  # in its place
    request_type: str = "application/json"
    answers: Mapping[int, type[BaseModel] | None] = field(default_factory=dict)  # None: not JSON of ours
    answer_type: str = "application/json"
    problems: tuple[Kind, ...] = ()
    public: bool = False  # needs no key
