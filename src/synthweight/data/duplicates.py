"""Near-duplicates of a set: texts whose character n-grams are alike."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy import ndarray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer

from .examples import Example, overlap_key

logger = logging.getLogger(__name__)

NEAR = 0.9  # cosine of two texts' character n-grams from which they are near-duplicates
MANY = 50_000  # examples; of more only texts that are equal but for case and punctuation are found
BLOCK = 2_000  # rows of a product that are computed at once


def near_duplicates(examples: Sequence[Example]) -> ndarray:
    """The group of each example, [n]: texts that are equal or have like character n-grams (cosine ≥ NEAR)."""
    texts = ["\n".join(overlap_key(e)) for e in examples]
    first: dict[str, int] = {}
    owner = np.array([first.setdefault(text, i) for i, text in enumerate(texts)])
    heads = np.unique(owner)
    if len(heads) > MANY:
        logger.warning("%d texts: near-duplicates are looked for among equal ones alone", len(heads))
        return owner
    raw = [" ".join([examples[i].text, examples[i].text_pair or ""]).lower() for i in heads]
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), dtype=np.float32).fit_transform(raw)
    links: list[tuple[ndarray, ndarray]] = []
    for start in range(0, len(heads), BLOCK):
        near = (grams[start : start + BLOCK] @ grams.T).tocoo()
        close = near.data >= NEAR
        links.append((near.row[close] + start, near.col[close]))
    rows, columns = (np.concatenate([link[side] for link in links]) for side in (0, 1))
    graph = csr_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(heads), len(heads)))
    component = connected_components(graph, directed=False)[1]
    return component[np.searchsorted(heads, owner)]
