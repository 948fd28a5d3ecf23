"""The house: who may import whom, who may print and who writes HDF5."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ["segmodels", "dissect", "rewrite", "app"]
MODULES = [(package, path) for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize(("package", "path"), MODULES, ids=lambda x: x.name if isinstance(x, Path) else "")
def test_imports_go_one_way(package, path):
    later = set(ORDER[ORDER.index(package) + 1 :])
    names = set(imported(path))
    assert not names & later
    assert "h5py" not in names or path.name in {"store.py", "hdf5_child.py"}
    assert not names & {"pickle", "dill", "joblib"} or path.name == "passive.py"


@pytest.mark.parametrize(("package", "path"), MODULES, ids=lambda x: x.name if isinstance(x, Path) else "")
def test_nothing_is_unpickled_or_evaluated(package, path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(getattr(node.func, "value", None), "id", "")
            assert (owner, name) not in {("pickle", "load"), ("pickle", "loads")}
            assert name not in {"Unpickler", "_Unpickler", "find_class"} or path.name == "passive.py"
            assert not (isinstance(node.func, ast.Name) and name in {"eval", "exec"})
            keywords = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            if (owner, name) == ("torch", "load"):
                assert keywords.get("weights_only") is True
            if (owner, name) == ("np", "load"):
                assert keywords.get("allow_pickle") is False
            assert package == "app" or name != "print"
