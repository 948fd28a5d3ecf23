"""What is written about the code is what the code says."""

import ast
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

import dissect
from dissect.generators import catalog

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


def messages():
    """Every text in the code as one line, with … for what is filled in, without docstrings."""
    found = []
    for room in ("segmodels", "dissect", "rewrite", "app"):
        for path in sorted((ROOT / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    parts = (str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
                    found.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
                    found.append(node.value)
    return found


def test_messages_in_the_troubleshooting_are_those_of_the_code():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = [text for _, text in re.findall(r"^### (`+)(.+)\1$", page, re.MULTILINE)]
    assert len(quoted) == page.count("\n### ") > 40
    known = "\n".join(messages())
    assert [text for text in quoted if text not in known] == []


def slug(heading):
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_anchors_are_headings(page):
    wrong = []
    for name, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        other = page.parent / name if name else page
        headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
        if anchor not in map(slug, headings):
            wrong.append(f"{name}#{anchor}")
    assert wrong == []


def test_evidence_exists():
    """Tests and files of tests that the guides name are there."""
    defined = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").glob("*.py")))
    named = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for test in re.findall(r"`(test_\w+)`", text):
            assert f"def {test}(" in defined, f"{page.name} names {test}"
            named += 1
        for pattern in re.findall(r"`(tests/[\w*./-]+)`", text):
            assert list(ROOT.glob(pattern)), f"{page.name} names {pattern}"
    assert named > 30


def test_options_in_the_guides_are_options():
    """What a guide calls an option of ours is one; lines of torchrun and Slurm have others."""
    option = r"(?<![\w-])--[a-z][a-z0-9-]*"
    known = set(re.findall(option, (ROOT / "docs/commands.md").read_text(encoding="utf-8")))
    wrong = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for line in page.read_text(encoding="utf-8").splitlines():
            if not re.search("torchrun|SBATCH|sbatch|nnodes|pip |max-restarts", line):
                wrong += [f"{page.name}: {found}" for found in re.findall(option, line) if found not in known]
    assert wrong == []


# -- docs/checkpoints.md: the table of families ------------------------------------------------------------------------

FAMILY_OF = {  # as the page calls them -> as the code does
    "StyleGAN2, -ADA": "stylegan2", "StyleGAN3-T, -R": "stylegan3", "PGGAN": "pggan", "StyleGAN": "stylegan",
    "MobileStyleGAN": "mobilestylegan", "DCGAN": "dcgan", "BigGAN, SAGAN, SNGAN": "biggan",
    "BigGAN-deep": "biggan-deep", "Keras chains": "keras",
}  # fmt: skip
FILE_OF = {  # a small file of a layout, as safetensors
    ("stylegan2", "nvlabs"): "sg2ada_uncond", ("stylegan2", "rosinality"): "sg2_rosinality",
    ("stylegan3", "nvlabs"): "sg3t", ("pggan", "gandissect"): "pggan_gandissect",
    ("pggan", "genforce"): "pggan_genforce", ("pggan", "ganzoo"): "pggan_ganzoo",
    ("mobilestylegan", "bes-dev"): "mobilestylegan_tiny", ("stylegan", "genforce"): "sg1_genforce",
    ("stylegan", "interfacegan"): "sg1_interfacegan", ("stylegan", "rosinality"): "sg1_rosinality",
    ("dcgan", "main"): "dcgan_main", ("dcgan", "fbhub"): "dcgan_fbhub", ("biggan", "ajbrock"): "biggan",
    ("biggan-deep", "huggingface"): "biggan_deep_hf",
}  # fmt: skip


def families_told():
    """The rows of the table as (family, layouts, cell of what they are recognised by, cell of options)."""
    page = (ROOT / "docs/checkpoints.md").read_text(encoding="utf-8")
    table = page.partition("| family | layout (`--layout`) |")[2].partition("\n\n")[0]
    family = ""
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        family = FAMILY_OF[cells[0]] if cells[0] else family
        yield family, re.findall(r"`([^`]+)`", cells[1]), cells[2], cells[4]


def test_the_page_of_checkpoints_has_every_layout_and_every_option_with_its_value():
    layouts, options, wrong = {}, {}, []
    for family, names, _, cell in families_told():
        layouts.setdefault(family, set()).update(names)
        options.setdefault(family, set()).update(re.findall(r"`(\w+)`", cell))
        defaults = {option.name: option.default for option in catalog.family(family).options}
        for name, told in re.findall(r"`(\w+)` \((-?[\d.e-]+)\)", cell):
            if float(told) != defaults[name]:
                wrong.append((family, name, told, defaults[name]))
    assert wrong == []
    for family in catalog.FAMILIES:
        assert layouts[family.name] == {layout.name for layout in family.layouts}
        lacking = {option.name for option in family.options} - options[family.name]
        assert not lacking or family.name == "biggan", f"{family.name}: {lacking}"
    assert set(layouts) == {family.name for family in catalog.FAMILIES}


def test_what_layouts_are_recognised_by_is_in_their_files():
    seen = 0
    for family, names, cell, _ in families_told():
        for layout in names[:1]:
            if (family, layout) not in FILE_OF:
                continue
            with safe_open(ROOT / f"tests/data/{FILE_OF[family, layout]}.safetensors", "np") as file:
                keys = {re.sub(r"\d+", "0", known) for known in file.keys()}  # noqa: SIM118 (it is no dict)
            assert dissect.load(ROOT / f"tests/data/{FILE_OF[family, layout]}.safetensors").flavour in names
            for key in re.findall(r"`([^`]+)`", cell):
                seen += 1
                plain = re.sub(r"\d+", "0", key)  # the page's sizes are a large network's
                assert any(known == plain or known.endswith("." + plain) for known in keys), (layout, key)
    assert seen >= 15
