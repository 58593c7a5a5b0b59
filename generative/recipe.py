"""How a model is fitted: the choices of a training, which check themselves."""

import math
from dataclasses import dataclass


class TrainingError(FloatingPointError):
    """The loss stopped being finite; what was best before is kept."""

    exit_code = 1


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is fitted."""

    epochs: int = 100
    batch_size: int = 512
    learning_rate: float = 1e-3  #: the largest: it rises over `warmup`, then falls
    warmup: int = 200  #: steps
    schedule: str = "cosine"  #: to zero at the last step; or "constant"
    optimizer: str = "adam"  #: or "muon", where matrices take orthogonal steps
    patience: int = 20  #: epochs without a better validation loss, then it ends; 0: never
    clip: float = 1.0  #: largest length of the gradient; 0: any
    weight_decay: float = 0.0
    ema: float = 0.0  #: decay of the running mean of parameters that is kept; 0: the last
    precision: str = "float32"  #: or "bf16": mixed, the parameters stay float32
    compiled: bool = False  #: by torch.compile; on a GPU steps are captured as graphs
    seed: int = 1

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                msg = f"{name} must be at least 1, got {getattr(self, name)}"
                raise ValueError(msg)
        for name in ("warmup", "patience", "clip", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"{name} must be 0 or more, got {getattr(self, name)}"
                raise ValueError(msg)
        if not 0 < self.learning_rate < math.inf or not 0 <= self.ema < 1:
            msg = f"learning_rate must be positive and ema within [0, 1), got {self}"
            raise ValueError(msg)
        if self.schedule not in ("cosine", "constant"):
            msg = f"schedule must be cosine or constant, got {self.schedule!r}"
            raise ValueError(msg)
        if self.optimizer not in ("adam", "muon"):
            msg = f"optimizer must be adam or muon, got {self.optimizer!r}"
            raise ValueError(msg)
        if self.precision not in ("float32", "bf16"):
            msg = f"precision must be float32 or bf16, got {self.precision!r}"
            raise ValueError(msg)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, of `steps` in all."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        if self.schedule == "constant":
            return self.learning_rate * rise
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
