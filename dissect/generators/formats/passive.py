"""Reading pickles without running them: a machine for lists, dicts, numbers and text, and stand-ins for the rest.

A pickle is a program that may call any function of the machine it is read on. Here it can name only what a table
lists, and what it gets for a name is a stand-in of this package, never the thing itself. What the machine may do
is bounded as well: how many steps, how large a number, how deep and how often things hold each other.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .stored import FormatError
from .stream import MAX_STEPS, Stream

MAX_NODES = 500_000  # values in the result, each counted as often as it is reached
MAX_DEPTH = 120

Names = Mapping[tuple[str, str], "Named"]


@dataclass(frozen=True, eq=False)
class Named:
    """What a pickle gets when it asks for ``module.name``.

    Attributes:
        name: "module.name".
        call: what stands in for calling it; None for names that may be mentioned but not called.
        value: what it stands for, where that is a plain thing (the type of a storage's numbers).
    """

    name: str
    call: Callable[..., object] | None = None
    value: object = None


class Instance:
    """An object of a class that is not made here: its class's name, its arguments, its state."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[object, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.state: object = None

    def build(self, state: object) -> None:
        """Keep the state."""
        self.state = state


class Piece(bytes):
    """Bytes of a pickle that know where in the file they are."""

    offset: int


def unfit(name: str) -> FormatError:
    """Return the error for a pickle that asks for a name it may not have, or does with it what it may not do."""
    clean = "".join(c if c.isprintable() else "?" for c in name[:120])
    return FormatError(f"refused, it asks for {clean}; nothing was run")


_KEPT = (
    "MARK", "STOP", "POP", "POP_MARK", "DUP", "FLOAT", "INT", "BININT", "BININT1", "LONG", "BININT2", "NONE", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "GET", "BINGET",
    "LONG_BINGET", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "LIST", "EMPTY_LIST", "TUPLE", "EMPTY_TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "EMPTY_DICT", "BINFLOAT", "PROTO", "NEWTRUE", "NEWFALSE", "LONG1", "GLOBAL", "STACK_GLOBAL",
    "BINPERSID",
)  # fmt: skip
_STOP = pickle.STOP[0]


class PassiveUnpickler(pickle._Unpickler):
    """The standard library's unpickler in Python, with every opcode that could reach beyond its own stack replaced.

    Opcodes that are not listed are refused.
    """

    stack: list[Any]
    metastack: list[Any]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _KEPT
    }

    def __init__(self, stream: Stream, names: Names, persistent: Callable[[object], object] | None = None) -> None:
        super().__init__(stream, encoding="latin1")
        self._stream = stream
        self._names = names
        self._persistent = persistent
        self.read = stream.read
        self.readline = stream.readline

    def load(self) -> Any:
        """Return the value of the pickle that begins here."""
        self.metastack = []
        self.stack = []
        self.append = self.stack.append
        self.memo = {}
        read, dispatch, stream = self.read, self.dispatch, self._stream
        while stream.steps > 0:
            stream.steps -= 1
            opcode = read(1)[0]
            if opcode == _STOP:
                return self.stack.pop()
            step = dispatch.get(opcode)
            if step is None:
                raise FormatError(
                    f"refused, damaged or not a checkpoint: its pickle has the opcode {bytes([opcode])!r}"
                )
            step(self)
        raise FormatError(f"refused, its pickle takes more than {MAX_STEPS} steps")

    def find_class(self, module: str, name: str) -> Named:
        """Return the stand-in of exactly that name."""
        try:
            return self._names[module, name]
        except KeyError:
            raise unfit(f"{module}.{name}") from None

    def persistent_load(self, pid: object) -> object:
        """Return the storage that a pickle of torch refers to."""
        if self._persistent is None:
            raise FormatError("refused, its pickle refers to data outside of it")
        return self._persistent(pid)

    def _call(self, function: object, arguments: object) -> None:
        if type(function) is not Named or type(arguments) is not tuple:
            raise FormatError("refused, it calls what is no function; nothing was run")
        if function.call is None:
            raise unfit(f"a call of {function.name}")
        self._stream.spend(arguments)
        self.append(function.call(*arguments))

    def _load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack.pop()
        self._call(function, arguments)

    def _load_inst(self) -> None:
        module = self.readline()[:-1].decode("ascii")
        name = self.readline()[:-1].decode("ascii")
        self._call(self.find_class(module, name), tuple(self.pop_mark()))

    def _load_obj(self) -> None:
        function, *arguments = self.pop_mark()
        self._call(function, tuple(arguments))

    def _load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is dict:  # attributes of a kind of dict: ``_metadata`` of torch's state dicts
            return
        build = getattr(target, "build", None)
        if build is None:
            raise FormatError("refused, it sets the state of what has none; nothing was run")
        self._stream.spend((state,) if not isinstance(state, tuple) else state)
        build(state)

    def _load_append(self) -> None:
        value = self.stack.pop()
        self._list().append(value)

    def _load_appends(self) -> None:
        values = self.pop_mark()
        self._list().extend(values)

    def _list(self) -> list[Any]:
        target = self.stack[-1]
        if type(target) is not list:
            raise FormatError("refused, it appends to what is no list; nothing was run")
        return target

    def _load_setitem(self) -> None:
        value = self.stack.pop()
        self._set([self.stack.pop(), value])

    def _load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise FormatError("refused, it sets items of what is no dict; nothing was run")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value

    def _load_piece(self, length: int) -> None:
        offset = self._stream.position
        piece = Piece(self.read(length))
        piece.offset = offset
        self.append(piece)

    def _load_binbytes(self) -> None:
        self._load_piece(struct.unpack("<I", self.read(4))[0])

    def _load_binbytes8(self) -> None:
        self._load_piece(struct.unpack("<Q", self.read(8))[0])

    def _load_short_binbytes(self) -> None:
        self._load_piece(self.read(1)[0])

    def _load_frame(self) -> None:
        # Frames only say how much may be read at once; without them positions are those in the file.
        if struct.unpack("<Q", self.read(8))[0] > self._stream.end - self._stream.position:
            raise FormatError("damaged or cut short: it claims more bytes than it has")

    dispatch |= {
        pickle.REDUCE[0]: _load_reduce,
        pickle.NEWOBJ[0]: _load_reduce,
        pickle.INST[0]: _load_inst,
        pickle.OBJ[0]: _load_obj,
        pickle.BUILD[0]: _load_build,
        pickle.APPEND[0]: _load_append,
        pickle.APPENDS[0]: _load_appends,
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
        pickle.DICT[0]: _load_dict,
        pickle.BINBYTES[0]: _load_binbytes,
        pickle.BINBYTES8[0]: _load_binbytes8,
        pickle.SHORT_BINBYTES[0]: _load_short_binbytes,
        pickle.BYTEARRAY8[0]: _load_binbytes8,
        pickle.FRAME[0]: _load_frame,
    }


