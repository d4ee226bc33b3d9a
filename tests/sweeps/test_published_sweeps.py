"""Every sweep there is, small: run on a tiny encoder with one seed, its table in every format, its figures
drawn.

What a sweep lists beyond toy data is replaced: sizes, encoders by name, files, the address of the LLM.
"""

import pytest
import yaml

from support.llm_server import KEY, Say, serving
from synthweight.config.schema import SWEEPS
from synthweight.llm import classify
from synthweight.reporting import charts, plotting, publish, render, run_page, sweep_page
from synthweight.runs import run

FILES = sorted(SWEEPS.glob("*.yaml"))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """One folder for all: checkers and equal runs are trained once."""
    return tmp_path_factory.mktemp("smoke")


def small(path, toy, tiny, outputs) -> list[str]:
    """Overrides that bring a sweep down to seconds."""
    common = [
        "dataset=local", f"dataset.path={toy}", "seed=0", f"paths.outputs={outputs / 'outputs'}",
        f"paths.cache={outputs / 'cache'}",
    ]  # fmt: skip
    if "[prompt," in path.read_text():
        return common
    values = [
        *common, "model=minilm", f"model.path={tiny}", "optim.epochs=1",
        "optim.epochs_small_real=1", "optim.batch_size=32", "optim.max_length=16", "trainer.accelerator=cpu",
        "trainer.precision=32", "logger=none",
    ]  # fmt: skip
    replaced = {
        "source.n": "12,48,null", "source.real_n": "12,null", "source.variant": "null", "source.path": f"{toy / 'synthetic.jsonl'}",
        "checker.quality.model": "null", "checker.diversity.model": "null",
    }  # fmt: skip
    if path.stem == "when":  # some of its 30 cells a loss
        replaced |= {"source.n": "48", "corruption.swapped": "0.0,0.2"}
    if "differences" in path.read_text():
        values.append("report.figures=[]")  # drawn of five seeds or more
    blocks = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["blocks"]
    keys = {key for block in blocks for key in block}
    return values + [f"{key}={value}" for key, value in replaced.items() if key in keys]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_sweep_runs_and_is_shown(path, toy, tiny, outputs, monkeypatch):
    given = small(path, toy, tiny, outputs)
    monkeypatch.setenv("TEST_KEY", KEY)
    with serving(lambda body, number: Say("negative")) as server:
        if "[prompt," in path.read_text():
            given += [
                "generator=local",
                "generator.model=m",
                "generator.key_env=TEST_KEY",
                "generator.concurrency=4",
                "n=4",
            ]
            given += [f"generator.base_url={server.url}"]
        report = publish.sweep_report(path.stem, *given)
        for job in report.plan.jobs:  # in this process: Hydra would compose each of them once more
            run.train(job.identity.run) if job.trains else classify.classify(job.identity.run)
    rows = report.rows()
    for text in [write(publish.TABLES[report.table](rows), None) for write in render.FORMATS.values()]:
        assert len(text.splitlines()) > 1
    assert "Not shown" not in (page := sweep_page.sweep_page(rows, path.stem, report.table, report.figures))
    assert page.count("<h2") >= 5
    assert "<h2" in run_page.run_page(rows.store, rows.requested[0].id, rows.requested[0].run.paths)
    for kind in report.figures:
        files = plotting.write_figure(charts.CHARTS[kind](rows), outputs, f"{path.stem}-{kind}", "smoke")
        assert all(plotting.shows(file, charts.CHARTS[kind](rows)) for file in files)
