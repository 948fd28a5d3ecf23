"""Grids of the dashboard: how they look, and their view as an address.

In the address, ``sort=d.desc,iou.asc`` names the columns that a grid is sorted by, the first one first; a filter that
wants one value has a word of its own (``concept=mouth``), all others are in ``f``, as the grid itself writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

NUMBER = {  # a column of numbers of a grid; numbers are not searched for
    "type": "rightAligned", "filter": "agNumberColumnFilter", "cellRenderer": "Number", "cellClass": "n",
    "filterParams": {"defaultOption": "greaterThanOrEqual"},
    "getQuickFilterText": {"function": "''"},
}  # fmt: skip
EVERY_COLUMN = {"filter": "agTextColumnFilter", "floatingFilter": True, "suppressFloatingFilterButton": True}
OPTIONS = {"headerHeight": 34, "floatingFiltersHeight": 32, "animateRows": False}


def filters(query: Mapping[str, str], exact: Mapping[str, str]) -> dict[str, Any]:
    """Return the filters that an address asks for; what cannot be read in it is left out.

    Args:
        query: of the address. exact: columns whose exact filter has a word of its own in it, and that word.
    """
    model: dict[str, Any] = {}
    try:
        given = json.loads(query.get("f", "{}"))
        if isinstance(given, dict):
            model = {name: value for name, value in given.items() if isinstance(value, dict)}
    except (ValueError, RecursionError):
        pass
    for name, word in exact.items():
        if query.get(word):
            model[name] = {"filterType": "text", "type": "equals", "filter": query[word]}
    return model


def sort(columns: list[dict[str, Any]], query: Mapping[str, str]) -> None:
    """Put into columns the order that an address asks for; what cannot be read in it is left out."""
    by_name = {column["field"]: column for column in columns}
    for place, part in enumerate(query.get("sort", "").split(",")):
        name, _, direction = part.rpartition(".")
        if name in by_name and direction in ("asc", "desc"):
            by_name[name] |= {"sort": direction, "sortIndex": place}


def theme() -> dict[str, str]:
    """Return the theme of grids: the page's colours, light or dark."""
    params = (
        "backgroundColor: 'var(--card)', foregroundColor: 'var(--ink)', headerBackgroundColor: 'var(--card)', "
        "headerTextColor: 'var(--quiet)', headerFontWeight: 500, borderColor: 'var(--line)', "
        "accentColor: 'var(--accent)', browserColorScheme: 'inherit', columnBorder: false, "
        "rowHoverColor: 'var(--shade)', chromeBackgroundColor: 'var(--card)', fontFamily: 'inherit', fontSize: 13.5, "
        "headerFontSize: 12.5, wrapperBorderRadius: 12, spacing: 6, inputBackgroundColor: 'var(--paper)', "
        "oddRowBackgroundColor: 'var(--card)', cellHorizontalPadding: 12"
    )
    return {"function": f"themeQuartz.withParams({{{params}}})"}
