"""Small networks of every packed family, with batches for them."""

import itertools

import torch
import transformers
from torch import nn

SHAPE = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
         "max_position_embeddings": 40, "num_labels": 3, "type_vocab_size": 2}  # fmt: skip


def classifier(family: str, dropout: float = 0.0, positions: int = 40) -> nn.Module:
    torch.manual_seed(1)
    shape = SHAPE | {"max_position_embeddings": positions}
    config = transformers.AutoConfig.for_model(
        family, **shape, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )
    network = transformers.AutoModelForSequenceClassification.from_config(config).double()
    with torch.no_grad():
        for p in network.parameters():  # biases and norms begin at 0 and 1, which would hide what is left out
            p.add_(0.1 * torch.randn_like(p))
    return network


def batch(lengths=(7, 1, 12, 3), types=True):
    rng = torch.Generator().manual_seed(0)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 50, mask.shape, generator=rng) * mask + (1 - mask)  # 1 pads RoBERTa's
    found = {"input_ids": ids, "attention_mask": mask}
    return found | ({"token_type_ids": (torch.arange(mask.shape[1]) > 2).long() * mask} if types else {})


def by_sequence(query, key, value, starts, widths, dropout):
    """What the GPU's kernel computes; rows outside of all sequences are as memory was."""
    out = torch.full_like(query, torch.nan)
    for (a, b), (c, d) in zip(*(list(itertools.pairwise(s.tolist())) for s in starts), strict=True):
        assert 0 < b - a <= widths[0]
        assert 0 < d - c <= widths[1]
        own = (x.transpose(0, 1) for x in (query[a:b], key[c:d], value[c:d]))
        out[a:b] = torch.nn.functional.scaled_dot_product_attention(*own, dropout_p=dropout).transpose(0, 1)
    return out
