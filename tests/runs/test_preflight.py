"""What does not fit is one line before anything is trained."""

import json
import shutil

import pytest
import transformers

from support.cli import run_cli
from support.encoders import FAMILIES, SIZE, VOCABULARY, changed, make_family
from support.toy import write
from synthweight.errors import UserError
from synthweight.models import weights
from synthweight.runs import preflight
from synthweight.runs.store import Store

LEARNED = [
    "hu",
    "hu loss.exact=false loss.alignment=ghost",
    "ren",
    "sungen",
    "sungen loss.proxy=lstm",
    "sungen loss.proxy=encoder",
]


@pytest.fixture(autouse=True)
def nothing_checked(monkeypatch):
    monkeypatch.setattr(preflight, "passed", set())


@pytest.fixture
def check(bound):
    """Checks a run on a folder: check(folder, "loss=hu")."""
    return lambda folder, *overrides: preflight.require_fit(bound(f"model.path={folder}", *overrides))


def config_of(folder, **values) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_fits(check, tmp_path, family):
    check(make_family(tmp_path / "model", family))


@pytest.mark.parametrize("loss", LEARNED)
@pytest.mark.parametrize("family", ["bert", "gpt2 padded on the left", "t5"])
def test_losses_that_learn_weights_fit(check, tmp_path, family, loss):
    check(make_family(tmp_path / "model", family), *f"loss={loss}".split())


# RoBERTa and its kin keep the positions up to the id of the padding token, 0 here; MPNet keeps two whatever
# it is
@pytest.mark.parametrize(("family", "most"), [
    ("bert", 64), ("roberta", 63), ("roberta-prelayernorm", 63), ("data2vec-text", 63), ("xlm-roberta-xl", 63), ("xmod", 63),
    ("longformer", 63), ("mpnet", 62), ("gpt2", 64), ("ibert", 63),
])  # fmt: skip
def test_more_tokens_than_positions(check, tmp_path, monkeypatch, family, most):
    more = {
        "longformer": {"attention_window": [4, 4]},
        "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    }
    kin = SIZE | {"bos_token_id": 2, "eos_token_id": 3} | more.get(family, {})
    monkeypatch.setitem(FAMILIES, family, FAMILIES.get(family, (kin, *FAMILIES["roberta"][1:])))
    folder = make_family(tmp_path / "model", family)
    check(folder, f"optim.max_length={most}")
    for length in (most + 1, 3 * most):
        with pytest.raises(UserError, match=f"^optim.max_length={length}: model has {most} positions$"):
            check(folder, f"optim.max_length={length}")


def test_relative_positions_have_no_end(check, tmp_path):
    check(make_family(tmp_path / "model", "deberta-v2"), "optim.max_length=100")


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows(check, tiny, tmp_path):
    folder = changed(tiny, tmp_path / "more")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["kettle", "mug"])
    tokenizer.save_pretrained(folder)
    n = len(VOCABULARY)
    with pytest.raises(
        UserError,
        match=rf"ids up to {n + 1}, and its word embedding {n} rows.*resize_token_embeddings\({n + 2}\)",
    ):
        check(folder)


@pytest.fixture
def pairs(toy, tmp_path):
    """The toy benchmark with a second text."""
    folder = tmp_path / "pairs"
    for path in toy.glob("*.jsonl"):
        write(
            folder / path.name,
            [json.loads(line) | {"text_pair": "this cable"} for line in path.read_text().splitlines()],
        )
    return f"dataset.path={folder}"


def test_token_types_that_the_encoder_has_not(check, tiny, tmp_path, monkeypatch, pairs):
    sizes, *rest = FAMILIES["roberta"]
    monkeypatch.setitem(FAMILIES, "roberta one type", (sizes | {"type_vocab_size": 1}, *rest))
    folder = make_family(tmp_path / "model", "roberta one type")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, folder / name)  # BERT's, which marks the second text
    with pytest.raises(
        UserError,
        match=r"token types that its encoder has not: set .*model_input_names.* in tokenizer_config.json",
    ):
        check(folder, pairs)
    config_of(folder, model_input_names=["input_ids", "attention_mask"])
    check(folder, pairs)


