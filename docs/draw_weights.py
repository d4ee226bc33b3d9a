"""Draws the pictures of docs/losses.md: `python docs/draw_weights.py` writes docs/assets/weights/NAME.svg.

Each shows a loss's weight for a model's probability of the given label (across) and a checker's (up). The weights are
computed by `synthweight.losses.functional`, in fp64.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from synthweight.losses import functional as F

FOLDER = Path(__file__).resolve().parent / "assets" / "weights"
CELLS = 20  # along an axis; a cell shows the weight at its middle
NUMBERS = (0.1, 0.3, 0.5, 0.7, 0.9)  # where the weight is also written
SIDE, LEFT, TOP = 300, 58, 34  # of the square, and its place in the picture, in px
LOW, MIDDLE, HIGH = (217, 140, 46), (247, 247, 244), (86, 160, 211)  # colours of w ≤ 1/8, w = 1, w ≥ 8
MODEL, QUALITY, DIVERSITY = (
    "p̂(y|x; θ), the model",
    "p̂'(y|x), the quality checker",
    "q̂(y|x), the diversity checker",
)


def rho(log_quality: Tensor, nll: Tensor) -> Tensor:
    """1 for the half that `loss=rho` trains on, where the candidates lie evenly over the square, else 0."""
    return (F.dimp_weights(log_quality, nll) > 1).to(nll.dtype)


# name → title, axis across, weights from log p̂' (up) and −log of the probability across
PICTURES: dict[str, tuple[str, str, Callable[[Tensor, Tensor], Tensor]]] = {
    "ce": ("w = 1", MODEL, lambda quality, nll: torch.ones_like(nll)),
    "focal": ("w = 1 − p̂(y|x; θ)", MODEL, lambda quality, nll: F.focal_weights(nll, gamma=1.0)),
    "imp": ("w = p̂'(y|x) / q̂(y|x)", DIVERSITY, lambda quality, nll: F.imp_weights(quality, -nll)),
    "dimp": ("w = p̂'(y|x) / p̂(y|x; θ)", MODEL, F.dimp_weights),
    "quality_only": ("w = p̂'(y|x)", MODEL, lambda quality, nll: F.quality_weights(quality)),
    "filter": (
        "w = 1 where p̂'(y|x) > 0.5, else 0",
        MODEL,
        lambda quality, nll: F.filter_weights(quality, threshold=0.5, renormalise=False),
    ),
    "rho": ("w = 1 where p̂'(y|x) > p̂(y|x; θ), else 0", MODEL, rho),
}


def grid(points: Tensor, weigh: Callable[[Tensor, Tensor], Tensor]) -> list[list[float]]:
    """The weights at all pairs of probabilities.

    Args:
        points: Probabilities, [n].
        weigh: Weights from log p̂' and −log of the probability across.

    Returns:
        Rows by the checker's probability, columns by the other.
    """
    quality, across = (axis.reshape(-1) for axis in torch.meshgrid(points, points, indexing="ij"))
    return weigh(quality.log(), -across.log()).reshape(len(points), len(points)).tolist()


def colour(weight: float) -> str:
    """From orange (w ≤ 1/8) over white (w = 1) to blue (w ≥ 8), even in log w; 16 steps each way."""
    log2 = round(max(-3.0, min(3.0, torch.tensor(weight).log2().item())) * 16 / 3) / 16
    end = HIGH if log2 > 0 else LOW
    return "#" + "".join(f"{round(m + (e - m) * abs(log2)):02x}" for m, e in zip(MIDDLE, end, strict=True))


def picture(title: str, across: str, weigh: Callable[[Tensor, Tensor], Tensor]) -> str:
    """The picture as SVG, on a ground of its own, so that it can be read on light and on dark pages.

    Args:
        title: Above the square.
        across: Below it.
        weigh: Weights from log p̂' and −log of the probability across.
    """
    side = SIDE / CELLS
    middles = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="380" height="390" viewBox="0 0 380 390"'
        ' font-family="sans-serif" font-size="13" fill="#222" text-anchor="middle">',
        '<rect width="380" height="390" rx="8" fill="#fff"/>',
        f'<text x="{LEFT + SIDE / 2:g}" y="22" font-size="14">{title.replace("<", "&lt;")}</text>',
    ]
    for row, weights in enumerate(grid(middles, weigh)):
        y, start = TOP + SIDE - (row + 1) * side, 0
        colours = [colour(weight) for weight in weights]
        for column in range(1, CELLS + 1):
            if column == CELLS or colours[column] != colours[start]:
                x, width = LEFT + start * side, (column - start) * side
                lines.append(
                    f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{side:g}" fill="{colours[start]}"/>'
                )
                start = column
    points = torch.tensor(NUMBERS, dtype=torch.float64)
    for at_y, weights in zip(NUMBERS, grid(points, weigh), strict=True):
        for at_x, weight in zip(NUMBERS, weights, strict=True):
            x, y = LEFT + at_x * SIDE, TOP + SIDE - at_y * SIDE + 4
            lines.append(f'<text x="{x:g}" y="{y:g}" font-size="12">{weight:.2g}</text>')
    lines.append(f'<rect x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#666"/>')
    for at in (0, 0.5, 1):
        lines.append(f'<text x="{LEFT + at * SIDE:g}" y="{TOP + SIDE + 18}">{at:g}</text>')
        lines.append(
            f'<text x="{LEFT - 8}" y="{TOP + SIDE - at * SIDE + 4:g}" text-anchor="end">{at:g}</text>'
        )
    lines.append(f'<text x="{LEFT + SIDE / 2:g}" y="{TOP + SIDE + 42}">{across}</text>')
    lines.append(f'<text transform="translate(18 {TOP + SIDE / 2:g}) rotate(-90)">{QUALITY}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, drawing in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(picture(*drawing), encoding="utf-8")
