"""What is written about the code is what the code says."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def test_the_reference_of_commands_is_what_the_code_gives():
    given = importlib.util.spec_from_file_location("commands", ROOT / "tools/commands.py")
    module = importlib.util.module_from_spec(given)
    given.loader.exec_module(module)
    told = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    assert told == module.page(), "run `make docs` and commit docs/commands.md"
    assert told.count("\n## ganatomy ") > 30


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(name):
    page = ROOT / name
    missing = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]
    assert missing == []


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert len(cited["references"]) == 3
