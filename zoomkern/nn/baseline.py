"""Baselines: constants that quieten the attention's gradient without moving it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zoomkern import checks


class RunningMeanBaseline(nn.Module):
    """Exponential running mean of pooled features.

    ``expectation(..., baseline=b)`` adds and subtracts ``b``, so the pooled value stays what it is, and its gradient
    stays unbiased as long as ``b`` does not depend on the present draw. Therefore the module hands out the mean of the
    steps *before* this one, and learns from this step only afterwards, through :meth:`update`.

    A compiled step replaces the buffers instead of writing to them: read ``baseline.mean`` anew, and do not compile a
    step whose buffers something else holds, as ``DistributedDataParallel`` does to broadcast them.

    The first steps are averaged evenly until ``1 / steps`` falls below ``momentum``: no start at zero lingers.

    Args:
        num_features: feature size ``D``.
        momentum: weight of the newest step in the running mean.

    Example:
        >>> baseline = RunningMeanBaseline(32)
        >>> pooled = expectation(features, sample, baseline=baseline())
        >>> baseline.update(pooled)
    """

    mean: Tensor
    steps: Tensor

    def __init__(self, num_features: int, momentum: float = 0.05) -> None:
        super().__init__()
        if not 0.0 < momentum <= 1.0:
            raise ValueError(f"RunningMeanBaseline: momentum must lie in (0, 1]; got {momentum}.")
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self) -> Tensor:
        """The mean of the steps before this one, ``[D]``; 0 before the first."""
        return self.mean.clone()  # a later update must not change what a backward pass has saved

    @torch.no_grad()
    def update(self, pooled: Tensor) -> None:
        """Take this step into the mean; nothing happens in evaluation mode, for an empty batch or one that overflowed.

        Where several processes train together, all must call, and the mean is that of their joint batch; a process
        that has nothing to add gives an empty batch.

        Args:
            pooled: ``[B, D]`` pooled features of this step.
        """
        checks.shape("pooled", pooled, (len(pooled), len(self.mean)), "[B, D]")
        alone = not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
        if not self.training or (alone and pooled.shape[0] == 0):
            return
        total, count = pooled.detach().to(self.mean.dtype).sum(0), self.mean.new_full((), pooled.shape[0])
        if not alone:
            everywhere = torch.cat((total, count[None]))
            dist.all_reduce(everywhere)
            total, count = everywhere[:-1], everywhere[-1]
        counted = (count > 0) & total.isfinite().all()
        steps = self.steps + counted
        rate = (1.0 / steps).clamp(min=self.momentum)
        mean = torch.where(counted, self.mean + rate * (total / count.clamp(min=1) - self.mean), self.mean)
        if torch.compiler.is_compiling():  # a compiled backward pass may compute the old mean again, from the buffer
            self.steps, self.mean = steps, mean
        else:  # a captured graph reads the buffer where it lies
            self.steps.copy_(steps)
            self.mean.copy_(mean)
