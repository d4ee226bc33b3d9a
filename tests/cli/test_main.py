"""What a user types: one line for an error, its exit code, and nothing written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest

from support.cli import CLI, run_cli
from support.toy import write
from synthweight.runs.store import Store


def outputs(settings) -> Path:
    return Path(next(v for v in settings if v.startswith("paths.outputs")).split("=")[1])


def process(*arguments: str, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CLI, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def test_a_terminal_that_is_not_of_utf_8_gets_escapes():
    done = subprocess.run(
        [sys.executable, "-m", "synthweight", "losses"],
        capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert r"log p\u0302'/p\u0302" in done.stdout


def test_help_does_not_import_the_heavy_rooms():
    """--help answers within a second because nothing heavy is loaded for it."""
    code = (
        "import sys\nfrom synthweight.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'hydra', 'numpy', 'pytorch_lightning', 'openai', 'wandb'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "grammar of a run" in done.stdout


BAD = {
    "unknown dataset": (["dataset=imdb"], "dataset=imdb: unknown; there are"),
    "unknown loss": (
        ["loss=hinge"],
        "loss=hinge: unknown; there are ce, dimp, filter, focal, hu, imp, quality_only, ren, rho, sungen",
    ),
    "unknown model": (["model=gpt5"], "model=gpt5: unknown; there are"),
    "unknown source": (["source=web"], "source=web: unknown; there are"),
    "misspelt key": (["optim.lrr=1"], "did you mean optim.lr?"),
    "misspelt group": (["los=ce"], "did you mean loss?"),
    "wrong type": (["optim.epochs=many"], "optim.epochs"),
    "negative seed": (["seed=-1"], "seed must be"),
    "no epochs": (["optim.epochs=0"], "optim.epochs must be at least 1"),
    "negative rate": (["optim.lr=-1"], "optim.lr must be above 0"),
    "negative gamma": (["loss=focal", "loss.gamma=-1"], "loss.gamma must be at least 0"),
    "imp on small_real": (["loss=imp", "source=small_real", "selection=last"], "every weight 1"),
    "dprime on small_real": (
        ["source=small_real", "selection=dprime"],
        "use selection=last or selection=holdout",
    ),
    "loss beside ablation": (["ablation=no_diversity_checker", "loss=imp"], "give one of them"),
    "absent data folder": (
        ["dataset=mrpc", "dataset.path=null", "paths.data=/no/such/folder"],
        "paths.data=/no/such/folder: no such folder",
    ),
    "absent local folder": (["dataset.path=/no/such"], "dataset.path=/no/such: no such folder"),
    "absent file": (["source=file", "source.path=/no/such"], "source.path=/no/such: no such file"),
    "file without path": (["source=file"], "source=file needs source.path=PATH"),
    "more than there is": (["loss=dimp", "source.n=9999"], "source.n=9999: there are 96 examples"),
    "holdout too small": (
        ["loss=dimp", "selection=holdout", "selection.holdout=0.01"],
        "a part without class",
    ),
    "unknown other": (
        ["loss=dimp", "source=noisy", "corruption.other=imdb"],
        "no committed set of that name",
    ),
    "one checker twice": (
        [
            "loss=imp",
            "selection=last",
            "source=large_real",
            "checker.quality.source=large_real",
            "checker.quality.epochs=2",
        ],
        "checker are one run, so every weight is 1",
    ),
    "texts too long": (["optim.max_length=65"], "has 64 positions"),
    "no such device": (["trainer.accelerator=mps"], "this machine has none; use auto or cpu"),
    "a new key": (["+foo=1"], "foo: no such setting"),
    "an option": (["--foo"], "unrecognized arguments: --foo"),
    "absent model": (["model.path=/no/such"], "model.path=/no/such: no such folder"),
    "hub out of reach": (["model=bert_base", "model.path=null"], "offline, give model.path=FOLDER"),
    "data hub out of reach": (["dataset=mrpc", "dataset.path=null"], "offline, put small_real.jsonl"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, settings, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    overrides, expected = BAD[case]
    keys = {o.split("=")[0] for o in overrides}
    kept = [s for s in settings if s.split("=")[0] not in keys]
    assert run_cli("train", *kept, *overrides) == 2
    error = capfd.readouterr().err
    assert expected in error
    assert error.startswith("synthweight: ")
    assert len(error.strip().splitlines()) == 1, error
    assert not outputs(settings).exists()  # neither a row nor a lock nor a failure


BROKEN = {
    "broken line": (b'{"text": "a", "label"', "synthetic.jsonl:2: broken JSON"),
    "unknown label": (b'{"text": "a", "label": "sad"}', "synthetic.jsonl:2: unknown label 'sad'"),
    "no text": (b'{"label": "neutral"}', "synthetic.jsonl:2: field 'text' is missing"),
    "blank text": (b'{"text": " ", "label": "neutral"}', "synthetic.jsonl:2: text is empty"),
    "latin-1": (b'{"text": "\xe9", "label": "neutral"}', "synthetic.jsonl:2: byte 11 is not UTF-8"),
    "a pair": (
        b'{"text": "a", "text_pair": "b", "label": "neutral"}',
        "synthetic.jsonl:2: text_pair in some rows only",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_data_is_one_line_with_file_and_line(case, settings, toy, tmp_path, capfd):
    line, expected = BROKEN[case]
    copytree(toy, tmp_path / "broken")
    (tmp_path / "broken" / "synthetic.jsonl").write_bytes(
        b'{"text": "good", "label": "positive"}\n' + line + b"\n"
    )
    labels = "dataset.labels=[negative,neutral,positive]"
    assert run_cli("train", *settings, f"dataset.path={tmp_path / 'broken'}", labels) == 2
    error = capfd.readouterr().err
    assert expected in error
    assert len(error.strip().splitlines()) == 1
    assert not outputs(settings).exists()


def test_model_folders_without_usable_weights(settings, tiny, tmp_path, capfd):
    copytree(tiny, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    wanted = [*settings, f"model.path={tmp_path / 'm'}"]
    assert run_cli("train", *wanted) == 2
    assert "no weights: model.safetensors is expected" in capfd.readouterr().err
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"pickle")
    assert run_cli("train", *wanted) == 2
    assert "only pickled weights (pytorch_model.bin)" in capfd.readouterr().err


def test_an_outputs_folder_that_cannot_be_written(settings, tmp_path, capfd):
    (tmp_path / "taken").write_text("")
    assert run_cli("train", *settings, f"paths.outputs={tmp_path / 'taken'}") == 2
    assert "cannot be written" in capfd.readouterr().err


def test_a_full_disk_is_one_line_and_no_row(settings, capfd, monkeypatch):
    """The disk fills while the row is written (the real call, refusing as the kernel does)."""
    import errno

    from synthweight.runs import store

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.parquet")

    monkeypatch.setattr(store.pq.ParquetWriter, "write_table", full)
    assert run_cli("train", *settings) == 1
    assert "No space left on device: make room" in capfd.readouterr().err
    assert Store(outputs(settings)).ids() == set()
    monkeypatch.undo()
    assert run_cli("train", *settings) == 0


def wait_for(running: subprocess.Popen, text: str) -> None:
    for line in running.stdout:
        if text in line:
            return
    raise AssertionError(running.stderr.read())


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_the_middle_there_is_no_row_and_the_same_command_goes_on(settings, sent, capfd):
    command = ["train", *settings, "loss=quality_only", "optim.epochs=400"]
    running = process(*command)
    wait_for(running, "quality_only tiny seed 0: epoch 2/400")
    running.send_signal(sent)
    _, error = running.communicate(timeout=60)
    store = Store(outputs(settings))
    assert [store.row(i)["config"]["source"]["name"] for i in store.ids()] == ["small_real"]
    if sent != signal.SIGKILL:
        assert running.returncode == 130
        assert "interrupted; nothing half-written is left: the same command goes on" in error
        assert "Traceback" not in error
    assert run_cli("train", *settings, "loss=quality_only") == 0
    assert len(store.ids()) == 2


def test_two_processes_of_one_run_leave_one_row(settings):
    running = [process("train", *settings, "optim.epochs=20") for _ in range(2)]
    ended = [r.communicate(timeout=200) for r in running]
    assert [r.returncode for r in running] == [0, 0], ended
    assert len(Store(outputs(settings)).ids()) == 1
    assert sum("epoch 1/20" in out for out, _ in ended) == 1


def test_a_users_own_folder_and_file(settings, toy, tmp_path):
    rows = [json.loads(x) for x in (toy / "large_real.jsonl").read_text().splitlines()]
    own = write(tmp_path / "mine.jsonl", rows)
    assert run_cli("train", *settings, "source=file", f"source.path={own}", "loss=dimp") == 0
    store = Store(outputs(settings))
    row = next(r for r in map(store.row, store.ids()) if r["config"]["loss"]["name"] == "dimp")
    assert row["data"]["file"]["n"] == 90
    assert row["provenance"]["argv"] == [
        "synthweight",
        "train",
        *settings,
        "source=file",
        f"source.path={own}",
        "loss=dimp",
    ]
