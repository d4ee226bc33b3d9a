"""`synthweight report`: where the page goes, and what it refuses."""

import pytest

from support.cli import run_cli
from synthweight.reporting import publish
from synthweight.runs import run


@pytest.fixture
def sweep(tmp_path, settings):
    """A sweep of one finished run: its file, its overrides, the run's id, and the folder of outputs."""
    path = tmp_path / "one.yaml"
    path.write_text(
        "defaults: [config, {override dataset: local}, {override logger: none}, _self_]\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    blocks: [{loss: ce, seed: 0}]\n"
    )
    values = [s for s in settings if not s.startswith(("logger", "dataset=", "optim.epochs="))]
    values.append("optim.epochs=1")
    job = publish.sweep_report(str(path), *values).plan.jobs[0]
    run.train(job.identity.run)
    return str(path), values, job.id, tmp_path / "outputs"


def test_a_page_of_a_sweep_and_of_a_run(sweep, tmp_path, capsys):
    path, values, run_id, outputs = sweep
    assert run_cli("report", path, *values) == 0
    assert capsys.readouterr().out == f"{outputs / 'reports' / 'one.html'}\n"
    page = (outputs / "reports" / "one.html").read_text(encoding="utf-8")
    assert run_id in page
    assert page.endswith("</html>\n")
    file = tmp_path / "new" / "run.html"
    assert run_cli("report", run_id, "--html", str(file), f"paths.outputs={outputs}") == 0
    assert f"<code>{run_id}</code>" in file.read_text(encoding="utf-8")
    assert run_cli("report", run_id, "--partial", f"paths.outputs={outputs}") == 2
    assert capsys.readouterr().err.endswith("is a run: --partial is an option of a sweep's report\n")


def test_what_has_no_row_is_refused(tmp_path, capsys):
    assert run_cli("report", "0123456789abcdef", f"paths.outputs={tmp_path}") == 2
    assert capsys.readouterr().err.endswith("0123456789abcdef.json: no such row\n")
    assert list(tmp_path.iterdir()) == []
