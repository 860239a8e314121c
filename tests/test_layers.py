"""The order of imports: no room knows one above it, and none its neighbour."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import histolatent

SOURCE = Path(histolatent.__file__).parent
#: From the ground up. The rooms of one floor do not know each other; the ground floor is one room.
GROUND = ("errors", "metric", "registry", "provenance", "_types", "_lazy", "outputs", "threads")
FLOORS = (
    GROUND,
    ("stain", "images", "neighbors", "spectrum", "stats", "embeddings"),
    ("perturb", "encoders", "restain", "probes"),
    ("distances", "training"),
    ("audit", "compact", "explore"),
    ("benchmark",),
    ("report",),
    ("doctor",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules_named(node: ast.stmt, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the parts of every module that an import may load; `package` is that of the file."""
    if isinstance(node, ast.Import):
        yield from (tuple(alias.name.split(".")) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        stem = (*base, *(node.module.split(".") if node.module else ()))
        yield from ((*stem, alias.name) for alias in node.names)


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield every statement, in functions too, but none under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from statements(other)
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from statements(child)


def violations(root: Path) -> list[str]:
    """Return each import that goes up or sideways in the package at `root`, and each room without a floor."""
    found = []
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if inside == Path("__init__.py"):
            continue  # the front door names rooms, and loads them when they are asked for
        room = inside.parts[0].removesuffix(".py")
        if room not in FLOOR:
            found.append(f"{inside}: the room {room} has no floor")
            continue
        package = (root.name, *inside.parent.parts)
        for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
            for parts in modules_named(node, package):
                if parts[0] != root.name or len(parts) < 2 or parts[1] == room:
                    continue
                other = parts[1]
                if other not in FLOOR:
                    found.append(f"{inside}:{node.lineno} imports {other}, which has no floor")
                elif FLOOR[other] > FLOOR[room]:
                    found.append(f"{inside}:{node.lineno} goes up to {other}")
                elif FLOOR[other] == FLOOR[room] and room not in GROUND:
                    found.append(f"{inside}:{node.lineno} goes sideways to {other}")
    return found


def test_the_house_keeps_its_order():
    assert len(list(SOURCE.rglob("*.py"))) > 50
    assert violations(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "code", "complaint"),
    [
        ("stats.py", "from .neighbors import twin_ranks", "stats.py:1 goes sideways to neighbors"),
        ("stain/a.py", "from ..perturb import climb", "stain/a.py:1 goes up to perturb"),
        ("stain/a.py", "def f():\n    from .. import audit", "stain/a.py:2 goes up to audit"),
        ("stain/deep/b.py", "from ...images.tiles import T", "stain/deep/b.py:1 goes sideways to images"),
        ("encoders/__init__.py", "import pkg.perturb.operation", "encoders/__init__.py:1 goes sideways to perturb"),
        ("errors.py", "try:\n    import os\nexcept OSError:\n    from .stain import x", "errors.py:4 goes up to stain"),
        ("stain/a.py", "class A:\n    from pkg import cli as c", "stain/a.py:2 goes up to cli"),
        ("stain/a.py", "from ..cellar import x", "stain/a.py:1 imports cellar, which has no floor"),
        ("cellar/a.py", "", "cellar/a.py: the room cellar has no floor"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, code, complaint):
    path = tmp_path / "pkg" / file
    path.parent.mkdir(parents=True)
    path.write_text(code)
    assert violations(tmp_path / "pkg") == [complaint]


def test_what_is_allowed_is_not_found(tmp_path):
    root = tmp_path / "pkg"
    for file, code in {
        "__init__.py": "from .cli import main",
        "registry.py": "from .errors import unknown",
        "audit/run.py": "from ..stats import x\nfrom .plan import y\nimport numpy.audit\nfrom pkg.encoders import z",
        "stats.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .audit import A",
        "cli/app.py": "from ..doctor import diagnose\nfrom . import audit, embed",
    }.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(code)
    assert violations(root) == []
