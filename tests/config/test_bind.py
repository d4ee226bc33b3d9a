"""Plain values as typed settings, each key checked once."""

import pytest
from omegaconf import OmegaConf

from synthweight.config import bind, compose
from synthweight.config.llm_schema import Generate, Prompt
from synthweight.config.schema import CONF, Report, Run
from synthweight.errors import UserError


def test_the_keys_say_what_the_settings_are_of():
    with compose.offline(CONF):
        for root, kind in (("config", Run), ("prompt", Prompt), ("generate", Generate)):
            assert type(compose.Composer(root).settings([])) is kind


def test_every_node_is_typed(bound):
    run = bound("loss=focal", "weighting.clip=1")
    kinds = [type(node).__name__ for node in (run.loss, run.optim, run.checker.quality)]
    assert kinds == ["Focal", "Optim", "Quality"]
    assert isinstance(run.weighting.clip, float)


@pytest.mark.parametrize("value", [20241128, 1000.0, False, None])
def test_text_is_not_made_of_what_is_none(value, bound):
    """YAML reads 2024_11_28 as a number and off as a boolean: the characters that were written are lost by
    then.
    """
    with pytest.raises(UserError, match=r"^paths\.outputs must be text, is .*: quote it where it is written"):
        bind.settings({"data": None, "cache": "c", "outputs": value}, type(bound().paths), "paths")


def test_lists_and_maps_of_text(bound):
    dataset = type(bound().dataset)
    values = {
        "name": "n",
        "path": None,
        "unite_labels": False,
        "drop_overlap": True,
        "hub": None,
        "archive": None,
        "sha256": {"test": None},
        "sizes": {},
    }
    assert bind.settings({**values, "labels": ["yes", "no"]}, dataset, "dataset").labels == ["yes", "no"]
    with pytest.raises(UserError, match=r"^dataset\.labels\[0\] must be text, is True"):
        bind.settings({**values, "labels": [True, False]}, dataset, "dataset")
    with pytest.raises(UserError, match=r"^dataset\.sha256\.test must be text, is 7"):
        bind.settings({**values, "labels": None, "sha256": {"test": 7}}, dataset, "dataset")
    with pytest.raises(
        UserError, match=r"^dataset\.hub holds settings of its own \(path, name, data_dir, revision\), is 'x'"
    ):
        bind.settings({**values, "labels": None, "hub": "x"}, dataset, "dataset")


def test_the_report_node():
    config = OmegaConf.create({"report": {"table": "timing", "figures": ["cost"]}, "seed": 0})
    assert bind.report(config) == Report(table="timing", figures=["cost"])
    assert bind.report(OmegaConf.create({"seed": 0})) == Report()
    with pytest.raises(UserError, match=r"^report\.tabel: no such setting"):
        bind.report(OmegaConf.create({"report": {"tabel": "timing"}}))


def test_a_named_choice():
    assert bind.load_choice("optim", "minilm").name == "minilm"
    with pytest.raises(UserError, match="optim=x: unknown; there are bert_base"):
        bind.load_choice("optim", "x")
