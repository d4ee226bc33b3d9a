"""Tiny encoders of many families, as Hugging Face folders, and the faults that real folders have."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from .toy import FILLER, WORDS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = {
    word: i
    for i, word in enumerate([*SPECIAL, *sorted({w for group in [*WORDS.values(), FILLER] for w in group})])
}
PAD, CLS, SEP = 0, 2, 3
SIZE = {"vocab_size": len(VOCABULARY), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 64}  # fmt: skip
GPT = {"vocab_size": len(VOCABULARY), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
FIRST, LAST, NONE = "[CLS] $A [SEP]", "$A [SEP] [CLS]", "$A"  # what a tokenizer puts around a text
# sizes, special tokens, padding side, has a padding token
FAMILIES: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    "bert": (SIZE, FIRST, "right", True),
    "roberta": (SIZE | {"bos_token_id": CLS, "eos_token_id": SEP}, FIRST, "right", True),
    "xlm-roberta": (SIZE | {"bos_token_id": CLS, "eos_token_id": SEP}, FIRST, "right", True),
    "mpnet": (SIZE | {"bos_token_id": CLS, "eos_token_id": SEP}, FIRST, "right", True),
    "distilbert": ({"vocab_size": len(VOCABULARY), "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
                   FIRST, "right", True),
    "electra": (SIZE | {"embedding_size": 16}, FIRST, "right", True),
    "albert": (SIZE | {"embedding_size": 16, "bos_token_id": CLS, "eos_token_id": SEP}, FIRST, "right", True),
    "deberta-v2": (SIZE | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False},
                   FIRST, "right", True),
    "modernbert": (SIZE | {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": CLS, "sep_token_id": SEP,
                           "bos_token_id": CLS, "eos_token_id": SEP}, FIRST, "right", True),
    "xlnet": ({"vocab_size": len(VOCABULARY), "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}, LAST, "left", True),
    "gpt2": (GPT | {"bos_token_id": SEP, "eos_token_id": SEP}, NONE, "right", False),
    "gpt2 padded on the left": (GPT | {"bos_token_id": SEP, "eos_token_id": SEP}, NONE, "left", False),
    "opt": (SIZE | {"ffn_dim": 48, "word_embed_proj_dim": 32, "bos_token_id": CLS, "eos_token_id": SEP}, FIRST, "right", True),
    "llama": (SIZE | {"num_key_value_heads": 2, "bos_token_id": CLS, "eos_token_id": SEP}, NONE, "left", False),
    "t5": ({"vocab_size": len(VOCABULARY), "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
            "eos_token_id": SEP, "decoder_start_token_id": PAD}, "$A [SEP]", "right", True),
    "bart": ({"vocab_size": len(VOCABULARY), "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48,
              "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
              "bos_token_id": CLS, "eos_token_id": SEP, "decoder_start_token_id": SEP}, FIRST, "right", True),
}  # fmt: skip


def make_family(folder: Path, family: str) -> Path:
    """An encoder of a family with random weights, and a tokenizer of the toy benchmark's words as that family
    has it.
    """
    sizes, template, side, has_pad = FAMILIES[family]
    config = transformers.AutoConfig.for_model(
        family.split()[0], **sizes, pad_token_id=PAD if has_pad else None
    )
    torch.manual_seed(0)
    network = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():  # no part stays at 0 or 1, where it could not be seen
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    pad = {"pad_token": "[PAD]"} if has_pad else {}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", eos_token="[SEP]", cls_token="[CLS]", padding_side=side,
        model_input_names=["input_ids", "attention_mask"], **pad,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def changed(source: Path, folder: Path, weights: Any = None, config: Any = None) -> Path:
    """A copy of an encoder's folder with other weights or another config.json.

    Args:
        source: an encoder.
        folder: the copy.
        weights: takes the tensors by name, and gives others.
        config: takes config.json as a dictionary, and gives another.
    """
    shutil.copytree(source, folder)
    if weights is not None:
        tensors = {
            name: tensor.contiguous()
            for name, tensor in weights(load_file(folder / "model.safetensors")).items()
        }
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if config is not None:
        path = folder / "config.json"
        path.write_text(json.dumps(config(json.loads(path.read_text()))))
    return folder
