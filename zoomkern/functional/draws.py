"""Draw items from an attention."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoomkern import checks
from zoomkern.ops import backends, sampling, seeding
from zoomkern.reference.sampling import ESTIMATORS, SAMPLERS
from zoomkern.typing import Sample


class Draw(NamedTuple):
    """Checked arguments of a draw."""

    logits: Tensor
    mask: Tensor | None
    seed: Tensor
    counts: Tensor | None
    num_samples: int
    sampler: str
    estimator: str
    pad: bool
    grid: tuple[int, int] | None


def require_drawable(name: str, logits: Tensor, least: int = 1) -> None:
    """Every row of logits in host memory must have places to draw, and no NaN; on a GPU nothing waits to see.

    Args:
        name: of the logits.
        logits: ``[B, ...]``; rows without places pass.
        least: how many places are wanted.

    Raises:
        ValueError: the message names the row.
    """
    if torch.compiler.is_compiling() or logits.device.type != "cpu" or logits.numel() == 0:
        return
    rows = logits.detach().flatten(1)
    places = (rows != -torch.inf).sum(1)
    for what, bad in (("holds NaN", rows.isnan().any(1)), ("is -inf everywhere", places == 0)):
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"{name} {what} in row {row}, so no place can be drawn. Look at that row's image, "
                "and at the weights: too high a learning rate makes them NaN."
            )
    if (places < least).any():
        row = int((places < least).nonzero()[0])
        raise ValueError(
            f"{name} must leave {least} places to draw in every row; {int(places[row])} of row {row} are not -inf. "
            "Draw fewer, or mask less."
        )


def sample(
    logits: Tensor,
    num_samples: int | Tensor,
    *,
    sampler: str = "gumbel",
    estimator: str | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    on_short: str = "error",
    max_samples: int | None = None,
    seed: int | Tensor | None = None,
    generator: torch.Generator | None = None,
    backend: str | None = None,
) -> Sample:
    """Draw items from ``softmax(logits / temperature)``.

    The draw depends on the logits and the seed alone: every backend, thread count and batch split gives the same.

    Args:
        logits: ``[B, L]`` or a grid ``[B, Gh, Gw]``; -inf is never drawn.
        num_samples: ``N``, or an int64 tensor ``[B]`` of draws per row (then give ``max_samples``).
        sampler: ``gumbel`` (without replacement, in order), ``threshold`` (without replacement, least variance, spread
            along the grid), ``replacement``, or ``topk`` (the largest logits; biased, for inference).
        estimator: weight rule: ``murthy`` or ``desraj`` for ``gumbel``; the others have one. None is the first.
        mask: bool, the shape of ``logits``; True where an item may be drawn.
        temperature: positive; the logits are divided by it.
        on_short: with fewer drawable items than draws: ``error``, or ``pad`` with index -1, weight 0, log_prob 0.
        max_samples: width of the result for a tensor ``num_samples``; its maximum by default, which a GPU waits for.
        seed: int or int64 tensor, a scalar or ``[B]`` (one per row). None draws one from torch's generator.
        generator: draws the seed, in eager mode.
        backend: ``reference``, ``cpu``, ``cuda`` or ``triton``; None is the fastest that can serve the call.

    Returns:
        ``Sample(index, log_prob, weight)``, each ``[B, N]``; index is flat.

    Gradient:
        log_prob is differentiable towards logits; weights are constants.

    Memory:
        ``O(B N)`` and the survivors of the draw; ``O(B L)`` where hardly any attention is left outside the draw, and on
        the reference.

    Raises:
        ValueError: NaN or +inf logits, too few drawable items, a rule that does not belong to the sampler, bad shapes.
        TypeError: an argument of the wrong type.

    Source:
        Kool et al., ICML 2019 (Gumbel top-k); Fearnhead & Clifford, JRSS-B 2003 (threshold).

    Example:
        >>> zoomkern.sample(torch.zeros(1, 4), 4, seed=0).weight
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """
    draw = check_draw(
        logits, num_samples, sampler, estimator, mask, temperature, on_short, max_samples, seed, generator
    )
    width = draw.grid[1] if draw.grid else 0
    return Sample(*call(sampling.sample, *draw[:-1], width, choose(backend, logits.device)))


def draw_weights(
    logits: Tensor,
    index: Tensor,
    *,
    sampler: str = "gumbel",
    estimator: str | None = None,
    mask: Tensor | None = None,
    temperature: float = 1.0,
    backend: str | None = None,
) -> Sample:
    """The :class:`Sample` that :func:`sample` returns when it draws ``index``.

    Args:
        logits: ``[B, L]`` or ``[B, Gh, Gw]``.
        index: ``[B, N]`` int64, the draw in its order; -1 only behind the drawn items.
        sampler: the sampler that is taken to have made the draw.
        estimator: its weight rule.
        mask: as for :func:`sample`.
        temperature: as for :func:`sample`.
        backend: as for :func:`sample`.

    Returns:
        ``Sample(index, log_prob, weight)``.

    Raises:
        ValueError: an index outside the items, or of an item that may not be drawn, or twice in a draw without
            replacement. On a GPU a later call tells the first two, and none the third.
    """
    draw = check_draw(logits, 1, sampler, estimator, mask, temperature, "pad", None, 0, None)
    checks.tensor("index", index, "an int64 tensor [B, N]")
    checks.dtype("index", index.dtype, (torch.int64,))
    if index.ndim != 2 or index.shape[0] != logits.shape[0] or index.shape[1] == 0:
        raise ValueError(f"index must be [B, N] with B = {logits.shape[0]} and N > 0; got {list(index.shape)}.")
    checks.same_device("index", index, logits.device)
    if not torch.compiler.is_compiling() and index.device.type == "cpu":  # nothing waits for a GPU
        _check_index(index, draw)
    chosen = choose(backend, logits.device)
    given = call(sampling.draw_weights, draw.logits, draw.mask, index, draw.sampler, draw.estimator, chosen)
    return Sample(index, *given)


def choose(backend: str | None, device: torch.device) -> str:
    """The backend that serves the call."""
    if backend is not None:
        checks.choice("backend", backend, backends.BACKENDS)
    return backends.choose(backend, device)


def call(function: Any, *arguments: Any) -> Any:
    """Call an op, turning the native library's complaints about values into ``ValueError``."""
    if torch.compiler.is_compiling():
        return function(*arguments)
    try:
        return function(*arguments)
    except RuntimeError as error:
        if str(error).startswith(("logits must", "index must", "counts must", "table must")):
            raise ValueError(str(error)) from None
        raise


