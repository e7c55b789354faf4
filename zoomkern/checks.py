"""Arguments of the public functions: each error says what was given, what is needed and what to do."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MOST_PIXELS = (1 << 31) - 1
MOST_BYTES = 1 << 47  # of a result: what a process can address
LARGEST = torch.finfo(torch.float32).max
TEMPERATURES = (1e-30, 1e30)  # between which a float32 division neither underflows nor overflows by itself


def tensor(name: str, value: Any, what: str) -> Tensor:
    """``value``, which must be a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be {what}; got {type(value).__name__}. Make one with torch.as_tensor(...).")
    dense(name, value)
    if value.is_meta:
        raise ValueError(f"{name} must have data; got a tensor on meta. Make it on the cpu or on a GPU.")
    return value


def dense(name: str, value: Tensor) -> None:
    """``value`` must be neither sparse, nested, quantized nor complex."""
    if value.layout is not torch.strided or value.is_nested or value.is_quantized or value.is_complex():
        kind = f"nested {value.dtype}" if value.is_nested else f"{value.layout} {value.dtype}"
        raise TypeError(f"{name} must be a dense, real tensor; got {kind}. Use .to_dense() or .real.")


def sample(name: str, value: Any, dims: Sequence[int] = (2,)) -> None:
    """``value`` must be a draw: index, log_prob and weight of one shape on one device."""
    parts: dict[str, Any] = {part: getattr(value, part, None) for part in ("index", "log_prob", "weight")}
    if not all(isinstance(part, Tensor) for part in parts.values()):
        raise TypeError(
            f"{name} must be a Sample or SampledPatches; got {type(value).__name__}. Pass what zoomkern.sample returns."
        )
    index = parts["index"]
    for part, given in parts.items():
        tensor(f"{name}.{part}", given, "a tensor")
        dtype(f"{name}.{part}", given.dtype, (torch.int64,) if part == "index" else FLOATS)
        shape(f"{name}.{part}", given, tuple(index.shape), f"the shape of {name}.index")
        same_device(f"{name}.{part}", given, index.device, f"{name}.index")
    if index.ndim not in dims:
        letters = " or ".join({2: "[B, N]", 3: "[B, T, n]"}[count] for count in dims)
        raise ValueError(f"{name} must be a draw {letters}; got {list(index.shape)}. Reshape its parts.")


def integer(name: str, value: Any, least: int, most: int = MOST_PIXELS) -> int:
    """``value`` as an int in ``[least, most]``."""
    if type(value) is int and least <= value <= most:
        return value
    if isinstance(value, (bool, Tensor)) or not isinstance(value, (int, torch.SymInt, numbers.Integral)):
        raise TypeError(f"{name} must be an int; got {type(value).__name__} {value!r}.")
    number: Any = value
    if not least <= number <= most:
        raise ValueError(f"{name} must be between {least} and {most}; got {number}.")
    return number if isinstance(number, torch.SymInt) else int(number)  # type: ignore[return-value]


def _real(name: str, value: Any) -> float:
    if isinstance(value, (bool, Tensor)) or not isinstance(value, (float, numbers.Real)):
        raise TypeError(f"{name} must be a number; got {type(value).__name__} {value!r}. Pass a positive float.")
    number: Any = value
    try:
        return float(number)
    except OverflowError:  # an int beyond every float
        return float("inf") if number > 0 else -float("inf")


def number(name: str, value: Any) -> float:
    """``value`` as a positive, finite float."""
    given = _real(name, value)
    if not 0 < given < float("inf"):
        raise ValueError(f"{name} must be positive and finite; got {given}. Leave it out if it is unknown.")
    return given


def share(name: str, value: Any) -> float:
    """``value`` as a float in (0, 1]."""
    given = _real(name, value)
    if not 0 < given <= 1:
        raise ValueError(f"{name} must lie in (0, 1], 1 being full resolution; got {given}.")
    return given


def pair(name: str, value: Any) -> tuple[int, int]:
    """``(height, width)``, from two ints or one."""
    if isinstance(value, (numbers.Integral, torch.SymInt)) and not isinstance(value, bool):
        value = (value, value)
    if isinstance(value, Tensor) or not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"{name} must be (height, width) or one int; got {value!r}.")
    return integer(f"{name}[0]", value[0], 1), integer(f"{name}[1]", value[1], 1)


def temperature(value: Any) -> float:
    """``value``, which must be positive and neither tiny nor huge."""
    given = value if type(value) is float else _real("temperature", value)
    least, most = TEMPERATURES
    if not least <= given <= most:
        raise ValueError(f"temperature must be positive, between {least:g} and {most:g}; got {given}. Try 1.")
    return given


