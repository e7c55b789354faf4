"""What every whole network offers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class Network(nn.Module):
    """A network from images to class scores.

    Its ``forward(*inputs, seed=None)`` returns a named tuple whose first entry, ``scores``, is ``[B, K]`` before the
    softmax. A network that draws nothing takes a seed all the same, so that all are called alike.

    Attributes:
        inputs: what ``forward`` takes, in this order: some of "images" (full resolution, where they lie), "view" (low
            resolution, on the network's device) and "tile_view".
    """

    inputs: tuple[str, ...]

    @torch.no_grad()
    def predict(self, *inputs: Any, seed: int | Tensor | None = None) -> Tensor:
        """Class probabilities ``[B, K]``, float32 or better, in evaluation mode whatever mode the network is in.

        Args:
            *inputs: as for ``forward``.
            seed: as for ``forward``.
        """
        with evaluating(self):
            scores: Tensor = self(*inputs, seed=seed).scores
        return (scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores).softmax(1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards each part is in the mode it was in, frozen ones included."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


@contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """Norms that normalise by what they are given leave their running statistics as they are, for a while.

    Activation checkpointing runs a pass again in backward, after that while, and there the statistics move.
    """
    norms = [part for part in module.modules() if isinstance(part, _NormBase) and part.track_running_stats]
    before: list[Any] = [(norm, norm.running_mean, norm.running_var, norm.num_batches_tracked) for norm in norms]
    for norm, *buffers in before:  # not a momentum of 0, which would let NaN in
        norm.running_mean, norm.running_var, norm.num_batches_tracked = (buffer.clone() for buffer in buffers)
    try:
        yield
    finally:
        for norm, mean, var, count in before:
            norm.running_mean, norm.running_var, norm.num_batches_tracked = mean, var, count


def device_of(module: nn.Module) -> torch.device:
    """Where the network's parameters are."""
    return next(module.parameters()).device
