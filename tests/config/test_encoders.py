"""An encoder's own folder: its name and its recipe."""

import json
from dataclasses import replace

import pytest

from synthweight.config import bind, compose, encoders
from synthweight.config.bind import load_choice
from synthweight.config.schema import CONF
from synthweight.errors import UserError
from synthweight.runs.identity import identify


@pytest.fixture
def folder(tmp_path):
    """Makes an encoder's folder that has a config.json alone: folder("name", hidden_size=768)."""

    def make(name: str, **config) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        return str(tmp_path / name)

    return make


def run(*overrides: str):
    with compose.offline(CONF):
        return compose.Composer("config").run(list(overrides))


SIZES = {  # as the files of published encoders have it
    "MiniLM-L6": ({"num_hidden_layers": 6, "hidden_size": 384}, "minilm"),
    "MiniLM-L12": ({"num_hidden_layers": 12, "hidden_size": 384}, "minilm"),
    "DistilBERT": ({"n_layers": 6, "dim": 768}, "bert_base"),
    "BERT base": ({"num_hidden_layers": 12, "hidden_size": 768}, "bert_base"),
    "GPT-2": ({"n_layer": 12, "n_embd": 768}, "bert_base"),
    "XLNet": ({"n_layer": 12, "d_model": 768}, "bert_base"),
    "T5": ({"num_layers": 12, "d_model": 768}, "bert_base"),
    "BART large": ({"encoder_layers": 12, "num_hidden_layers": 12, "d_model": 1024}, "bert_base"),
    "BERT large": ({"num_hidden_layers": 24, "hidden_size": 1024}, "bert_large"),
    "unknown": ({"model_type": "mine"}, "minilm"),
    "nonsense": ({"num_hidden_layers": [12], "hidden_size": "wide"}, "minilm"),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_folder_gives_the_run_its_name_and_the_recipe_for_its_size(folder, name):
    config, recipe = SIZES[name]
    found = run(f"model.path={folder(name, **config)}")
    assert found.model.name == name
    assert found.optim == load_choice("optim", recipe)


def test_what_the_user_chooses_is_kept(folder):
    base = folder("mine", num_hidden_layers=12, hidden_size=768)
    assert run(f"model.path={base}", "optim.lr=1e-3").optim == replace(
        load_choice("optim", "bert_base"), lr=1e-3
    )
    chosen = run(f"model.path={base}", "optim=mpnet_base")
    assert (chosen.model.name, chosen.optim) == ("mine", load_choice("optim", "mpnet_base"))
    chosen = run(f"model.path={base}", "model=minilm")
    assert (chosen.model.name, chosen.optim) == ("minilm", load_choice("optim", "minilm"))
    assert run(f"model.path={base}", "model.name=other").model.name == "other"


def test_the_quick_way_gives_what_omegaconf_resolves(folder):
    """`plan` fills in what depends on model.path; a single run is resolved by OmegaConf."""
    base = f"model.path={folder('mine', num_hidden_layers=24, hidden_size=1024)}"
    with compose.offline(CONF):
        composer = compose.Composer("config")
        for job in ([], [base], [base, "optim.lr=1e-3"], ["model=minilm", base], [base, "optim=mpnet_base"]):
            assert composer.run(job) == bind.bind_run(composer.config(job))
        for path in ("???", "${nope}"):
            with pytest.raises(UserError, match=r"model\.path|nope"):
                composer.run([f"model.path={path}"])


def test_a_folder_in_a_users_own_file(folder, tmp_path):
    base = folder("mine", num_hidden_layers=12, hidden_size=768)
    (tmp_path / "own.yaml").write_text(f"defaults: [config, _self_]\nmodel: {{path: {base}}}\n")
    with compose.offline(tmp_path):
        found = compose.Composer("own").run([])
    assert (found.model.name, found.optim.name) == ("mine", "bert_base")


def test_a_users_own_recipe_of_that_name_is_taken(folder, tmp_path):
    base = folder("mine", num_hidden_layers=12, hidden_size=768)
    (tmp_path / "optim").mkdir()
    recipe = (CONF / "optim" / "bert_base.yaml").read_text().replace("lr: 6e-5", "lr: 7e-5")
    (tmp_path / "optim" / "bert_base.yaml").write_text(recipe)
    (tmp_path / "own.yaml").write_text("defaults: [config, _self_]\n")
    with compose.offline(tmp_path):
        assert compose.Composer("own").run([f"model.path={base}"]).optim.lr == 7e-5


def test_the_encoder_of_sentence_transformers_lies_in_a_subfolder(folder, tmp_path):
    inner = folder("0_Transformer", num_hidden_layers=24, hidden_size=1024)
    (tmp_path / "0_Transformer" / "model.safetensors").touch()
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "0_Transformer"}]))
    assert encoders.recipe_name(str(tmp_path)) == encoders.recipe_name(inner) == "bert_large"


def test_without_a_folder_the_run_is_that_of_minilm():
    default, named = run(), run("model=minilm")
    assert (default.model, default.optim) == (named.model, named.optim)


def test_a_folders_name_does_not_enter_the_id(bound, tiny):
    assert identify(bound()).id == identify(bound("model=minilm", f"model.path={tiny}")).id


def test_the_name_and_the_recipe_are_said_once(bound, caplog, tiny):
    from synthweight.runs import preflight

    caplog.set_level("INFO")
    preflight.log_recipe.cache_clear()
    for loss in ("ce", "focal"):
        preflight.passed.clear()
        preflight.require_fit(bound(f"loss={loss}"))
    said = [record.getMessage() for record in caplog.records if "recipe" in record.getMessage()]
    assert said == [
        f"model.path={tiny}: model tiny (2 layers of 32) with the recipe minilm, lr 0.005; optim=NAME takes another"
    ]
