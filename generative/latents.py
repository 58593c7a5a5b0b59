"""The latents that training left behind, to draw from where no sample can be encoded.

A published way to predict: encode all training samples, keep the latents, and give each new
condition one of them at random, or a draw of the Gaussian that fits them. It is right only if
latents do not depend on the condition; a prior given the condition needs no such luck.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_KEPT = 4096  #: latents that are stored, a random subset


class Latents(nn.Module):
    """A random subset of the latents of a training, and the Gaussian that fits them all.

    Until `learn` has been called they are those of a standard normal.

    Parameters
    ----------
    size : int
        Of a latent.
    """

    stored: Tensor
    mean: Tensor
    factor: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self.register_buffer("stored", torch.randn(_KEPT, size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("factor", torch.eye(size))

    def learn(self, latents: Iterable[Tensor]) -> None:
        """Take in all latents of a training, in batches (m, size)."""
        kept = keys = torch.empty(0)
        count, mean = 0, torch.zeros(self.size, dtype=torch.float64)
        square = torch.zeros(self.size, self.size, dtype=torch.float64)
        for batch in latents:
            # those of the largest of random keys are a subset in which all are as probable
            keys = torch.cat([keys, torch.rand(len(batch))])
            rows = batch.detach().cpu()
            kept = torch.cat([kept.to(rows).reshape(-1, self.size), rows])
            keys, best = keys.topk(min(_KEPT, len(keys)))
            kept = kept[best]
            off = rows.double() - mean
            step = off.sum(0) / (count + len(rows))
            count += len(rows)
            square += off.mT @ off - count * torch.outer(step, step)
            mean += step
        if not count:
            msg = "no latents to learn"
            raise ValueError(msg)
        # of fewer events than places some have several
        self.stored.copy_(kept[torch.arange(_KEPT) % len(kept)])
        self.mean.copy_(mean)
        # a latent that nothing moves has no width, and a triangular factor wants some
        tiny = 1e-12 * torch.eye(self.size, dtype=torch.float64)
        self.factor.copy_(torch.linalg.cholesky(square / count + tiny))

    def draw_stored(self, m: int, n: int, generator: torch.Generator) -> Tensor:
        """Return (m, n, size) of the stored latents, each as probable."""
        rows = torch.randint(
            len(self.stored), (m, n), generator=generator, device=self.stored.device
        )
        return self.stored[rows]

    def draw_gaussian(self, m: int, n: int, generator: torch.Generator) -> Tensor:
        """Return (m, n, size) of the fitted Gaussian."""
        z = torch.randn(
            *(m, n, self.size),
            generator=generator,
            device=self.mean.device,
            dtype=self.mean.dtype,
        )
        return self.mean + z @ self.factor.mT
