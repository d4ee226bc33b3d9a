"""The search for lr and epochs with Optuna: what it reads, what it trains, what a kill costs, what it
refuses.
"""

import dataclasses
import json
import math
import os
import shlex
import subprocess
import sys

import optuna
import pytest

from synthweight.config import compose
from synthweight.config.schema import CONF, ROOT
from synthweight.errors import UserError
from synthweight.runs import run
from synthweight.runs.store import Store

sys.path.append(str(ROOT / "benchmarks"))
import optuna_search
import studies

SCRIPT = ROOT / "benchmarks" / "optuna_search.py"
SPACE = {
    "optim.lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
    "optim.epochs": optuna.distributions.IntDistribution(1, 20),
}


@pytest.fixture(autouse=True)
def command(monkeypatch):
    monkeypatch.setenv("SYNTHWEIGHT_COMMAND", "pytest")  # the search sets its own


@pytest.fixture
def values(settings):
    """The settings that stay."""
    return [s for s in settings if not s.startswith(("optim.lr", "optim.epochs"))]


@pytest.fixture
def arguments(values, tmp_path):
    """A search of tiny runs: arguments(3, "loss=focal")."""

    def made(trials: int, *more: str, study: str = "study") -> list[str]:
        bounds = ["--lr", "0.001", "0.05", "--epochs", "1", "3"]
        return ["--study", str(tmp_path / study), "--trials", str(trials), *bounds, *values, *more]

    return made


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "outputs")


def trials(path) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name=studies.NAME, storage=storage).get_trials()


def complete(path) -> list[optuna.trial.FrozenTrial]:
    return [t for t in trials(path) if t.state.name == "COMPLETE"]


def stopped(capsys, typed: list[str]) -> tuple[int, str]:
    """Its exit code and what it says on standard error."""
    with pytest.raises(SystemExit) as stop:
        optuna_search.main(typed)
    return stop.value.code, capsys.readouterr().err.strip()


# trials are runs


def test_each_trial_is_a_row_and_the_best_is_a_command(arguments, values, store, tmp_path, capsys):
    optuna_search.main(arguments(2, "--seeds", "2", "source.n=30"))
    out = capsys.readouterr().out
    found = complete(tmp_path / "study")
    assert len(found) == len(trials(tmp_path / "study")) == 2
    ids = [run_id for t in found for run_id in t.user_attrs["runs"]]
    assert store.ids() == set(ids)
    assert len(ids) == 4
    for t in found:
        rows = [store.row(run_id) for run_id in t.user_attrs["runs"]]
        assert [row["config"]["seed"] for row in rows] == [0, 1]
        chosen = [row["epochs"][row["selected_epoch"] - 1]["selection"]["macro_f1"] for row in rows]
        assert t.user_attrs["values"] == chosen
        assert t.value == pytest.approx(sum(chosen) / 2)
        assert {row["config"]["optim"]["lr"] for row in rows} == {t.params["optim.lr"]}
    best = max(found, key=lambda t: t.value)
    pasted = next(line for line in out.splitlines() if line.startswith("optim.lr=")).split()
    with compose.offline(CONF):
        again = compose.Composer("config").run([*values, "source.n=30", *pasted])
    assert run.train(again) == run.Outcome(best.user_attrs["runs"][0], "done")
    assert "optimistic" in out
    assert "Test was not looked at." in out


def test_the_objective_never_reads_test(arguments, store, tmp_path, capsys):
    optuna_search.main(arguments(2, "source.n=30"))
    assert "test accuracy" not in capsys.readouterr().out
    for i, run_id in enumerate(sorted(store.ids())):
        row = store.row(run_id)
        for epoch in row["epochs"]:
            epoch["test"] = {"accuracy": i / 10, "macro_f1": i / 20}
        store.json_path(run_id).write_text(json.dumps(row))
    optuna_search.main(arguments(2, "source.n=30", study="other"))
    assert capsys.readouterr().out.count("done already") == 2
    before, after = ([(t.params, t.value) for t in complete(tmp_path / name)] for name in ("study", "other"))
    assert before == after
    for epoch in row["epochs"]:
        del epoch["test"]
    assert 0 <= optuna_search.score(row, "macro_f1") <= 1


# killed, interrupted, failed