def test_padding_on_a_side_that_the_encoder_does_not_expect(check, tiny, tmp_path):
    folder = changed(tiny, tmp_path / "turned")
    config_of(folder, padding_side="left")
    with pytest.raises(
        UserError, match='padded on the left, .* set "padding_side": "right" in tokenizer_config.json'
    ):
        check(folder)


def test_an_encoder_that_mixes_padding_with_the_text_is_logged(check, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(
        FAMILIES, "fnet", (SIZE | {"bos_token_id": 2, "eos_token_id": 3}, *FAMILIES["bert"][1:])
    )
    folder = make_family(tmp_path / "model", "fnet")
    config_of(folder, model_input_names=["input_ids"])
    check(folder)
    mixes = f"{folder}: a text's logits depend on the padding of its batch, as fnet encoders compute them"
    assert mixes in caplog.messages


def test_a_vocabulary_of_other_texts(check, tiny, toy, tmp_path, caplog):
    for share, folder in ((1, "half"), (0, "none")):
        for path in toy.glob("*.jsonl"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            rows = [row | {"text": f"{'the ' * share}{i}x {i}y"} for i, row in enumerate(rows)]
            write(tmp_path / folder / path.name, rows)
    check(tiny, f"dataset.path={tmp_path / 'half'}")
    assert f"{tiny}: 67 % of the tokens of D_P' are [UNK] to it" in caplog.messages
    with pytest.raises(UserError, match=r"every token of D_P' is \[UNK\] to it"):
        check(tiny, f"dataset.path={tmp_path / 'none'}")


def test_code_that_is_not_run_is_logged(check, tiny, tmp_path, caplog):
    folder = changed(
        tiny, tmp_path / "coded", config=lambda config: config | {"auto_map": {"AutoModel": "m.M"}}
    )
    check(folder)
    assert f"{folder}/config.json: its auto_map is ignored: no code of the folder is run" in caplog.messages


def test_a_loss_that_cannot_be_computed_with_an_encoder(check, tmp_path, monkeypatch):
    """Funnel's states are fewer than its tokens: there is no mean over a text's."""
    sizes = {"vocab_size": len(VOCABULARY), "block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48,
             "architectures": ["FunnelModel"]}  # fmt: skip
    monkeypatch.setitem(FAMILIES, "funnel", (sizes, *FAMILIES["bert"][1:]))
    folder = make_family(tmp_path / "model", "funnel")
    check(folder, "loss=ce")
    with pytest.raises(UserError, match=r"^loss=sungen: not possible with model \(") as raised:
        check(folder, "loss=sungen")
    assert "\n" not in str(raised.value)


def test_a_pinned_encoder_is_not_loaded(bound, monkeypatch):
    """It is known to fit, up to its positions."""
    run = bound("model=minilm", "model.path=null", "optim.max_length=128")
    monkeypatch.setattr(weights, "parameter_shapes", lambda _: pytest.fail("the weights are read"))
    preflight.require_fit(run)
    monkeypatch.undo()
    with pytest.raises(UserError, match="^optim.max_length=600: model has 512 positions$"):
        preflight.require_fit(bound("model=minilm", "model.path=null", "optim.max_length=600"))


def test_nothing_is_trained_before(settings, small, tmp_path, capfd):
    """Neither a checker of a run, nor the first run of a sweep."""
    folder = make_family(tmp_path / "model", "roberta")
    wrong = [f"model.path={folder}", "optim.max_length=64"]
    assert run_cli("train", *settings, "loss=dimp", *wrong) == 2
    path, values = small
    assert run_cli("sweep", str(path), *values, *wrong) == 2
    assert (
        capfd.readouterr().err.splitlines()
        == ["synthweight: optim.max_length=64: model has 63 positions"] * 2
    )
    assert not (tmp_path / "outputs").exists()


def test_a_checkers_own_encoder_is_looked_at_before_the_checker_is_trained(settings, tmp_path, capfd):
    """The run's is bad, its checkers' is not."""
    folder = make_family(tmp_path / "model", "roberta")
    checker = ["checker.quality.model=minilm", "checker.quality.epochs=1"]
    assert (
        run_cli(
            "train", *settings, "loss=quality_only", f"model.path={folder}", "optim.max_length=64", *checker
        )
        == 2
    )
    assert "has 63 positions" in capfd.readouterr().err
    assert Store(tmp_path / "outputs").ids() == set()
