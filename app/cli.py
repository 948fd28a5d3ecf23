"""The command ``ganatomy``. Exit status: 0 done, 2 wrong input (one line), 1 a bug, 130 interrupted."""

from __future__ import annotations

import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType

import torch
import typer

from dissect import GanatomyError
from dissect.disk import FULL
from dissect.manifest import ganatomy_version
from segmodels.errors import GanatomyWarning

from .commands import (
    ace,
    artifacts,
    cache,
    clean,
    demo,
    dissect,
    effect,
    generators,
    insertion,
    metrics,
    pack,
    report,
    rewrite,
    rewrite_judge,
    segmenters,
    sweep,
    units,
    verify,
)
from .commands import app as dashboard
from .console import out, remark
from .unfinished import Interrupted

WRONG_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(
    name="ganatomy",
    help="Open a pretrained image generator: find out what its units do, prove it, and repair it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(generators.app, name="generators")
app.add_typer(segmenters.app, name="segmenters")
app.add_typer(artifacts.app, name="artifacts")
rewrite.app.command("evaluate")(rewrite_judge.evaluate)
rewrite.app.command("sweep")(rewrite_judge.sweep)
app.add_typer(rewrite.app, name="rewrite")
app.add_typer(cache.app, name="cache")
app.command("dissect")(dissect.dissect)
app.command("merge")(dissect.merge)
app.command("units")(units.units)
app.command("effect")(effect.effect)
app.command("sweep")(sweep.sweep)
app.command("dose")(sweep.dose)
app.command("ace")(ace.ace)
app.command("insertion")(insertion.insertion)
app.command("report")(report.report)
app.command("export")(generators.export)
app.command("app")(dashboard.app)
app.command("clean")(clean.clean)
app.command("metrics")(metrics.metrics)
app.command("verify")(verify.verify)
app.command("pack")(pack.pack)
app.command("demo")(demo.demo)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ganatomy {ganatomy_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; only a bug raises."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        warnings.simplefilter("once", GanatomyWarning)  # replicas would say it again
        return _run(arguments)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_rest: object, **_named: object
) -> None:
    """Say what the user should know in one line; what libraries warn of goes the usual way."""
    if issubclass(category, GanatomyWarning):
        remark("ganatomy: " + " ".join(str(message).split()))
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _run(arguments: Sequence[str]) -> int:
    kept = ""
    try:
        result = app(list(arguments), standalone_mode=False)
        status = result if isinstance(result, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Interrupted as stop:
        status, kept = INTERRUPTED, str(stop)
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer brings its own copy of click, or uses it
            out.print(error.format_message(), markup=False)  # type: ignore[attr-defined]
            return WRONG_INPUT
        line = _one_line(error)
        if line is None:
            raise
        remark(f"ganatomy: {line}")
        return WRONG_INPUT
    if status == INTERRUPTED:
        again = shlex.join(["ganatomy", *arguments])
        remark(
            f"ganatomy: interrupted; {kept}. To go on: {again}" if kept else f"ganatomy: interrupted. Again: {again}"
        )
    return status


def _one_line(error: Exception) -> str | None:
    """Return what to tell people about an error that they can mend, or None for a bug."""
    if isinstance(error, GanatomyError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in FULL:
        return f"the disk is full ({error.filename or 'a file could not be written'}); free some space"
    if _lacks_memory(error):
        return "too little memory for this: try a smaller --batch, or close what else takes it"
    if hasattr(error, "format_message"):  # the parser's own errors; typer brings its own copy of click, or uses it
        context = getattr(error, "ctx", None)
        usage = f" (see {context.command_path} --help)" if context is not None else ""
        return " ".join(str(error.format_message()).split()) + usage
    return None


def _lacks_memory(error: Exception) -> bool:
    """Whether an allocation failed, by NumPy or Python, by torch on a device, or by torch on the processor."""
    ours = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return ours or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def main() -> None:
    """Run the command line of this process."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