def check_draw(
    logits: Tensor,
    num_samples: int | Tensor,
    sampler: str,
    estimator: str | None,
    mask: Tensor | None,
    temperature: float,
    on_short: str,
    max_samples: int | None,
    seed: int | Tensor | None,
    generator: torch.Generator | None,
) -> Draw:
    """Checked arguments of a draw: grids flattened, logits divided by the temperature, a seed drawn."""
    checks.tensor("logits", logits, "a tensor [B, L] or [B, Gh, Gw]")
    checks.dtype("logits", logits.dtype, checks.FLOATS)
    if logits.ndim not in (2, 3):
        cure = " For one row pass logits[None]." if logits.ndim == 1 else ""
        if logits.ndim == 4 and logits.shape[1] == 1:
            cure = " Drop the channel with logits.squeeze(1)."
        raise ValueError(f"logits must be [B, L] or a grid [B, Gh, Gw]; got {list(logits.shape)}.{cure}")
    checks.choice("sampler", sampler, SAMPLERS)
    rules = ESTIMATORS[sampler]
    if estimator is not None and estimator not in rules:
        known = " or ".join(map(repr, rules))
        raise ValueError(f"estimator of sampler {sampler!r} must be {known}; got {estimator!r}.")
    if mask is not None:
        checks.tensor("mask", mask, "a bool tensor of the shape of logits")
        checks.dtype("mask", mask.dtype, (torch.bool,))
        checks.shape("mask", mask, tuple(logits.shape), "the shape of logits")
        checks.same_device("mask", mask, logits.device)
        mask = mask.flatten(1)
    temperature = checks.temperature(temperature)
    checks.choice("on_short", on_short, ("error", "pad"))
    batch, grid = logits.shape[0], (logits.shape[1], logits.shape[2]) if logits.ndim == 3 else None
    counts, draws = _check_counts(num_samples, max_samples, batch, logits.device)
    flat = logits.flatten(1) if grid else logits
    if temperature != 1.0:
        flat = (flat.float() if flat.dtype.itemsize == 2 else flat) / temperature  # float16 might overflow
    pad = on_short == "pad"
    if not pad and draws > flat.shape[1] and sampler != "replacement" and counts is None and batch:
        raise ValueError(
            f"num_samples must be at most {flat.shape[1]}, the number of items; got {draws}. "
            "Draw fewer, pass on_short='pad', or sampler='replacement'."
        )
    chosen_seed = check_seed(seed, generator, batch, logits.device)
    return Draw(flat, mask, chosen_seed, counts, draws, sampler, estimator or rules[0], pad, grid)


