"""Plain networks that models are built of."""

from collections.abc import Sequence

from torch import Tensor, nn

ACTIVATIONS = {"elu": nn.ELU, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


def never_empty(c: Tensor) -> Tensor:
    """Return vectors (m, k), or a constant where k = 0: a layer needs an input."""
    return c if c.shape[1] else c.new_ones(len(c), 1)


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, *, activation: str = "silu"
) -> nn.Sequential:
    """Return dense layers with an activation after each but the last.

    Raises
    ------
    ValueError
        If a width is not positive or the activation is unknown.
    """
    if activation not in ACTIVATIONS:
        msg = f"activation must be {', '.join(ACTIVATIONS)}, got {activation!r}"
        raise ValueError(msg)
    if any(width < 1 for width in (*hidden, outputs)):
        msg = f"widths must be at least 1, got {list(hidden)} and {outputs}"
        raise ValueError(msg)
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), ACTIVATIONS[activation]()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class Residual(nn.Module):
    """Blocks x + f(norm(x)) of one width, between two dense layers."""

    def __init__(self, inputs: int, width: int, blocks: int, outputs: int, *, activation: str):
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, width),
                ACTIVATIONS[activation](),
                nn.Linear(width, width),
            )
            for _ in range(blocks)
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h)
        return self.leave(h)
