"""The dashboard's server: the Dash app with its pages, protected, behind waitress. Everything is served from here."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, dcc, html, set_props
from dash.development.base_component import Component
from flask import Response, send_from_directory
from waitress import create_server
from waitress.server import BaseWSGIServer

from segmodels import GanatomyError

from . import painting_views, rewriting_views, rows, views
from .context import Address, Context, NotYet
from .engine import Engine
from .library import Library
from .pages import PAGES, waiting
from .pages.frame import bar, message
from .safety import BODY_BYTES, Guard, protect

TEMPLATES = Path(__file__).parent / "templates"
SHARED = ("report.css", "favicon.svg")  # the report's look is the dashboard's
PORT, TRIES = 8050, 20
THREADS = 8
ACCENT = ["#eef3fc", "#dbe5f7", "#b7caee", "#8fade4", "#6c93db", "#4f7dd0", "#2f5fb3", "#28529b", "#204480", "#173261"]

log = logging.getLogger("ganatomy.server")

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
<link rel="icon" href="/style/favicon.svg">
<link rel="stylesheet" href="/style/report.css">
<script src="/style/scheme.js"></script>
{%css%}
</head>
<body>
{%app_entry%}
<footer class="scripts">{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>"""


def build(context: Context, guard: Guard) -> Dash:
    """Return the app, its pages registered and its server protected."""
    app = Dash(
        "ganatomy", assets_folder=str(Path(__file__).parent / "assets"), index_string=INDEX, title="ganatomy",
        update_title="", serve_locally=True, suppress_callback_exceptions=True, on_error=_say, enable_mcp=False,
        assets_ignore=r"scheme\.js", add_log_handler=False,
    )  # fmt: skip
    app.enable_dev_tools(debug=False)
    app.layout = _shell()
    _route(app, context)
    for page in dict.fromkeys([*PAGES.values(), waiting]):
        page.register(app, context)
    _shared_files(app)
    views.register(app.server, context)
    rows.register(app.server, context)
    rewriting_views.register(app.server, context)
    painting_views.register(app.server, context)
    protect(app.server, guard, app.csp_hashes())
    return app


def context_of(library: Library, named: Iterable[str] = (), device: str = "cpu") -> Context:
    """Return what the pages are given, its engine started; see :meth:`Engine.begin`."""
    return Context(library, Engine.begin(library, named, device))


def _shell() -> Component:
    toggle = dmc.ColorSchemeToggle(
        lightIcon="☀", darkIcon="☾", variant="subtle", color="gray", size="md", id="scheme",
        **{"aria-label": "Switch between light and dark"},
    )  # fmt: skip
    return dmc.MantineProvider(
        [
            dcc.Location(id="address", refresh=False),
            dmc.NotificationContainer(id="notes-shown", position="bottom-right"),
            html.Header([html.Div(id="bar", className="bar-parts"), toggle], className="top"),
            html.Div(id="page"),
            dcc.Store(id="titled"),
            dcc.Store(id="again"),
        ],
        defaultColorScheme="auto",
        theme={
            "primaryColor": "accent", "colors": {"accent": ACCENT}, "primaryShade": {"light": 6, "dark": 4},
            "fontFamily": "inherit", "defaultRadius": "md", "cursorType": "pointer",
        },
    )  # fmt: skip


def _route(app: Dash, context: Context) -> None:
    @app.callback(
        Output("bar", "children"), Output("page", "children"),
        Input("address", "pathname"), Input("address", "search"), Input("again", "data"),
    )  # fmt: skip
    def _show(pathname: str | None, search: str | None, _again: int | None) -> tuple[list[Component], Component]:
        address = Address.of(pathname, search)
        body: Any = _body(context, address)
        # Another address is another page, and so is one that was waited for: no state of the old one stays in it.
        body.key = f"{getattr(body, 'id', '')}{pathname}{search}"
        return bar(context, address), body

    app.clientside_callback(
        ClientsideFunction("ganatomy", "arrived"), Output("titled", "data"), Input("page", "children")
    )
    app.clientside_callback(
        ClientsideFunction("ganatomy", "go"), Output("run-choice", "error"), Input("run-choice", "value"),
        prevent_initial_call=True,
    )  # fmt: skip


def _body(context: Context, address: Address) -> Component:
    page = PAGES.get(address.page)
    if page is None:
        return message("No such page", f"There is no page {address.page!r} here.")
    try:
        return page.layout(context, address)
    except NotYet as error:
        return waiting.layout(error)
    except GanatomyError as error:
        return message("This cannot be shown", " ".join(str(error).split()))
    except Exception:  # a bug; only the log gets its insides
        log.exception("the page of %r", "/".join([address.page, *address.parts])[:200])
        return message("Something went wrong inside", "The terminal that runs the dashboard says what.")


def _say(error: Exception) -> None:
    """Show what a callback could not do; a bug is told on standard error and named, without its insides, here."""
    if isinstance(error, GanatomyError):
        text = " ".join(str(error).split())
    else:
        traceback.print_exception(error, file=sys.stderr)
        text = "Something went wrong inside; the terminal that runs the dashboard says what."
    note = {"action": "show", "message": text, "color": "red", "autoClose": 8000, "id": "error"}
    set_props("notes-shown", {"sendNotifications": [note]})


def _shared_files(app: Dash) -> None:
    @app.server.get("/style/<name>")
    def style(name: str) -> Response:
        folder = TEMPLATES if name in SHARED else Path(__file__).parent / "assets"
        return send_from_directory(folder, name, max_age=0 if name not in SHARED else None)


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens on ``port``, or on the first free one from 8050 on.

    Raises:
        GanatomyError: if the address cannot be had.
    """
    tried = [port] if port is not None else list(range(PORT, PORT + TRIES))
    for number in tried:
        try:
            family = socket.getaddrinfo(host or None, number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        except OSError as error:
            raise GanatomyError(f"no such address to listen on: {host!r} ({error})") from error
        found = socket.socket(family[0], socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(family[4])
            found.listen()
        except OSError as error:
            found.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise GanatomyError(f"cannot listen on {host} port {number}: {error.strerror}") from error
        return found
    raise GanatomyError(
        f"port {tried[0]} of {host} is taken{'' if port else ', and the next ones'}; choose one with --port"
    )


def server_of(app: Dash, listening: socket.socket) -> BaseWSGIServer:
    """Return the server that answers at a socket once its ``run`` is called; ``close`` ends it."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that requests wait is no news
    return create_server(
        app.server, sockets=[listening], threads=THREADS, ident=None, max_request_body_size=BODY_BYTES,
        clear_untrusted_proxy_headers=True,
    )  # fmt: skip


def serve(app: Dash, listening: socket.socket) -> None:
    """Answer until interrupted."""
    server = server_of(app, listening)
    try:
        server.run()
    finally:
        server.close()