def pixels(name: str, value: Tensor, channels: int) -> None:
    """``value`` must be floating point ``[..., channels, h, w]``, as a network's first layer takes it."""
    if not value.is_floating_point():
        raise TypeError(
            f"{name} must be floating point; got {value.dtype}. Divide bytes by 255 to have them in [0, 1]."
        )
    if value.ndim < 3 or value.shape[-3] != channels:
        raise ValueError(
            f"{name} must be [..., C, h, w] with C = {channels} channels, in_channels of this network; got "
            f"{list(value.shape)}. Make the network with as many channels as the images have, or convert the images."
        )


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """``value``, which must be one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
    return str(value)


def same_device(name: str, value: Tensor, device: torch.device, like: str = "logits") -> None:
    """``value`` must lie on ``device``, where the argument ``like`` is."""
    if value.device != device:
        cure = f"Move it with .to({str(device)!r})"
        raise ValueError(f"{name} must be on {device}, like {like}; got {value.device}. {cure}.")


def shape(name: str, value: Tensor, wanted: tuple[int, ...], letters: str) -> None:
    """``value`` must have the shape ``wanted``, which ``letters`` spells."""
    if tuple(value.shape) != wanted:
        raise ValueError(f"{name} must be {letters} = {list(wanted)}; got {list(value.shape)}.")


def dtype(name: str, value: Any, allowed: Sequence[torch.dtype]) -> None:
    """``value`` must be one of ``allowed``."""
    if not isinstance(value, torch.dtype) or value not in allowed:
        names = [str(d).removeprefix("torch.") for d in allowed]
        cure = f"Pass torch.{names[0]}" if name == "dtype" else f"Convert it with .to(torch.{names[0]})"
        raise TypeError(f"{name} must be {' or '.join(names)}; got {value!r}. {cure}.")


def channel_values(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """One finite float per channel, from a number, a sequence, an array or a tensor."""
    if isinstance(value, Tensor):
        value = tensor(name, value, "numbers").tolist()
    elif not _is_number(value) and hasattr(value, "tolist"):
        value = value.tolist()
    if _is_number(value):
        value = (value,) * channels
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(map(_is_number, value)):
        raise TypeError(f"{name} must be a number or {channels} of them; got {value!r}.")
    if len(value) == 1:
        value = tuple(value) * channels
    if len(value) != channels:
        raise ValueError(f"{name} must have one value for each of {channels} channels; got {len(value)}.")
    if not all(abs(v) <= LARGEST for v in value):
        raise ValueError(f"{name} must be finite, in float32 too; got {tuple(value)}.")
    return tuple(map(float, value))


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) or (isinstance(value, numbers.Real) and not isinstance(value, bool))


#: Scale, shift and fill of every channel.
Rows = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]


def conversion(channels: int, divisor: float | None, scale: Any, shift: Any, mean: Any, std: Any, fill: Any) -> Rows:
    """Scale, shift and fill of ``out = pixel * scale + shift``.

    ``mean`` and ``std`` stand for ``scale = 1 / (divisor std)`` and ``shift = -mean / std``, where the divisor brings
    integer pixels into [0, 1].
    """
    if mean is None and std is None:
        scales = channel_values("scale", 1.0 if scale is None else scale, channels)
        shifts = channel_values("shift", 0.0 if shift is None else shift, channels)
        return scales, shifts, channel_values("fill", fill, channels)
    if scale is not None or shift is not None:
        raise ValueError("mean and std replace scale and shift; got both. Pass one pair.")
    if divisor is None:
        raise ValueError("mean and std need images of one pixel type; got several. Pass scale and shift instead.")
    means = channel_values("mean", 0.0 if mean is None else mean, channels)
    stds = channel_values("std", 1.0 if std is None else std, channels)
    if not all(s > 0 for s in stds):
        raise ValueError(f"std must be positive; got {stds}.")
    if divisor > 1 and max(means) > 1:
        raise ValueError(
            f"mean must be of pixels in [0, 1], for integers are divided by {divisor:g} first; got {means}. "
            f"Divide mean and std by {divisor:g}, or pass scale and shift."
        )
    scales = tuple(1 / (divisor * s) for s in stds)
    shifts = tuple(-m / s for m, s in zip(means, stds, strict=True))
    if not all(abs(v) <= LARGEST for v in (*scales, *shifts)):
        raise ValueError(f"std must not be so small that 1 / std or mean / std overflows; got {stds}.")
    return scales, shifts, channel_values("fill", fill, channels)