def test_killed_it_goes_on_with_the_same_trials_and_trains_no_run_twice(arguments, store, tmp_path, capsys):
    typed = arguments(2, "--epochs", "4", "6")  # long enough to be met at work
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *typed], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        said = ""
        while "trial 1: " not in said or "epoch 1/" not in said.split("trial 1: ")[-1]:
            line = process.stdout.readline()
            assert line, said
            said += line
        process.kill()
    assert process.returncode == -9
    assert [t.state.name for t in trials(tmp_path / "study")] == ["COMPLETE", "RUNNING"]
    kept = {run_id: store.json_path(run_id).stat().st_mtime_ns for run_id in store.ids()}
    optuna_search.main(typed)
    out = capsys.readouterr().out
    assert "1 of 2 trials are finished" in out
    assert "trial 1 was left unfinished: it is taken up again" in out
    found = complete(tmp_path / "study")
    assert len(found) == len(store.ids()) == 2
    assert out.count("row written") == 2 - len(kept)
    assert {run_id: store.json_path(run_id).stat().st_mtime_ns for run_id in kept} == kept
    # a search that was never killed, of the same rows
    optuna_search.main([*typed, "--study", str(tmp_path / "whole")])
    assert capsys.readouterr().out.count("done already") == 2
    assert [t.params for t in complete(tmp_path / "whole")] == [t.params for t in found]


def test_a_failed_trial_is_recorded_and_the_search_goes_on(arguments, tmp_path, capsys, monkeypatch):
    typed = arguments(2, "source.n=30")
    real, begun = run.train, []

    def train(job):
        begun.append(job)
        if len(begun) == 1:
            raise RuntimeError("no memory")
        return real(job)

    monkeypatch.setattr(run, "train", train)
    code, error = stopped(capsys, typed)
    assert code == 1
    assert "1 of 2 trials failed" in error
    assert "RuntimeError: no memory" in error
    assert [t.state.name for t in trials(tmp_path / "study")] == ["FAIL", "COMPLETE"]
    assert stopped(capsys, typed)[0] == 1
    assert len(begun) == 2
    optuna_search.main([*typed, "--retry-failed"])
    assert len(begun) == 3
    found = trials(tmp_path / "study")
    assert [t.state.name for t in found] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert found[2].params == found[0].params


def test_interrupted_it_says_that_it_goes_on(arguments, tmp_path, capsys, monkeypatch):
    typed = arguments(1, "source.n=30")

    def train(job):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "train", train)
        code, error = stopped(capsys, typed)
    assert (code, len(error.splitlines())) == (130, 1)
    assert "the same command goes on" in error
    optuna_search.main(typed)
    assert len(complete(tmp_path / "study")) == 1


