"""How questions of a page's scripts are answered: JSON, and one line where something cannot be done."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Response

from segmodels import GanatomyError

from .worker import Superseded


def answer(content: object, status: int = 200) -> Response:
    """Return an answer in JSON that nobody is to keep."""
    return Response(json.dumps(content), status, {"Cache-Control": "no-store"}, mimetype="application/json")


def answers(view: Callable[..., Response]) -> Callable[..., Response]:
    """Turn what cannot be done into JSON with ``error``, one line (422); what is needless by now into nothing (204)."""

    @wraps(view)
    def told(**arguments: Any) -> Response:
        try:
            return view(**arguments)
        except Superseded:
            return Response(status=204)
        except GanatomyError as error:
            return answer({"error": " ".join(str(error).split())}, 422)

    return told
