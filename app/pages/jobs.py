"""Jobs: what the worker does, has done and will do."""

from __future__ import annotations

from dash import Dash, html
from dash.development.base_component import Component

from ..context import Address, Context
from .frame import page, section


def layout(context: Context, address: Address) -> Component:
    """Return the queue."""
    return page(section("Jobs", html.P("No job has been started.", className="note")), title="jobs")


def register(app: Dash, context: Context) -> None:
    """Nothing yet."""