def _check_counts(
    num_samples: int | Tensor, max_samples: int | None, batch: int, device: torch.device
) -> tuple[Tensor | None, int]:
    if not isinstance(num_samples, Tensor):
        if max_samples is not None:
            raise ValueError("max_samples goes with a tensor num_samples; got an int num_samples. Drop max_samples.")
        return None, checks.integer("num_samples", num_samples, 1)
    checks.tensor("num_samples", num_samples, "an int or an int64 tensor [B]")
    checks.dtype("num_samples", num_samples.dtype, (torch.int64,))
    checks.shape("num_samples", num_samples, (batch,), "[B]")
    checks.same_device("num_samples", num_samples, device)
    if max_samples is None:
        if torch.compiler.is_compiling():
            raise ValueError("max_samples must be given beside a tensor num_samples in a compiled function; got None.")
        max_samples = max(int(num_samples.max()), 1) if batch else 1
    most = checks.integer("max_samples", max_samples, 1)
    if not torch.compiler.is_compiling() and device.type == "cpu" and batch:
        low, high = int(num_samples.min()), int(num_samples.max())
        if low < 0 or high > most:
            raise ValueError(f"num_samples must be between 0 and max_samples = {most}; got {low} to {high}.")
    return num_samples, most


def check_seed(
    seed: int | Tensor | None, generator: torch.Generator | None, batch: int, device: torch.device
) -> Tensor:
    """An int64 seed on ``device``, a scalar or ``[B]``: the given one, or one from torch's generator."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator; got {type(generator).__name__}. Pass an int as seed=.")
    if seed is None:
        if generator is not None and generator.device.type != device.type:
            raise ValueError(f"generator must be on {device}, like logits; got {generator.device}.")
        return seeding.draw_seed(device, generator)
    if generator is not None:
        raise ValueError("seed and generator exclude each other; got both. Pass one.")
    if not isinstance(seed, Tensor):
        value = checks.integer("seed", seed, seeding.LOWEST, (1 << 64) - 1)
        signed = value - (1 << 64) if value > seeding.HIGHEST else value
        return torch.full((), signed, dtype=torch.int64, device=device)  # a GPU fills it without a copy from the host
    checks.tensor("seed", seed, "an int or an int64 tensor")
    checks.dtype("seed", seed.dtype, (torch.int64,))
    checks.same_device("seed", seed, device)
    if seed.ndim and tuple(seed.shape) != (batch,):
        raise ValueError(f"seed must be a scalar or [B] = [{batch}]; got {list(seed.shape)}.")
    return seed


def _check_index(index: Tensor, draw: Draw) -> None:
    """Each row of ``index`` must be a draw that the sampler can make."""
    if index.numel() == 0:
        return
    items = draw.logits.shape[1]
    low, high = int(index.min()), int(index.max())
    if low < -1 or high >= items:
        raise ValueError(f"index must be -1 or in [0, {items}); got {low} to {high}.")
    drawn = index >= 0
    if bool((drawn[:, 1:] & ~drawn[:, :-1]).any()):
        raise ValueError("index must have -1 only behind the drawn items; got -1 before one. Move it to the end.")
    if items == 0:
        return
    open_items = draw.logits != -torch.inf
    if draw.mask is not None:
        open_items = open_items & draw.mask
    wrong = drawn & ~open_items.gather(1, index.clamp(min=0))
    if bool(wrong.any()):
        row, place = (int(i) for i in wrong.nonzero()[0])
        item = int(index[row, place])
        raise ValueError(f"index must name items that may be drawn; got {item} in row {row}, masked or of logit -inf.")
    ordered = index.sort(dim=1).values
    again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if draw.sampler != "replacement" and bool(again.any()):
        row, place = (int(i) for i in again.nonzero()[0])
        item = int(ordered[row, place])
        raise ValueError(
            f"index must name an item once, without replacement; got item {item} twice in row {row}. "
            "Pass sampler='replacement'."
        )
