"""The forecast: what a step costs, and which plan fits a budget."""

import numpy as np

from synthweight.workbench import choose
from synthweight.workbench.read import Columns, read_all
from synthweight.workbench.workspace import METHODS, Workspace


def test_the_forecast_times_the_training_itself(inputs, tmp_path, monkeypatch):
    data = read_all(inputs["real"], inputs["synthetic"], None, Columns(), False)
    workspace = Workspace(tmp_path, inputs["model"], 0, inputs["overrides"])
    run = workspace.run(METHODS["ce"], choose.Folds(workspace, data, 2).datasets[0])
    jobs, fit = [], choose.fit

    def watched(job, clock):
        jobs.append(job)
        return fit(job, clock)

    monkeypatch.setattr(choose, "fit", watched)
    assert 0 < choose.seconds_per_example(data, run) < 1
    (job,) = jobs
    assert (job.strategy, job.optim, job.trainer) == (run.loss, run.optim, run.trainer)
    assert len(job.train[1]) == choose.PROBE_STEPS * run.optim.batch_size
    assert set(np.unique(job.train[1])) <= set(range(len(data.labels)))
    assert list(tmp_path.rglob("*.pt")) == []  # no checkpoint, no row
    assert workspace.store.ids() == set()
