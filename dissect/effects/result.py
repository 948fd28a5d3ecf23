"""What a measurement is: facts that determined it, and arrays that were measured. Into a file, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from ..tables import Tabled


class Measured(Tabled):
    """The way in and out of a file of a frozen dataclass whose fields are ``facts`` and then arrays.

    Attributes:
        facts: what was edited, measured and by what; JSON.
    """

    kind: ClassVar[str]
    ARRAYS: ClassVar[tuple[str, ...]]  # names of the other fields

    facts: Mapping[str, Any]

    def header(self) -> dict[str, Any]:
        """Return what determined the result: JSON."""
        return dict(self.facts)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the numbers that were measured."""
        return {name: getattr(self, name) for name in self.ARRAYS}

    @classmethod
    def from_stored(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        """Return the result of what :meth:`header` and :meth:`arrays` returned."""
        return cls(header, **{name: arrays[name] for name in cls.ARRAYS})  # type: ignore[call-arg]
