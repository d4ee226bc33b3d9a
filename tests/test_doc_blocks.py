"""What a reader would type from the documents: their Python prints what they say, their commands compose."""

import contextlib
import functools
import io
import re
import runpy
import shlex

import pytest
import torch
from omegaconf import OmegaConf

from synthweight.cli import hydra_app, parser
from synthweight.config import compose
from synthweight.config.schema import CONF, ROOT
from synthweight.errors import UserError
from synthweight.losses import LOSSES
from synthweight.sweeps import grid

PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+\b|[…|\[]|\.\.\.")  # NAME, key=value …, losses|datasets, [demo]
MARGIN = "train loss=margin loss.power=0.5"  # of docs/extending.md, which adds that loss
EXECUTED_ELSEWHERE = ("docs/your-data.md", "docs/extending.md")  # by test_tutorial.py, and below


def commands(text):
    """The `synthweight` commands of a page that can be typed as they are.

    One in a sentence may be the name of a command alone: then its help is asked for.
    """
    scripts = [
        body.replace("\\\n", " ") for kind, body in BLOCK.findall(text) if kind in ("", "sh", "console")
    ]
    lines = [line.removeprefix("$ ") for script in scripts for line in script.splitlines()]
    named = re.findall(r"`(synthweight [a-z ]+)`", BLOCK.sub("", text))
    lines += [f"{line} --help" if set(line.split()) <= NAMES else line for line in named]
    lines += re.findall(r"`(synthweight [^`]*[^a-z `][^`]*)`", BLOCK.sub("", text))
    for line in lines:
        line = re.sub(r"^([A-Z_]+=\S+ )+|\s*&$", "", line)  # variables of the environment; in the background
        if line.startswith("synthweight ") and not PLACEHOLDER.search(line.partition("  #")[0]):
            yield shlex.join(shlex.split(line, comments=True)[1:])


# need an argument
NAMES = {"synthweight", "sweep", "plan", "fit", "predict", "audit", "push", "report", "wandb", "sync"}
FOUND = {page: set(commands(text)) for page, text in PAGES.items()}
COMMANDS = sorted(set().union(*FOUND.values()) - {MARGIN})


@functools.cache
def composer(name):
    """One for all commands of a configuration: what Hydra has composed once is not composed again."""
    return compose.Composer(name)


def check(command):
    """Parses a command and composes the first of its jobs, as the command itself does before it trains."""
    try:
        options = parser.parse(shlex.split(command))
    except SystemExit as stopped:
        if stopped.code:
            raise
        return  # of --help and --version
    if options.command in hydra_app.ROOTS:
        flags = {"-m", "--multirun", "--cfg", "job", "--help"}
        overrides = [word for word in hydra_app.check_flags(options.arguments) if word not in flags]
        with compose.offline(CONF):
            composer(hydra_app.ROOTS[options.command]).settings(grid.expand([], overrides)[0])
    elif getattr(options, "file", None) and hasattr(options, "overrides"):
        path = grid.find_sweep(options.file)
        blocks = OmegaConf.to_container(OmegaConf.load(path))["hydra"]["sweeper"]["blocks"]
        with compose.offline(path.parent):
            composer(path.stem).settings(grid.expand(blocks, options.overrides)[0])


def test_commands_are_found():
    assert len(COMMANDS) >= 50
    assert {page for page, found in FOUND.items() if found} >= {"README.md", "docs/index.md", "docs/paper.md"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command):
    check(command)


@pytest.mark.parametrize(
    "command", ["train loss=hinge", "sweep nothing", "plan demo seeds=1", "fit --reel x"]
)
def test_a_wrong_command_does_not(command):
    with pytest.raises((SystemExit, UserError)):
        check(command)


def given(page):
    """The names that a page's Python takes from the reader's own program."""
    if page != "README.md":
        return {}
    network = torch.nn.Linear(3, 2)
    return {
        "batch": torch.randn(4, 3),
        "labels": torch.tensor([0, 1, 1, 0]),
        "log_quality": torch.tensor([0.9, 0.5, 0.2, 0.6]).log(),
        "model": lambda batch: type("Output", (), {"logits": network(batch)}),
    }


PYTHON = [page for page, text in PAGES.items() if "```python\n" in text and page not in EXECUTED_ELSEWHERE]


@pytest.mark.parametrize("page", PYTHON)
def test_python_prints_what_the_page_says(page):
    """Blocks run in order, in one namespace; a block `text` is what those since the last one have printed."""
    namespace, printed = given(page), io.StringIO()
    for kind, body in BLOCK.findall(PAGES[page]):
        if kind == "python":
            with contextlib.redirect_stdout(printed):
                exec(compile(body, page, "exec"), namespace)
        elif kind == "text":
            assert printed.getvalue() == body
            printed = io.StringIO()
    assert printed.getvalue() == "", "what a page's Python prints, the page shows"


def test_the_loss_of_the_page_for_extending_is_one():
    """Its file, executed as a module of the package, and its YAML make the weights that its docstring states."""
    blocks = BLOCK.findall(PAGES["docs/extending.md"])
    python, yaml = (next(body for kind, body in blocks if kind == wanted) for wanted in ("python", "yaml"))
    module = {"__package__": "synthweight.losses", "__name__": "synthweight.losses.margin"}
    exec(compile(python, "docs/extending.md", "exec"), module)
    loss = module["Margin"](**OmegaConf.to_container(OmegaConf.create(yaml)))
    quality = torch.tensor([0.9, 0.5])
    scores = module["BatchScores"].from_logits(
        torch.arange(2), torch.zeros(2, 2), torch.tensor([0, 1]), log_quality=quality.log()
    )
    torch.testing.assert_close(loss.weights(scores), quality**2)


def test_the_pictures_of_the_losses_are_what_the_script_draws():
    script = runpy.run_path(str(ROOT / "docs" / "draw_weights.py"))
    drawn = {f"{name}.svg": script["picture"](*drawing) for name, drawing in script["PICTURES"].items()}
    assert drawn == {path.name: path.read_text(encoding="utf-8") for path in script["FOLDER"].iterdir()}


def test_every_loss_has_a_section_and_a_picture_where_it_is_a_function_of_probabilities():
    sections = re.split(r"^## ", PAGES["docs/losses.md"], flags=re.MULTILINE)
    texts = {section.partition("\n")[0]: section for section in sections}
    for name in LOSSES:
        assert "**When**" in texts[name]
        assert (f"assets/weights/{name}.svg" in texts[name]) == (name not in ("hu", "ren", "sungen"))


NAMED = sorted(
    {
        (page, path.rstrip("/"))
        for page, text in PAGES.items()
        for path in re.findall(r"`((?:src|tests|benchmarks|conf|sweeps|docs)/[\w./-]+)`", text)
    }
)


@pytest.mark.parametrize(("page", "path"), NAMED)
def test_a_file_that_a_page_names_exists(page, path):
    new = page == "docs/extending.md" and re.search("margin|mine", path)  # of the examples there
    assert new or (ROOT / path).exists() or (ROOT / "src/synthweight" / path).exists()