def checked_key(key: object) -> Any:
    """Return a key of a dict if it is plain: hashing nested or huge ones can take forever or end the process."""
    if type(key) is int and key.bit_length() > 64:
        raise FormatError("refused, a dict has a number of many digits as a key")
    if key is not None and type(key) not in (str, int, float, bool, bytes, Piece):
        kind = key.name if isinstance(key, Named) else type(key).__name__
        raise FormatError(f"refused, a dict has a {kind} as a key")
    return key


def measure(top: object) -> None:
    """Refuse values that nest too deeply, hold themselves, or would be too many written out in full.

    After this a plain recursive walk is safe. Visits each value once, without recursion.

    Raises:
        FormatError: if it is one of these.
    """
    counts: dict[int, int] = {}  # id of a container that is done -> values in it, counted as often as reached
    around: set[int] = set()  # ids of the containers around the present one
    # (value, None, 0) on the way in; (value, its containers, how many other parts it has) on the way out
    todo: list[tuple[Any, list[Any] | None, int]] = [(top, None, 0)] if type(top) in _CONTAINERS else []
    while todo:
        value, inner, others = todo.pop()
        if inner is None:
            if id(value) in counts:
                continue
            if id(value) in around:
                raise FormatError("refused, a value in it holds itself")
            around.add(id(value))
            if len(around) > MAX_DEPTH:
                raise FormatError(f"refused, it is nested more than {MAX_DEPTH} deep")
            parts = _parts(value)
            inner = [part for part in parts if type(part) in _CONTAINERS]
            todo.append((value, inner, len(parts) - len(inner)))
            todo.extend((part, None, 0) for part in inner)
        else:
            around.discard(id(value))
            counts[id(value)] = 1 + others + sum(counts[id(part)] for part in inner)
            if counts[id(value)] > MAX_NODES:
                raise FormatError(f"refused, it holds more than {MAX_NODES} values")


def _parts(value: Any) -> Collection[Any]:
    if type(value) is dict:
        return value.values()
    return (value.arguments, value.state) if type(value) is Instance else value


_CONTAINERS = {dict, list, tuple, Instance}
