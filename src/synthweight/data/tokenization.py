"""Texts as token ids: made once, cached by content, kept flat."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor

from ..atomic_io import atomic_path
from ..errors import UserError, first_line
from .examples import Examples, text_hash

CHUNK = 10_000  # texts at a time: the tokenizer's own records of a text are a hundred times its ids


@dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of n texts end to end: text i is `ids[offsets[i]:offsets[i + 1]]`.

    Args:
        ids: int32, [total].
        types: segment ids, uint8, [total]; empty where the encoder knows no segments.
        offsets: int64, [n + 1].
        pad: the padding token's id.
        side: where texts are padded, "left" or "right".
        id_map: the id by which a pruned embedding knows each token id; None: by itself.
    """

    ids: np.ndarray  # int32, [total]
    types: np.ndarray  # uint8, [total]; empty where the encoder knows no segments
    offsets: np.ndarray  # int64, [n + 1]
    pad: int  # the padding token's id
    side: str = "right"  # where texts are padded, "left" or "right"
    id_map: np.ndarray | None = None  # what an encoder of fewer words knows each id by; None: by itself

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Of each text, in tokens, [n]."""
        return np.diff(self.offsets)

    def batch(self, index: list[int]) -> dict[str, Tensor]:
        """The encoder's inputs for these texts, padded to the longest of them; `index` comes along."""
        width = int(self.lengths[index].max())
        ids = np.full((len(index), width), self.pad, dtype=np.int64)
        types = np.zeros_like(ids)
        mask = np.zeros_like(ids)
        for row, i in enumerate(index):
            start, end = self.offsets[i], self.offsets[i + 1]
            place = slice(width - (end - start), width) if self.side == "left" else slice(0, end - start)
            ids[row, place] = self.ids[start:end]
            mask[row, place] = 1
            if len(self.types):
                types[row, place] = self.types[start:end]
        if self.id_map is not None:
            ids = self.id_map[ids]
        out = {
            "index": torch.tensor(index),
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
        }
        if len(self.types):
            out["token_type_ids"] = torch.from_numpy(types)
        return out


def tokenize(folder: Path, encoder: str, examples: Examples, max_length: int, cache: Path) -> TokenizedTexts:
    """Token ids of the examples, from the cache where the same texts met the same tokenizer before.

    Args:
        folder: of the encoder.
        encoder: its fingerprint.
        examples: at least one.
        max_length: in tokens, special ones included; longer texts are truncated, of a pair the longer one
            first.
        cache: the folder of caches.
    """
    digest = hashlib.sha256(f"{encoder} {max_length}".encode())
    for example in examples:
        digest.update(text_hash(example).encode())
    file = cache / "tokens" / f"{digest.hexdigest()[:32]}.safetensors"
    try:
        return _read(file)
    except (
        OSError,
        SafetensorError,
        KeyError,
    ):  # absent, cut short by a power failure, or of an older layout
        _write(file, encode_examples(load_tokenizer(folder), examples, max_length))
        return _read(file)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, with a padding token. No code of the folder is run.

    A tokenizer without a padding token gets its end-of-text token for one: attention masks hide it like any
    other.

    Raises:
        UserError: it cannot be read, needs code of its own or a package that is not installed, or has no
            vocabulary.
    """
    import transformers

    transformers.logging.set_verbosity_error()  # what it would say of a failure is in the error
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of transformers, tokenizers, sentencepiece and others
        raise UserError(f"{folder}: its tokenizer cannot be read ({_reason(folder, error)})") from error
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise UserError(
            f"{folder}: its tokenizer has no vocabulary: tokenizer.json or vocab.txt is missing or empty"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"{folder}: its tokenizer has no padding token: set pad_token in tokenizer_config.json"
        )
    return tokenizer


def _reason(folder: Path, error: Exception) -> str:
    """Why a tokenizer was not loaded, in a few words."""
    if "trust_remote_code" in str(error):
        return "it needs code of its own, which is never run"
    models = sorted(path.name for path in folder.glob("*.model"))
    if models and importlib.util.find_spec("sentencepiece") is None:
        return f"{models[0]} needs a package: pip install sentencepiece"
    return first_line(error, type(error).__name__)


def encode_examples(tokenizer: Any, examples: Examples, max_length: int) -> TokenizedTexts:
    """Token ids of the examples, made now.

    Args:
        tokenizer: of transformers.
        examples: at least one.
        max_length: as for `tokenize`.
    """
    texts = [e.text for e in examples]
    return encode(
        tokenizer,
        texts,
        None if examples[0].text_pair is None else [e.text_pair or "" for e in examples],
        max_length,
    )


def encode(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> TokenizedTexts:
    """Token ids of texts, or of pairs of texts.

    Args:
        tokenizer: of transformers.
        texts: stripped here.
        pairs: the second text of each, or None.
        max_length: as for `tokenize`.
    """
    typed = "token_type_ids" in tokenizer.model_input_names
    ids, types, lengths = [], [np.zeros(0, np.uint8)], [[0]]
    for start in range(0, len(texts), CHUNK):
        part = slice(start, start + CHUNK)
        encoded = tokenizer(
            [text.strip() for text in texts[part]], None if pairs is None else [text.strip() for text in pairs[part]],
            truncation=True, max_length=max_length, padding=False, return_attention_mask=False, return_token_type_ids=typed,
        )  # fmt: skip
        ids.append(np.fromiter(chain.from_iterable(encoded["input_ids"]), np.int32))
        types += [np.fromiter(chain.from_iterable(encoded["token_type_ids"]), np.uint8)] if typed else []
        lengths.append([len(row) for row in encoded["input_ids"]])
    offsets = np.cumsum(np.concatenate(lengths), dtype=np.int64)
    return TokenizedTexts(
        np.concatenate(ids), np.concatenate(types), offsets, tokenizer.pad_token_id, tokenizer.padding_side
    )


def _read(file: Path) -> TokenizedTexts:
    arrays = {key: value.numpy() for key, value in load_file(file).items()}  # mapped from the file, not read
    pad, left = arrays["padding"].tolist()
    return TokenizedTexts(arrays["ids"], arrays["types"], arrays["offsets"], pad, "left" if left else "right")


def _write(file: Path, tokens: TokenizedTexts) -> None:
    padding = np.array([tokens.pad, tokens.side == "left"], dtype=np.int64)
    with atomic_path(file) as part:
        save_file(
            {"ids": tokens.ids, "types": tokens.types, "offsets": tokens.offsets, "padding": padding}, part
        )
