"""The walls of the house, read from the imports."""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
FILES = sorted(SRC.rglob("*.py"))
ALLOWED = {
    "hydra": {"cli", "binding", "compose", "overrides", "schema", "hydra_plugins"},
    "omegaconf": {"cli", "binding", "blocks", "compose", "overrides", "schema", "hydra_plugins"},
    "wandb": {"wandb_runs"},
    "wandb_workspaces": {"wandb_dashboard"},
    "matplotlib": {"drawing"},
}
# lower first: a room imports rooms before it alone
ORDER = [
    "errors", "bilevel", "ghost", "losses", "data", "configs", "llm", "schema", "encoders", "metrics", "stats", "leases",
    "store", "provenance", "model", "vocabulary", "families", "layout", "packing", "compiling", "parallel", "devices", "epochs",
    "training", "ledger", "checkpoints", "stack", "memory", "module", "fit", "together", "wandb_cards", "wandb_runs",
    "loggers", "calibration", "checkers", "identity", "generate", "prompt", "prepared", "run", "overrides", "binding",
    "compose", "blocks", "sweep", "execute", "workers", "estimate", "status", "compare", "formats", "gather", "tables",
    "timing", "separation", "figures", "drawing", "published", "wandb_sync", "wandb_dashboard", "arguments", "cli",
]  # fmt: skip


def room(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return parts[1] if parts[0] == "synthweight" and len(parts) > 1 else parts[0]


def imports(path: Path):
    """Imported top names with their room, those only for type checking left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(n)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for n in ast.walk(branch)
    }
    depth = len(path.relative_to(SRC / "synthweight").parts) if (SRC / "synthweight") in path.parents else 0
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield (node.module or "").split(".")[0], None
            elif node.level == depth:  # of the package's top
                yield from (
                    ((None, node.module.split(".")[0]) for _ in [0])
                    if node.module
                    else ((None, alias.name) for alias in node.names)
                )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_who_knows_whom(path):
    for top, inner in imports(path):
        if top in ALLOWED:
            assert room(path) in ALLOWED[top], f"{path.name} imports {top}"
        if inner in ORDER and room(path) in ORDER and inner != room(path):
            assert ORDER.index(inner) < ORDER.index(room(path)), f"{room(path)} imports {inner}"


def test_every_room_has_a_place_in_the_order():
    assert {room(p) for p in FILES} - {"__init__", "hydra_plugins"} <= set(ORDER)


def test_no_room_is_too_large():
    assert {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 250} == {}


def test_names_and_habits():
    for path in FILES:
        assert path.stem not in ("utils", "helpers", "misc", "common")
        text = path.read_text()
        assert "trust_remote_code=True" not in text
        assert not re.search(r"torch\.load\(", text)


def test_the_loop_knows_no_loss_by_name():
    from synthweight.losses import LOSSES

    for name in ("module.py", "fit.py"):
        code = (SRC / "synthweight" / name).read_text()
        assert not re.search("|".join(f"[\"']{loss}[\"']" for loss in LOSSES), code)
