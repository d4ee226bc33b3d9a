"""What a sweep does about failures, about others at the same runs, and about bad input."""

import json
import os
import re
import subprocess
import sys

import pytest

from support.cli import CLI, run_cli
from synthweight.runs import locks, run
from synthweight.runs.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "outputs")


@pytest.fixture
def trouble(monkeypatch):
    """Trainings on small_real break, until told otherwise."""
    fit_run = run.fit_run

    def broken(store, identity, name):
        if identity.run.source.name == "small_real":
            raise RuntimeError("no luck\nat all")
        fit_run(store, identity, name)

    monkeypatch.setattr(run, "fit_run", broken)
    return lambda: monkeypatch.setattr(run, "fit_run", fit_run)


def test_what_failed_is_listed_again_and_tried_when_asked(small, store, trouble, capfd):
    path, values = small
    command = ["sweep", str(path), *values, "seed=0"]
    assert run_cli(*command) == 1
    assert "3 of 5 runs failed; the others are done:" in capfd.readouterr().err
    assert run_cli("plan", str(path), *values, "seed=0") == 0
    planned = capfd.readouterr().out
    assert re.search(r" failed  \w{16}  local small_real ce tiny seed 0  at all", planned)
    assert "Jobs: 4; done 1, failed 3, to do 0" in planned
    assert re.search(r"small_real ce tiny seed 0  at all  \(checker of 2 runs\)$", planned, re.MULTILINE)

    trouble()  # from now on it would work
    assert run_cli(*command) == 1
    said = capfd.readouterr()
    assert "epoch" not in said.out
    assert (
        "3 of 3 runs failed; the others are done (1 failed before and were not tried: --retry-failed does):"
        in said.err
    )
    lines = said.err.strip().splitlines()
    assert len(lines) == 4
    assert re.search(r"small_real ce tiny seed 0: at all \(.+/failed\.json\)", lines[1])
    assert "CheckerFailedError: its quality checker" in lines[2]

    assert run_cli(*command, "--retry-failed") == 0
    assert len(store.ids()) == 5
    assert not list(store.runs.glob("*/failed.json"))


def test_a_plan_says_how_many_runs_share_a_checker(small, capfd):
    path, values = small
    assert run_cli("plan", str(path), *values) == 0
    lines = capfd.readouterr().out.splitlines()
    shared = sorted(re.sub(r"^ +first  \w{16}  local ", "", line) for line in lines if "checker of" in line)
    assert shared == [
        *(f"small_real ce tiny seed {seed}  (checker of 2 runs)" for seed in (0, 1)),  # of IMP and DIMP
        # of IMP
        *(f"synthetic ce tiny seed {seed}  (checker of 1 run; no row of the table)" for seed in (0, 1)),
    ]


def test_what_failed_for_its_checker_alone_goes_on_once_the_checker_is_there(
    small, store, trouble, capfd, settings
):
    path, values = small
    assert run_cli("sweep", str(path), *values, "seed=0") == 1
    trouble()
    assert run_cli("train", *settings, "source=small_real", "selection=last", "seed=0") == 0
    assert run_cli("sweep", str(path), *values, "seed=0") == 0
    assert len(store.ids()) == 5


def test_fail_fast_begins_nothing_more(small, store, trouble, capfd):
    path, values = small
    assert run_cli("sweep", str(path), *values, "--fail-fast") == 1
    error = capfd.readouterr().err
    assert "1 of 10 runs failed; 7 were not begun:" in error
    # the two that came before it
    assert {store.row(i)["config"]["loss"]["name"] for i in store.ids()} == {"ce"}


