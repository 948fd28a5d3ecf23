"""``ganatomy app``: runs in the browser."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from segmodels import GanatomyError

from ..console import out, remark
from .options import Device


def app(
    run_files: Annotated[
        list[Path] | None, typer.Argument(help="Dissections, run.h5; unfinished ones are watched.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port [the first free one from 8050].", min=0, max=65535)] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another name under which it is reached, e.g. of a proxy (repeatable); asks for a token."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where runs that are started from the browser go [beside the first file].")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="A run's generator, where it is neither in the catalogue nor beside the run (repeatable)."),
    ] = None,
    device: Device = "cpu",
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser of this machine.")] = False,
) -> None:
    """Look at dissections in the browser, until Ctrl-C."""
    serve_runs(
        run_files or [], host=host, port=port, allowed=allow_host or [], folder=folder, weights=weights or [],
        device=device, show=show,
    )  # fmt: skip


def serve_runs(
    files: Sequence[Path], *, host: str = "127.0.0.1", port: int | None = None, allowed: Sequence[str] = (),
    folder: Path | None = None, weights: Sequence[str] = (), device: str = "cpu", show: bool = False,
) -> None:  # fmt: skip
    """Serve the dashboard on some runs until interrupted.

    Raises:
        GanatomyError: if not one of the files can be opened or watched, or the address cannot be had.
    """
    from .. import server  # Dash takes half a second to import: only who serves pays for it
    from ..library import Library
    from ..safety import guard, is_loopback

    library = Library(files, folder)
    runs, others = library.look()
    if files and not runs and not any(other.unfinished for other in others):
        raise GanatomyError("; ".join(other.message for other in others))
    for other in others:
        remark(f"ganatomy: {other.message}")
    watch = guard(host, allowed)
    listening = server.listen(host, port)
    address = f"http://{_in_address(host)}:{listening.getsockname()[1]}/"
    if watch.token is not None:
        address += f"?token={watch.token}"
    context = server.context_of(library, weights, device)
    dashboard = server.build(context, watch)
    out.print(f"dashboard   {address}", markup=False)
    if not is_loopback(host):
        remark(
            "This address can be reached from other machines, unencrypted. Who opens it needs the token above, once; "
            "other names and other pages are refused. Safer: the default address, and ssh -L from where you sit."
        )
    elif watch.token is not None:
        remark("It answers to other names than this machine's own: who opens it needs the token above, once.")
    remark("Ctrl-C ends it.")
    if show:
        webbrowser.open(address)
    try:
        server.serve(dashboard, listening)
    finally:
        if context.engine.worker.busy:
            remark("The job that runs writes down what it has…")
        context.engine.close()


def _in_address(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        import socket

        return socket.gethostname()
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
