"""What every page of the dashboard is given: the open runs, and the rooms that act on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote

from segmodels import GanatomyError

from .engine import Engine
from .library import Library, OpenRun
from .reports import Report

DIGITS = 9  # of a number in an address, at most


class NotYet(GanatomyError):  # noqa: N818 (nothing went wrong)
    """A run's tables are being computed; ask again in a moment."""

    def __init__(self, opened: OpenRun, report: Report) -> None:
        super().__init__(f"the tables of {opened.slug} are being computed; try again in a moment")
        self.opened, self.report = opened, report


@dataclass(frozen=True)
class Context:
    """Shared by all pages and all visitors.

    Attributes:
        library: the runs. engine: what acts on them.
    """

    library: Library
    engine: Engine

    def opened(self, slug: str) -> OpenRun:
        """Return a run whose numbers can be read at once.

        Raises:
            NotYet: if its tables are being computed.
            GanatomyError: as :meth:`Library.get`, and if they cannot be.
        """
        found = self.library.get(slug)
        report = self.engine.tables.missing(found)
        if report is not None:
            raise NotYet(found, report)
        return found


@dataclass(frozen=True)
class Address:
    """Where a visitor is: ``/unit/faces/main.5/154?level=3`` is page "unit", parts (faces, main.5, 154), query.

    Attributes:
        page: the first part of the path, "" at the root. parts: the others, unquoted. query: the last value of each.
    """

    page: str
    parts: tuple[str, ...] = ()
    query: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pathname: str | None, search: str | None) -> Address:
        """Take an address apart; parts are cut at slashes before they are unquoted, so that names may hold any."""
        parts = [unquote(part) for part in (pathname or "/").strip("/").split("/")]
        return cls(parts[0], tuple(parts[1:]), dict(parse_qsl((search or "").lstrip("?"))))

    def part(self, index: int, called: str) -> str:
        """Return a part that the page needs; GanatomyError that says what is missing if there is none."""
        if index >= len(self.parts) or not self.parts[index]:
            raise GanatomyError(f"expected {called} in the address, there is none")
        return self.parts[index]

    def number(self, index: int, called: str) -> int:
        """Return a part that is a number, 0 or more; GanatomyError if it is none."""
        text = self.part(index, called)
        if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS):
            raise GanatomyError(f"expected the number of {called} in the address, got {text[:40]!r}")
        return int(text)


def link(*parts: object, **query: object) -> str:
    """Return the address of parts, each quoted: ``link("unit", "faces", "main.5", 154)``."""
    path = "/" + "/".join(quote(str(part), safe="@:") for part in parts)
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return path + ("?" + "&".join(f"{name}={quote(str(value))}" for name, value in given.items()) if given else "")
