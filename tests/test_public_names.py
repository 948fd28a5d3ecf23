"""Every public name says what it is: shapes of the arrays it takes and gives, and the errors that it raises."""

import ast
import dataclasses
import inspect
import re
import textwrap

import pytest

import dissect
import rewrite
import segmodels
from dissect import artifacts, constants, effects, metrics
from dissect.generators import discriminators

PACKAGES = (segmodels, dissect, rewrite, artifacts, effects, metrics, constants, discriminators)
ARRAYS = re.compile(r"\b(Tensor|NDArray|ndarray|Float32|Float64|Floats|Labels|Counts|Bytes)\b")
SHAPE = re.compile(r"\[[^\]]*\]|int64|bool of|one value|0-d|scalar", re.IGNORECASE)
NAMED = re.compile(r"(Mapping|dict|Iterator\[tuple|Iterable\[tuple)\[str")  # tensors by name have each its own shape


def members():
    """Yield (name, object, class or None) of all that is public."""
    seen = set()
    for package in PACKAGES:
        for name in getattr(package, "__all__", [n for n in vars(package) if not n.startswith("_")]):
            value = getattr(package, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)) or value in seen:
                continue
            if not value.__module__.startswith(("segmodels", "dissect", "rewrite")):
                continue
            seen.add(value)
            yield f"{package.__name__}.{name}", value, None
            if inspect.isclass(value):
                for part, member in vars(value).items():
                    if isinstance(member, classmethod | staticmethod):
                        member = member.__func__
                    if not part.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                        yield f"{package.__name__}.{name}.{part}", member, value


MEMBERS = {name: (value, owner) for name, value, owner in members()}


def documented(value, owner, name):
    """Return the docstring, of the method that this one replaces if it has none of its own."""
    text = inspect.getdoc(value)
    if not text and owner is not None:
        text = inspect.getdoc(getattr(owner, name.rpartition(".")[2]))
    return text or ""


def signature_of(value):
    function = value.fget if isinstance(value, property) else value
    kinds = {name: str(kind) for name, kind in getattr(function, "__annotations__", {}).items()}
    return {name: kind for name, kind in kinds.items() if not NAMED.search(kind)}


def raises(value):
    """Whether a function itself raises GanatomyError."""
    function = value.fget if isinstance(value, property) else value
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    return any(
        isinstance(node, ast.Raise) and node.exc and "GanatomyError" in ast.dump(node.exc) for node in ast.walk(tree)
    )


@pytest.mark.parametrize("name", MEMBERS)
def test_it_says_what_it_is(name):
    value, owner = MEMBERS[name]
    text = documented(value, owner, name)
    assert len(text) > 15, "a docstring"
    about = text + (inspect.getdoc(owner) or "" if owner else "")
    if inspect.isclass(value):
        fields = {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
        missing = [f for f in fields if not f.startswith("_") and not re.search(rf"\b{f}\b", text)]
        assert not missing, f"fields that the docstring does not name: {missing}"
        return
    arrays = [part for part, kind in signature_of(value).items() if ARRAYS.search(kind)]
    if arrays:
        assert SHAPE.search(about), f"the shapes of {', '.join(arrays)}"
    if raises(value):
        assert "GanatomyError" in about, "the error that it raises, and for what"


def test_there_are_many():
    """The test above looks at something."""
    assert len(MEMBERS) > 200