@pytest.mark.slow
def test_two_processes_at_one_study_and_one_of_them_killed(arguments, store, tmp_path):
    typed = [sys.executable, str(SCRIPT), *arguments(8, "--epochs", "4", "6")]
    three = [subprocess.Popen(typed, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    while "epoch 1/" not in three[0].stdout.readline():
        assert three[0].poll() is None
    three[0].kill()
    three[0].communicate()
    said = [process.communicate()[0] for process in three[1:]]
    assert [process.returncode for process in three[1:]] == [0, 0], said
    found = complete(tmp_path / "study")
    assert len(found) == len(store.ids()) == 8
    assert len({t.user_attrs["worker"] for t in found}) >= 2
    assert "is taken up again" in "".join(said)


# the study, without trainings


def worth(params) -> float:
    return -((math.log10(params["optim.lr"]) + 2.5) ** 2) - abs(params["optim.epochs"] - 7) / 20


def searched(path, n: int, die_at: tuple[int, ...] = ()) -> list[dict]:
    """A search of n trials whose workers leave the trials of these turns unfinished."""
    turn = 0
    while True:
        study = studies.Study(path, SPACE, {"a": 1}, seed=3)
        with study.work():
            while (trial := study.begin(n)) is not None:
                turn += 1
                if turn in die_at:
                    break
                study.tell(trial, worth(trial.params), {"turn": turn})
        if trial is None:
            return [t.params for t in study.complete()]


def test_a_search_that_dies_again_and_again_proposes_what_one_does_that_never_does(tmp_path):
    """Past the ten random trials as well, where TPE looks at all values so far."""
    whole = searched(tmp_path / "whole", 14)
    assert searched(tmp_path / "died", 14, die_at=(1, 4, 5, 12, 15)) == whole
    assert len({p["optim.lr"] for p in whole}) == 14


def test_workers_share_the_trials_and_take_up_those_of_the_dead(tmp_path):
    first, second = (studies.Study(tmp_path / "study", SPACE, {"a": 1}, seed=0) for _ in range(2))
    with second.work():
        with first.work():
            one, two = first.begin(2), second.begin(2)
            assert one.params != two.params
            second.tell(two, 0.5, {})
        three = second.begin(2)
        assert three.params == one.params
        second.tell(three, 0.6, {})
        first.tell(one, 0.9, {})  # it was only asleep: the other's counts
        assert second.begin(2) is None
    assert [t.value for t in second.complete()] == [0.5, 0.6]


# what is refused


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--lr", "0.1", "0.01"], "--lr must be LOW HIGH"),
        (["--epochs", "3", "2"], "--epochs must be LOW HIGH"),
        (["--epochs", "0", "2"], "--epochs must be LOW HIGH"),
        (["--trials", "0"], "--trials must be at least 1"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--metric", "test"], "invalid choice"),
        (["optim.lr=0.1"], "optim.lr=0.1: that is what is searched"),
        (["optim.epochs=3"], "optim.epochs=3: that is what is searched"),
        (["selection=last"], "use selection=holdout or selection=dprime"),
        (["source=small_real"], "use selection=holdout"),
        (["loss=hu"], "loss=hu learns from D_P'"),
        (["loss=dimp"], "loss=dimp learns from D_P'"),
        (["los=dimp"], "did you mean loss?"),
        (["loss=ce,dimp"], "loss"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, tmp_path, capsys, more, said):
    code, error = stopped(capsys, arguments(2, *more))
    assert (code, len(error.splitlines())) == (2, 1), error
    assert said in error
    assert not (tmp_path / "study").exists()


def test_a_study_that_cannot_be_is_one_line(arguments, tmp_path, capsys, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("no journal\n")
    monkeypatch.setattr(run, "train", lambda job: pytest.fail("nothing is to be trained"))
    for name, said in {
        "folder": "cannot be written",
        "file/study": "cannot be written",
        "file": "file:1: damaged, or no journal of Optuna's",
    }.items():
        code, error = stopped(capsys, arguments(2, study=name))
        assert (code, len(error.splitlines())) == (2, 1), error
        assert said in error
    code, error = stopped(capsys, arguments(2, f"paths.outputs={tmp_path / 'file'}", study="fine"))
    assert (code, len(error.splitlines())) == (2, 1), error
    assert "paths.outputs=" in error
    assert not (tmp_path / "fine").exists()
    assert (tmp_path / "file").read_text() == "no journal\n"


def test_a_damaged_journal_and_one_of_other_settings_are_refused(tmp_path):
    path = tmp_path / "study"
    searched(path, 2)
    whole = path.read_text()
    for damaged, said in {
        whole[:-4]: r"study:\d+: damaged",
        whole.replace("op_code", "op", 1): "damaged, or no journal",
        whole.replace('{"op_code"', '{op_code"', 1): "study:1: damaged",
    }.items():
        path.write_text(damaged)
        with pytest.raises(UserError, match=said):
            searched(path, 2)
    path.write_text(whole)
    with pytest.raises(
        UserError, match=r"a study of other settings \(a is 1 there, 2 here\): name another file"
    ):
        studies.Study(path, SPACE, {"a": 2}, seed=3)
    assert len(searched(path, 2)) == 2


def test_what_learns_from_dprime_is_measured_by_what_is_held_out(values):
    def task(*more: str) -> optuna_search.Task:
        return optuna_search.Task((*values, "selection=holdout", *more), (0.001, 0.01), (2, 5), 1, "macro_f1")

    assert "the held-out part" in task("loss=dimp").series
    real = task("source=small_real")
    assert list(real.space) == ["optim.lr", "optim.epochs_small_real"]
    assert real.runs({"optim.lr": 0.002, "optim.epochs_small_real": 4})[0].epochs == 4
    fixed = task("seed=3").fixed()
    assert fixed["search"]["seeds"] == [3]
    assert fixed != task("seed=3", "loss=focal").fixed()
    assert fixed == dataclasses.replace(task("seed=3")).fixed()


def test_the_documented_command_is_one():
    page = (ROOT / "docs" / "tuning.md").read_text(encoding="utf-8")
    command = page.split("```\npython benchmarks/optuna_search.py ")[1].split("\n```")[0].replace("\\\n", " ")
    options = optuna_search.parse_words(shlex.split(command))
    task = optuna_search.Task(
        tuple(options.overrides), tuple(options.lr), tuple(options.epochs), options.seeds, options.metric
    )
    assert list(task.space) == ["optim.lr", "optim.epochs"]
