"""A toy benchmark and a tiny encoder: real parts, small enough to train in a second."""

import json
import random
from pathlib import Path

WORDS = {
    "negative": ["bad", "broken", "awful", "poor", "worst", "useless", "noisy", "refund"],
    "neutral": ["box", "cable", "manual", "size", "button", "colour", "page", "screen"],
    "positive": ["good", "great", "love", "perfect", "best", "happy", "bright", "sturdy"],
}
FILLER = ["the", "it", "this", "a", "player", "camera", "phone", "of", "and", "with", "was", "is"]
SIZES = {"small_real": 45, "large_real": 90, "test": 60, "synthetic": 96}


def sentence(rng: random.Random, label: str) -> str:
    words = rng.choices(WORDS[label], k=2) + rng.choices(FILLER, k=rng.randint(3, 9))
    rng.shuffle(words)
    return " ".join(words)


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_toy(folder: Path, sizes: dict[str, int]) -> Path:
    rng, seen = random.Random(7), set()
    for split, n in sizes.items():
        rows = []
        while len(rows) < n:
            label = list(WORDS)[len(rows) % 3]
            text = sentence(rng, label)
            if text not in seen:
                seen.add(text)
                rows.append({"text": text, "label": label})
        write(folder / f"{split}.jsonl", rows)
    return folder


def make_encoder(folder: Path, hidden: int = 32, dropout: float = 0.1, seed: int = 0) -> Path:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(seed)
    words = sorted({w for group in [*WORDS.values(), FILLER] for w in group})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab={w: i for i, w in enumerate(vocabulary)}).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=2 * hidden, max_position_embeddings=64, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder
