"""Hydra's habits: what follows `train`, `generate` and `prompt` is Hydra's own."""

import logging
import os

import pytest

from support.cli import run_cli
from synthweight.runs.store import Store


def said(capfd, *arguments: str, code: int = 0) -> str:
    capfd.readouterr()
    assert run_cli(*arguments) == code
    captured = capfd.readouterr()
    return captured.out if code == 0 else captured.err


def test_the_configuration_is_shown_instead_of_run(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(capfd, "train", "--cfg", "job", "loss=focal", "--package", "loss").startswith(
        "# @package loss\nname: focal\n"
    )
    assert "name: dimp" in said(capfd, "train", "loss=dimp", "-c", "job")
    assert "SynthweightSweeper" in said(capfd, "train", "--cfg", "hydra")
    assert "seed: 0" in said(capfd, "train", "--cfg", "all")
    shown = said(capfd, "generate", "--cfg", "job", "--resolve", "paths.outputs=here", "-p", "out")
    assert shown.strip() == "here/generated/product_reviews/openai-few_shot-0"
    assert "out: ${paths.outputs}/generated" in said(capfd, "generate", "--cfg", "job")
    assert said(capfd, "prompt", "--cfg", "job", "shots=3", "-p", "shots").strip() == "3"
    assert not list(tmp_path.iterdir())


def test_help_names_every_choice_and_every_setting(capfd):
    text = said(capfd, "train", "--help")
    assert "loss: ce, dimp, filter, focal, hu, imp, quality_only, ren, rho, sungen" in text
    assert "  batch_size: " in text
    assert "schema" not in text
    assert "gamma: 1.0" in said(capfd, "train", "-h", "loss=focal")
    assert "--multirun" in said(capfd, "train", "--hydra-help")
    assert "conf" in said(capfd, "train", "--info", "searchpath")


def test_a_folder_and_a_root_of_the_users_own(capfd, tmp_path, settings):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text("defaults: [config, _self_]\nseed: 7\n")
    (tmp_path / "own" / "optim").mkdir()
    (tmp_path / "own" / "optim" / "slow.yaml").write_text(
        "defaults: [minilm, _self_]\nname: slow\nepochs: 9\n"
    )
    folder = str(tmp_path / "own")
    for options in (["--config-dir", folder, "--config-name", "mine"], ["-cd", folder, "-cn", "mine"]):
        assert said(capfd, "train", "optim=slow", *options, "--cfg", "job", "-p", "seed").strip() == "7"
        assert (
            said(capfd, "train", "optim=slow", *options, "--cfg", "job", "-p", "optim.epochs").strip() == "9"
        )
    assert said(capfd, "train", *settings, "-cd", folder, "-cn", "mine") is not None
    store = Store(tmp_path / "outputs")
    assert [store.row(i)["config"]["seed"] for i in store.ids()] == [7]


def test_flags_and_overrides_in_any_order(capfd, settings, tmp_path):
    assert run_cli("train", "loss=ce,focal", "-m", *settings, "seed=0,1", "optim.epochs=1") == 0
    assert len(Store(tmp_path / "outputs").ids()) == 4


BAD = {
    "--foo": "unrecognized arguments: --foo",
    "--cfg nothing": "invalid choice: 'nothing'",
    "--resolve": "--resolve goes with --cfg or --help",
    "--cfg job -m": "--multirun and --cfg exclude each other",
    "--experimental-rerun x.pickle": "reads a pickle, which this program never does",
    "-cd /no/such/folder": "'/no/such/folder' not found",
    "-cn nothing": "nothing",
    "loss=ce,imp": "loss=ce,imp: -m sweeps several values",
    "=1": "=1: not an override of the form key=value",
    "-p optim": "--package goes with --cfg",
}


@pytest.mark.parametrize("typed", BAD)
def test_a_bad_flag_is_one_line(typed, capfd):
    error = said(capfd, "train", *typed.split(), code=2)
    assert BAD[typed] in error
    assert error.startswith("synthweight: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("content", [b"seed: \xff\n", b"seed: \0\n", b"a: &a [*a]\n"])
def test_a_configuration_file_that_is_none_is_one_line(content, capfd, tmp_path):
    (tmp_path / "own.yaml").write_bytes(content)
    error = said(capfd, "train", "-cd", str(tmp_path), "-cn", "own", code=2)
    assert "a configuration file is not to be read (" in error
    assert len(error.splitlines()) == 1


def test_hydras_own_sweeper_works(capfd, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where it writes a file of its own
    said(capfd, "train", "hydra/sweeper=basic", "-m", *settings, "seed=0,1", "optim.epochs=1", code=0)
    assert len(Store(tmp_path / "outputs").ids()) == 2


def test_generate_has_no_multirun(capfd, asking, tmp_path):
    from support.llm_server import serving

    with serving() as server:
        error = said(capfd, "generate", "-m", *asking(server, "seed=0,1"), code=2)
    assert "-m is for train and prompt" in error
    assert not server.asked


def test_completion_in_the_shell(capfd, monkeypatch):
    assert "complete -o nospace -o default -F hydra_bash_completion synthweight" in said(
        capfd, "-sc", "install=bash"
    )
    assert "synthweight" in said(capfd, "train", "--shell-completion", "install=bash")

    def completed(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        return said(capfd, "-sc", "query=bash").split()

    assert {"train", "sweep", "fit"} <= set(completed("synthweight t"))
    assert {"loss=ce", "loss=dimp"} <= set(completed("synthweight train loss="))
    assert "loss.gamma=" in completed("synthweight train loss=focal loss.")
    assert "generator=openai" in completed("synthweight prompt generator=")
    assert {"demo", "table1"} <= set(completed("synthweight sweep "))
    assert "seed=" in completed("synthweight plan demo se")


def test_quiet_and_hydras_own_logging(capfd, settings, monkeypatch, tmp_path):
    assert run_cli("train", *settings, "--quiet", "optim.epochs=1") == 0
    assert capfd.readouterr().out == ""
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        log = tmp_path / "log.yaml"
        log.parent.joinpath("hydra", "job_logging").mkdir(parents=True)
        log.parent.joinpath("hydra", "job_logging", "json.yaml").write_text(
            "version: 1\ndisable_existing_loggers: false\n"
            'formatters: {line: {format: \'{"level": "%(levelname)s", "message": "%(message)s"}\'}}\n'
            "handlers: {out: {class: logging.StreamHandler, formatter: line, stream: ext://sys.stdout}}\n"
            "root: {level: WARNING, handlers: [out]}\n"
        )
        assert (
            run_cli("train", *settings, "-cd", str(tmp_path), "hydra/job_logging=json", "optim.epochs=1") == 0
        )
        out = capfd.readouterr().out
        assert "nothing to do" in out or "done" in out
    finally:
        root.handlers = before
    assert os.environ.get("HYDRA_FULL_ERROR") is None
