"""The command ``ganatomy``. Exit status: 0 done, 2 wrong input (one line), 1 a bug, 130 interrupted."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click
import typer

from dissect import GanatomyError
from dissect.disk import FULL
from dissect.manifest import ganatomy_version

from .commands import cache, demo, dissect, generators, report, segmenters, units, verify
from .console import remark

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
app.add_typer(cache.app, name="cache")
app.command("dissect")(dissect.dissect)
app.command("units")(units.units)
app.command("report")(report.report)
app.command("verify")(verify.verify)
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
    try:
        result = app(list(arguments), standalone_mode=False)
        return result if isinstance(result, int) else 0
    except GanatomyError as error:
        remark(f"ganatomy: {' '.join(str(error).split())}")
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        usage = f" (see {context.command_path} --help)" if context is not None else ""
        remark(f"ganatomy: {' '.join(error.format_message().split())}{usage}")
        return 2
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in FULL:
            raise
        remark(f"ganatomy: the disk is full ({error.filename or 'a file could not be written'}); free some space")
        return 2
    except (KeyboardInterrupt, click.Abort):
        again = shlex.join(["ganatomy", *arguments])
        remark(f"ganatomy: interrupted; finished work is kept. To go on: {again}")
        return 130


def main() -> None:
    """Run the command line of this process."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