def test_a_locked_run_is_left_to_its_holder_and_waited_for_at_the_end(small, store, capfd):
    """A living worker holds one run for a while and ends without a row, as one would that was stopped."""
    path, values = small
    assert run_cli("plan", str(path), *values, "seed=0") == 0
    run_id = re.search(r"(\w{16})  local small_real ce", capfd.readouterr().out)[1]
    code = f"""
import sys, time
from synthweight.runs.store import Store
with Store({str(store.root)!r}).lock({run_id!r}):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        command = [sys.executable, "-c", CLI, "sweep", str(path), *values, "seed=0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ours:
            said = []
            for line in ours.stdout:
                said.append(line)
                if "waiting" in line:
                    break
            assert run_cli("status", str(path), *values, "seed=0") == 0
            assert "running" in capfd.readouterr().out
            other.stdin.close()
            other.wait()
            said += ours.stdout
    out = "".join(said)
    assert ours.returncode == 0
    assert re.search(
        rf"small_real ce tiny seed 0: locked by \S+ \(process {other.pid}, since 20\S+\); waiting", out
    )
    order = re.findall(r"local (\w+ \w+) tiny seed 0: epoch 1/", out)
    assert order.index("synthetic focal") < order.index("small_real ce") < order.index("synthetic dimp")
    assert len(store.ids()) == 5


def test_a_worker_whose_starter_is_gone_begins_nothing(small, store, capfd):
    path, values = small
    assert run_cli("sweep", str(path), *values, "hydra.sweeper.worker=1", "hydra.sweeper.parent=1") == 0
    assert "the command that started this worker is gone" in capfd.readouterr().err
    assert store.ids() == set()


def test_an_engine_that_loses_a_process_fails_its_runs_and_no_others(small, store, capfd, monkeypatch):
    from synthweight.sweeps import worker

    begin = worker.SweepWorker.__init__

    def with_trouble(self, plan, launcher, options, in_process):
        launch = launcher.launch

        def killed(job_overrides, initial_job_idx):
            if any("focal" in o for o in job_overrides[0]):
                raise RuntimeError("a worker process managed by the executor was unexpectedly terminated")
            return launch(job_overrides, initial_job_idx)

        launcher.launch = killed
        begin(self, plan, launcher, options, in_process)

    monkeypatch.setattr(worker.SweepWorker, "__init__", with_trouble)
    path, values = small
    assert run_cli("sweep", str(path), *values, "seed=0") == 1
    assert re.search(
        r"1 of 5 runs failed; .*\n.* focal tiny seed 0: RuntimeError: a worker process",
        capfd.readouterr().err,
    )
    assert len(store.ids()) == 4


def test_an_outputs_folder_of_a_newer_format_is_refused(small, store, capfd):
    path, values = small
    assert run_cli("sweep", str(path), *values, "seed=0", "loss=ce") == 0
    file = next(store.rows.glob("*.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}, indent=1))
    for command in ("plan", "sweep"):
        assert run_cli(command, str(path), *values, "seed=0", "loss=ce") == 2
        assert f"{file}: format 2 is newer than this program's 1: update it" in capfd.readouterr().err


BAD = {
    "an unknown key in a block": ("[{los: ce}]", "los: .*did you mean loss?"),
    "an unknown choice in a block": ("[{loss: 'ce,hinge'}]", "loss=hinge: unknown; there are"),
    "a value twice": ("[{loss: 'ce,imp', seed: '0,1,0'}]", "seed=0,1,0: value 0 is given twice"),
    "a key twice": ("[{loss: ce, loss: imp}]", "duplicate key loss"),
    "no list": ("{loss: ce}", "hydra.sweeper.blocks must be a list of parameter maps"),
    "nothing": ("[]", "hydra.sweeper.blocks is empty"),
    "another sweeper's parameters": ("[{loss: ce}]\n    params: {seed: '0,1'}", "params"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_sweep_file_is_one_line_and_nothing_is_trained(case, small, store, capfd):
    path, values = small
    listed, expected = BAD[case]
    text = path.read_text()
    path.write_text(text[: text.index("    blocks:")] + f"    blocks: {listed}\n")
    for command in ("plan", "sweep"):
        assert run_cli(command, str(path), *values) == 2
        error = capfd.readouterr().err
        assert re.search(expected.replace("?", r"\?"), error), error
        assert len(error.strip().splitlines()) == 1, error
    assert not store.root.exists()


@pytest.mark.parametrize("sets", ["blocks: [{seed: '0,1'}]", "params: {seed: '0,1'}"])
def test_a_swept_group_that_sets_the_sweepers_parameters_is_refused(sets, small, store, capfd):
    """Hydra 1.3 takes them in silence and runs fewer jobs."""
    path, values = small
    folder = path.parent / "ablation"
    folder.mkdir()
    (folder / "plain.yaml").write_text("# @package _global_\noptim: {warmup: 0.2}\n")
    (folder / "own.yaml").write_text(f"# @package _global_\nhydra:\n  sweeper:\n    {sets}\n")
    assert run_cli("plan", str(path), *values, "ablation=plain") == 0
    capfd.readouterr()
    for command in ("plan", "sweep"):
        assert run_cli(command, str(path), *values, "ablation=plain,own") == 2
        error = capfd.readouterr().err
        assert (
            f"ablation=own: {folder}/own.yaml sets hydra.sweeper, which counts in the sweep's own file alone"
            in error
        )
        assert len(error.strip().splitlines()) == 1, error
    assert not store.root.exists()


def test_workers_must_be_one_or_more(small, capfd):
    path, values = small
    assert run_cli("sweep", str(path), *values, "--workers", "0") == 2
    assert "--workers must be at least 1, is 0" in capfd.readouterr().err


def test_times_are_medians_of_rows_that_differ_by_seed_else_scaled(small, store, capfd):
    path, values = small
    assert run_cli("plan", str(path), *values) == 0
    assert "Time: no finished row of the same encoder to estimate it from" in capfd.readouterr().out
    assert run_cli("sweep", str(path), *values, "seed=0") == 0
    for file in store.rows.glob("*.json"):
        row = json.loads(file.read_text())
        n = 3 * 45 if row["config"]["source"]["name"] == "small_real" else 2 * 96
        # a second an example and epoch
        seconds = 1000.0 if row["config"]["loss"]["name"] == "dimp" else float(n)
        row["seconds"] = dict.fromkeys(row["seconds"], 0.0) | {"train": seconds}
        file.write_text(json.dumps(row, indent=1))
    capfd.readouterr()
    text = path.read_text()
    path.write_text(text[: text.index("    blocks:")] + "    blocks: [{loss: dimp, seed: '0,1'}]\n")
    assert run_cli("plan", str(path), *values) == 0
    out = capfd.readouterr().out
    assert "Jobs: 2; done 1, to do 2 with their checkers" in out
    assert "Time: about 18.9 min for 2 runs" in out  # 1000 s as seed 0's dimp, 135 s as seed 0's checker
    assert run_cli("plan", str(path), *values, "loss=focal", "loss.gamma=3", "source.n=60") == 0
    # 60 examples x 2 epochs, twice
    assert "Time: about 4.0 min for 2 runs, one after another" in capfd.readouterr().out
    assert run_cli("plan", str(path), *values, "loss=focal", "optim.max_length=16") == 0
    assert "no finished row of the same encoder" in capfd.readouterr().out


def test_status_of_a_folder_tells_what_runs_and_what_failed(store, capfd, settings):
    store.prepare()
    try:
        raise ValueError("boom [x]")
    except ValueError as error:
        store.record_failure("cd", error, "train")
    with locks.acquire(store.run_folder("ab")) as lock:
        lock.set_status("epoch 3/5")
        outputs = next(s for s in settings if s.startswith("paths.outputs"))
        assert run_cli("status", outputs) == 0
    out = capfd.readouterr().out
    assert "done 0, running 1, failed 1" in " ".join(out.split())
    assert "epoch 3/5" in " ".join(out.split())
    assert "ValueError: boom [x]" in " ".join(out.split())


@pytest.mark.timeout(300)
def test_what_ends_the_command_ends_its_workers(small, tmp_path):
    """The pipes close when the last of them has ended. A finished row names the command as typed."""
    path, values = small
    command = ["sweep", str(path), *values, "source.n=8", "optim.epochs=400", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    seen = set()
    while len(seen) < 2:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        seen |= {worker for worker in ("worker 1", "worker 2") if worker in line and ": epoch 2/400" in line}
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    store = Store(tmp_path / "outputs")
    rows = [store.row(run_id) for run_id in store.ids()]
    assert {row["config"]["source"]["name"] for row in rows} == {"small_real"}
    typed = [word.replace(os.path.expanduser("~"), "~") for word in command]
    assert {tuple(row["provenance"]["argv"]) for row in rows} == {("synthweight", *typed)}
