"""An encoder's folder as conf/model/default.yaml and conf/optim/default.yaml see it: its name, and the recipe for its size."""

import json
from functools import cache
from pathlib import Path

DEFAULT = "minilm"  # the encoder, and its recipe, where model.path names none
MODULES = "modules.json"  # of sentence-transformers: which subfolder holds what
WIDTH = ("hidden_size", "d_model", "dim", "n_embd")  # as config.json calls it, by family
LAYERS = ("num_hidden_layers", "encoder_layers", "num_layers", "n_layers", "n_layer")
# the number of weights that a recipe is below
BY_SIZE = ((30e6, DEFAULT), (200e6, "bert_base"), (float("inf"), "bert_large"))


def encoder_name(path: str | None) -> str:
    """The name of a run's encoder: that of its folder, `minilm` without one."""
    return DEFAULT if path is None else Path(path).absolute().name


def inner_folder(folder: Path) -> Path | None:
    """The subfolder that holds the encoder of a sentence-transformers folder, by its modules.json."""
    try:
        listed = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        names = [str(module["path"]) for module in listed]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    inside = [folder / name for name in names if name and Path(name).name == name]
    return next(
        (path for path in inside if (path / "config.json").is_file() and list(path.glob("*.safetensors"))),
        None,
    )


def layers_and_width(path: str) -> tuple[int, int] | None:
    """How many layers an encoder has, and how wide they are, by its config.json; None where it does not say."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        folder = inner_folder(folder) or folder
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        layers, width = (max(int(config.get(key) or 0) for key in keys) for keys in (LAYERS, WIDTH))
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
    ):  # `models.pretrained.locate` says what is wrong with it
        return None
    return (layers, width) if layers and width else None


@cache
def recipe_name(path: str | None) -> str:
    """The recipe in conf/optim for an encoder of this size: 12 · layers · width² weights, embeddings apart.

    minilm (10 M) is that of all below 30 M, bert_base (85 M) of those below 200 M, bert_large (302 M) of those above;
    minilm too without a folder, or where config.json does not say.
    """
    size = None if path is None else layers_and_width(path)
    weights = 0 if size is None else 12 * size[0] * size[1] ** 2
    return next(name for limit, name in BY_SIZE if weights < limit)
