"""With and without this unit: images drawn on demand, where the generator's weights are present."""

from __future__ import annotations

from dash import Dash
from dash.development.base_component import Component

from ..context import Context
from ..library import OpenRun


def panel(context: Context, opened: OpenRun, layer: str, unit: int) -> Component | None:
    """Return the part of a unit's page, or None."""
    return None


def register(app: Dash, context: Context) -> None:
    """Nothing yet."""
