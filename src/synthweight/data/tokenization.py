"""Texts as token ids: made once, cached by content, kept flat."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

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
    """Token ids of n texts end to end: text i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: np.ndarray  # int32, [total]
    types: np.ndarray  # uint8, [total]; empty where the encoder knows no segments
    offsets: np.ndarray  # int64, [n + 1]
    pad: int
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
            ids[row, : end - start] = self.ids[start:end]
            mask[row, : end - start] = 1
            if len(self.types):
                types[row, : end - start] = self.types[start:end]
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
        folder: of the encoder. encoder: its fingerprint. max_length: in tokens, special ones included; longer texts
            are truncated, of a pair the longer one first.
    """
    digest = hashlib.sha256(f"{encoder} {max_length}".encode())
    for example in examples:
        digest.update(text_hash(example).encode())
    file = cache / "tokens" / f"{digest.hexdigest()[:32]}.safetensors"
    try:
        return _read(file)
    except (OSError, SafetensorError):  # not there, or halved by a power cut
        _write(file, _encode(folder, examples, max_length))
        return _read(file)


def _read(file: Path) -> TokenizedTexts:
    arrays = {key: value.numpy() for key, value in load_file(file).items()}  # mapped from the file, not read
    return TokenizedTexts(arrays["ids"], arrays["types"], arrays["offsets"], int(arrays["pad"][0]))


def _encode(folder: Path, examples: Examples, max_length: int) -> dict[str, np.ndarray]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: its tokenizer cannot be read ({first_line(error)})") from error
    typed = "token_type_ids" in tokenizer.model_input_names
    ids, types, lengths = [], [np.zeros(0, np.uint8)], [[0]]
    for start in range(0, len(examples), CHUNK):
        part = examples[start : start + CHUNK]
        pairs = [(e.text_pair or "").strip() for e in part] if part[0].text_pair is not None else None
        encoded = tokenizer(
            [e.text.strip() for e in part], pairs, truncation=True, max_length=max_length, padding=False,
            return_attention_mask=False, return_token_type_ids=typed,
        )  # fmt: skip
        ids.append(np.fromiter(chain.from_iterable(encoded["input_ids"]), np.int32))
        types += [np.fromiter(chain.from_iterable(encoded["token_type_ids"]), np.uint8)] if typed else []
        lengths.append([len(row) for row in encoded["input_ids"]])
    return {
        "ids": np.concatenate(ids),
        "types": np.concatenate(types),
        "offsets": np.cumsum(np.concatenate(lengths), dtype=np.int64),
        "pad": np.array([tokenizer.pad_token_id or 0], dtype=np.int64),
    }


def _write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(file) as part:
        save_file(arrays, part)
