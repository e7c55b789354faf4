"""One seed per call, from torch's own generator."""

from __future__ import annotations

import torch
from torch import Tensor

from zoomkern.ops.library import LIBRARY

LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1


@torch.library.impl(LIBRARY, "draw_seed", "CompositeExplicitAutograd")
def _draw_seed(device: torch.device) -> Tensor:
    return torch.randint(LOWEST, HIGHEST, (), dtype=torch.int64, device=device)


@torch.library.register_fake("zoomkern::draw_seed", lib=LIBRARY)
def _(device: torch.device) -> Tensor:
    return torch.empty((), dtype=torch.int64, device=device)


def draw_seed(device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """A scalar int64 seed; ``torch.manual_seed``, checkpointing and compiled graphs treat it like any torch noise."""
    if generator is not None or not torch.compiler.is_compiling():  # the op's own call, without its dispatch
        return torch.randint(LOWEST, HIGHEST, (), dtype=torch.int64, device=device, generator=generator)
    return torch.ops.zoomkern.draw_seed(device)
