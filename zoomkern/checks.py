"""Arguments of the public functions: each error says what was given, what is needed and what to do."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MOST_PIXELS = (1 << 31) - 1


def tensor(name: str, value: Any, what: str) -> Tensor:
    """``value``, which must be a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be {what}; got {type(value).__name__}. Make one with torch.as_tensor(...).")
    if value.is_sparse or value.is_quantized or value.is_complex():
        raise TypeError(f"{name} must be a dense, real tensor; got {value.layout} {value.dtype}. Use .to_dense() or .real.")
    return value


def integer(name: str, value: Any, least: int, most: int = MOST_PIXELS) -> int:
    """``value`` as an int in ``[least, most]``."""
    if isinstance(value, (bool, Tensor)) or not isinstance(value, (numbers.Integral, torch.SymInt)):
        raise TypeError(f"{name} must be an int; got {type(value).__name__} {value!r}.")
    if not least <= value <= most:
        raise ValueError(f"{name} must be between {least} and {most}; got {value}.")
    return value if isinstance(value, torch.SymInt) else int(value)


def pair(name: str, value: Any) -> tuple[int, int]:
    """``(height, width)``, from two ints or one."""
    if isinstance(value, (numbers.Integral, torch.SymInt)) and not isinstance(value, bool):
        value = (value, value)
    if isinstance(value, Tensor) or not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"{name} must be (height, width) or one int; got {value!r}.")
    return integer(f"{name}[0]", value[0], 1), integer(f"{name}[1]", value[1], 1)


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """``value``, which must be one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
    return str(value)


def same_device(name: str, value: Tensor, device: torch.device) -> None:
    """``value`` must lie on ``device``, where the logits are."""
    if value.device != device:
        raise ValueError(f"{name} must be on {device}, like logits; got {value.device}. Move it with .to({device}).")


def shape(name: str, value: Tensor, wanted: tuple[int, ...], letters: str) -> None:
    """``value`` must have the shape ``wanted``, which ``letters`` spells."""
    if tuple(value.shape) != wanted:
        raise ValueError(f"{name} must be {letters} = {list(wanted)}; got {list(value.shape)}.")


def dtype(name: str, value: Any, allowed: Sequence[torch.dtype]) -> None:
    """``value`` must be one of ``allowed``."""
    if value not in allowed:
        names = ", ".join(str(d).removeprefix("torch.") for d in allowed)
        raise TypeError(f"{name} must be {names}; got {value}. Convert with .to(torch.{names.split(', ')[0]}).")


def channel_values(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """One finite float per channel, from a number, a sequence or a tensor."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, numbers.Real):
        value = (value,) * channels
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, numbers.Real) for v in value):
        raise TypeError(f"{name} must be a number or {channels} of them; got {value!r}.")
    if len(value) == 1:
        value = tuple(value) * channels
    if len(value) != channels:
        raise ValueError(f"{name} must have one value for each of {channels} channels; got {len(value)}.")
    if not all(math.isfinite(v) for v in value):
        raise ValueError(f"{name} must be finite; got {tuple(value)}.")
    return tuple(float(v) for v in value)


def conversion(
    channels: int, divisor: float | None, scale: Any, shift: Any, mean: Any, std: Any, fill: Any
) -> Tensor:
    """``[3, C]`` float64: scale, shift and fill of ``out = pixel * scale + shift``.

    ``mean`` and ``std`` stand for ``scale = 1 / (divisor std)`` and ``shift = -mean / std``, where the divisor brings
    integer pixels into [0, 1].
    """
    if mean is None and std is None:
        rows = [1.0 if scale is None else scale, 0.0 if shift is None else shift, fill]
        names = ("scale", "shift", "fill")
        return _conversion(tuple(channel_values(n, r, channels) for n, r in zip(names, rows, strict=True)))
    if scale is not None or shift is not None:
        raise ValueError("mean and std replace scale and shift; got both. Pass one pair.")
    if divisor is None:
        raise ValueError("mean and std need images of one pixel type; got several. Pass scale and shift instead.")
    means = channel_values("mean", 0.0 if mean is None else mean, channels)
    stds = channel_values("std", 1.0 if std is None else std, channels)
    if not all(s > 0 for s in stds):
        raise ValueError(f"std must be positive; got {stds}.")
    scales = tuple(1 / (divisor * s) for s in stds)
    shifts = tuple(-m / s for m, s in zip(means, stds, strict=True))
    return _conversion((scales, shifts, channel_values("fill", fill, channels)))


@lru_cache(maxsize=256)
def _conversion(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)
