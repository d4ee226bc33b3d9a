"""Every sweep there is, small: run on a tiny encoder with one seed, its table written in every format, its figures drawn.

What a sweep lists beyond toy data is replaced: sizes, encoders by name, files, the address of the LLM.
"""

import csv
import io

import pytest
import yaml

from llm_server import KEY, Say, serving
from synthweight import cli
from synthweight.configs import SWEEPS

FILES = sorted(SWEEPS.glob("*.yaml"))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """One folder for all: checkers and equal runs are trained once."""
    return tmp_path_factory.mktemp("smoke")


def small(path, toy, tiny, outputs) -> list[str]:
    """Overrides that bring a sweep down to seconds."""
    values = [
        "dataset=local", f"dataset.path={toy}", "model=minilm", f"model.path={tiny}", "seed=0", "optim.epochs=1",
        "optim.epochs_small_real=1", "optim.batch_size=32", "optim.max_length=16", "trainer.accelerator=cpu",
        "trainer.precision=32", "logger=none", f"paths.outputs={outputs / 'outputs'}", f"paths.cache={outputs / 'cache'}",
    ]  # fmt: skip
    replaced = {
        "source.n": "12,48,null", "source.path": f"{toy / 'synthetic.jsonl'}",
        "checker.quality.model": "null", "checker.diversity.model": "null",
    }  # fmt: skip
    blocks = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["blocks"]
    keys = {key for block in blocks for key in block}
    return values + [f"{key}={value}" for key, value in replaced.items() if key in keys]


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([*arguments])
        raise SystemExit(0)
    return stopped.value.code


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_sweep_runs_and_is_shown(path, toy, tiny, outputs, monkeypatch, capfd):
    given = small(path, toy, tiny, outputs)
    shown = yaml.safe_load(path.read_text())["hydra"]["sweeper"].get("figures", [])
    monkeypatch.setenv("TEST_KEY", KEY)
    with serving(lambda body, number: Say("negative")) as server:
        if "command: prompt" in path.read_text():
            given += ["generator=local", "generator.model=m", "generator.key_env=TEST_KEY", "generator.concurrency=4", "n=4"]
            given += [f"generator.base_url={server.url}"]
        assert command("sweep", path.stem, *given) == 0, capfd.readouterr().err
        capfd.readouterr()
        assert command("tables", path.stem, *given, "--format", "csv") == 0, capfd.readouterr().err
        lines = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
        assert lines
        assert all(line[key] == "0" for line in lines for key in line if key.endswith(" missing"))
        assert command("figures", path.stem, *given) == (0 if shown else 2), capfd.readouterr().err
    drawn = [p.name for p in (outputs / "outputs" / "figures").glob(f"{path.stem}*") if p.stat().st_size > 200]
    assert len(drawn) == 3 * len(shown)
