"""Every parameter of an encoder's body is from its file, or the folder is refused."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from support.encoders import FAMILIES, changed, make_family
from synthweight.errors import UserError
from synthweight.models import classifier, weights

LABELS = ("a", "b", "c")


@pytest.fixture(autouse=True)
def said_anew():
    """What is logged once per process is logged once per test."""
    for log in (weights.log_old_head, weights.log_prefix, weights.log_pooler, weights.log_unused):
        log.cache_clear()


def built(folder, seed=0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return classifier.build(folder, LABELS).state_dict()


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without(*parts: str):
    return lambda tensors: {name: t for name, t in tensors.items() if not any(part in name for part in parts)}


def under(prefix: str):
    return lambda tensors: {prefix + name: t for name, t in tensors.items()}


@pytest.mark.parametrize("family", [name for name in FAMILIES if " " not in name])
def test_an_encoder_is_loaded_as_transformers_loads_it(tmp_path, family):
    """The body from the file, the head drawn from the seed, and the generator left alike."""
    folder = make_family(tmp_path / "model", family)
    torch.manual_seed(5)
    own = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, dtype=torch.float32
    )
    after = torch.rand(1)
    assert equal(built(folder, seed=5), own.state_dict())
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize(
    "prefix",
    ["model.", "module.bert.", "network.bert.", "0.auto_model.", "module.", "_orig_mod.bert.", "x.y."],
)
def test_a_wrappers_prefix_is_mapped_and_logged(tiny, tmp_path, caplog, prefix):
    caplog.set_level("INFO")
    folder = changed(tiny, tmp_path / "wrapped", under(prefix))
    assert equal(built(folder), built(tiny))
    assert caplog.messages == [f"{folder}: the encoder's weights are those under {prefix!r}"]


def test_a_language_models_file_is_read_in_silence(tiny, tmp_path, caplog):
    """Its own prefix, its head, names of LayerNorm as they once were, buffers of older versions."""
    caplog.set_level("INFO")

    def as_masked_model(tensors):
        old = {
            n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
            for n, t in tensors.items()
        }
        more = {
            "cls.predictions.bias": torch.zeros(3),
            "bert.embeddings.position_ids": torch.arange(64)[None],
        }
        return under("bert.")(old) | more

    assert equal(built(changed(tiny, tmp_path / "masked", as_masked_model)), built(tiny))
    assert caplog.messages == []


def test_a_missing_pooler_is_drawn_and_logged(tiny, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = changed(tiny, tmp_path / "bare", without("pooler"))
    one, other, given = built(folder, 0), built(folder, 1), built(tiny)
    assert not torch.equal(one["bert.pooler.dense.weight"], other["bert.pooler.dense.weight"])
    assert all(torch.equal(one[n], given[n]) for n in one if "pooler" not in n and "classifier" not in n)
    assert caplog.messages == [f"{folder}: it has no pooler: 2 parameters are drawn from the seed"]


@pytest.mark.parametrize("labels", [1, 3, 5], ids=["a regression", "as many labels", "more labels"])
def test_an_old_head_is_never_used(tiny, tmp_path, caplog, labels):
    caplog.set_level("INFO")
    tuned = transformers.AutoModelForSequenceClassification.from_pretrained(
        tiny, num_labels=labels, problem_type="regression"
    )
    folder = tmp_path / "tuned"
    shutil.copytree(tiny, folder)
    tuned.save_pretrained(folder)
    one, other = built(folder, 0), built(folder, 1)
    assert equal(one, built(tiny, 0))
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
    assert caplog.messages == [
        f"{folder}: its old classification head is not used: a new one is drawn from the seed"
    ]
    config = classifier.build(folder, LABELS).config
    assert (config.id2label, config.problem_type) == ({0: "a", 1: "b", 2: "c"}, None)


def test_a_pretrained_part_of_a_head_is_kept(tmp_path):
    """ModernBERT's classifier takes the dense layer of its language model's head, as transformers has it."""
    folder = make_family(tmp_path / "model", "modernbert")
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.ModernBertForMaskedLM(config).save_pretrained(folder)
    given = load_file(folder / "model.safetensors")
    assert torch.equal(built(folder)["head.dense.weight"], given["head.dense.weight"])


REFUSED = {
    "layers are missing": (
        without("layer.1."),
        None,
        r"16 of the 39 parameters of its bert body are not in the file, first bert\.",
    ),
    "fewer layers in the config": (
        None,
        {"num_hidden_layers": 1},
        r"16 parameters of the file have no place in the bert body",
    ),
    "another architecture's names": (None, {"model_type": "distilbert"}, "not in the file, first distilbert"),
    "another architecture's prefix": (
        under("electra."),
        None,
        "model_type=bert, but the weights are those of electra",
    ),
    "BERT's weights as RoBERTa's": (
        None,
        {"model_type": "roberta"},
        "model_type=roberta, but its pad_token_id=0 is the first",
    ),
    "two encoders": (
        lambda t: under("query.")(t) | {"passage." + name: x.clone() for name, x in t.items()},
        None,
        "holds 2 encoders, under 'passage.' and 'query.'",
    ),
    "other sizes": (
        None,
        {"hidden_size": 64, "intermediate_size": 128},
        r"is \[.*\] in the file, and \[.*\] by config.json",
    ),
    "nothing of an encoder": (
        lambda t: {"w": torch.zeros(2)},
        None,
        "37 of the 39 parameters of its bert body are not in the file",
    ),
    "an unknown architecture": (None, {"model_type": "mine"}, "config.json cannot be read"),
    "no classifier of that kind": (None, {"model_type": "vit"}, "not readable as a sequence classifier"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_does_not_fit_is_refused(tiny, tmp_path, fault):
    tensors, values, message = REFUSED[fault]
    folder = changed(tiny, tmp_path / "faulty", tensors, values and (lambda config: config | values))
    with pytest.raises(UserError, match=message) as raised:
        classifier.build(folder, LABELS)
    assert "\n" not in str(raised.value)


def test_a_parameter_that_no_encoder_of_the_kind_has_is_logged(tiny, tmp_path, caplog):
    folder = changed(tiny, tmp_path / "more", lambda t: t | {"LayerNorm.weight": torch.ones(32)})
    assert equal(built(folder), built(tiny))
    assert caplog.messages == [
        f"{folder}: 1 parameters of the file are not used, no bert has them, first LayerNorm.weight"
    ]


def test_shards_are_read_by_their_index_alone(tiny, tmp_path):
    folder = changed(tiny, tmp_path / "sharded")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {f"model-0000{i + 1}-of-00002.safetensors": dict(list(tensors.items())[i::2]) for i in range(2)}
    for name, part in parts.items():
        save_file(part, folder / name)
    index = folder / weights.INDEX
    index.write_text(json.dumps({"weight_map": {key: name for name, part in parts.items() for key in part}}))
    assert equal(built(folder), built(tiny))
    assert weights.parameter_shapes(folder) == {name: tuple(t.shape) for name, t in tensors.items()}
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="names model-00002-of-00002.safetensors, which is not in the folder"):
        built(folder)
    index.write_text(json.dumps({"weight_map": {"a": f"../{tiny.name}/model.safetensors"}}))
    with pytest.raises(UserError, match="which is not in the folder"):
        built(folder)
    index.write_text("{")
    with pytest.raises(UserError, match="not readable as an index"):
        built(folder)


def test_a_damaged_file_is_named(tiny, tmp_path):
    folder = changed(tiny, tmp_path / "cut")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(UserError, match="damaged or cut short"):
        built(folder)
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match="a Git LFS pointer: git lfs pull"):
        built(folder)


def test_a_trained_model_is_loaded_with_its_head_or_refused(tiny, tmp_path):
    torch.manual_seed(3)
    network = classifier.build(tiny, LABELS)
    network.save_pretrained(tmp_path / "kept")
    assert equal(classifier.load(tmp_path / "kept", LABELS).state_dict(), network.state_dict())
    folder = changed(tmp_path / "kept", tmp_path / "headless", without("classifier"))
    with pytest.raises(UserError, match=r"not the model that was saved there \(classifier.bias\)"):
        classifier.load(folder, LABELS)
