"""Contract of ``patches``: sampling and gathering in one dispatcher call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoomkern.ops.derivatives import first_order
from zoomkern.ops.gathering import Reading, as_tensors, image_gradients, note_write, operands, track
from zoomkern.ops.library import namespace, register_shapes
from zoomkern.ops.sampling import codes, fake_draw, logits_gradient
from zoomkern.reference import patches as reference
from zoomkern.reference.offsets import ALIGNMENTS
from zoomkern.typing import PIXEL_DTYPES, ImageBatch, SampledPatches


class Drawing(NamedTuple):
    """How places are drawn, in the order of the schemas' middle arguments."""

    rows: int
    columns: int
    align: int
    num_samples: int
    sampler: int
    estimator: int
    pad: bool


@register_shapes("sample_patches")
def _(images, table, logits, mask, seed, counts, locations, conversion, *settings):  # type: ignore[no-untyped-def]
    return _fake(logits, conversion, *settings)


@register_shapes("sample_patches_out")
def _(out, images, table, logits, mask, seed, counts, locations, conversion, *settings):  # type: ignore[no-untyped-def]
    return _fake(logits, conversion, *settings)[1:]


def _fake(logits: Tensor, conversion: Tensor, *settings: Any) -> tuple[Tensor, ...]:
    """Shapes of patches, index, offsets, log_prob, weight and lse."""
    drawing, reading = Drawing(*settings[:7]), Reading(*settings[7:])
    index, log_prob, weight, lse = fake_draw(logits, drawing.num_samples)
    patches = reading.empty(logits, logits.shape[0], drawing.num_samples, conversion.shape[1])
    offsets = logits.new_empty((*index.shape, 2), dtype=torch.int64)
    return patches, index, offsets, log_prob, weight, lse


class Patches(torch.autograd.Function):
    """patches (in the layout of memory), index, offsets, log_prob, weight."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: str,
        logits: Tensor,
        conversion: Tensor,
        mask: Tensor | None,
        seed: Tensor,
        counts: Tensor | None,
        locations: Tensor | None,
        drawing: Drawing,
        reading: Reading,
        out: Tensor | None,
        table: Tensor | None,
        *images: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """``out`` and the result are in the layout of memory; patches are None where ``out`` is given."""
        settings = (list(images), table, logits, mask, seed, counts, locations, conversion, *drawing, *reading)
        native = namespace(backend)
        if out is None:
            patches, index, offsets, log_prob, weight, lse = native.sample_patches(*settings)
        else:
            index, offsets, log_prob, weight, lse = native.sample_patches_out(out, *settings)
            patches = None
        constants = [index, offsets, weight] if ctx.needs_input_grad[1] else [index, offsets, weight, log_prob]
        if patches is not None and not any(image.is_floating_point() and image.requires_grad for image in images):
            constants.append(patches)
        ctx.mark_non_differentiable(*constants)  # once: a second call would undo the first
        ctx.set_materialize_grads(False)
        read = images if any(ctx.needs_input_grad[11:]) else ()  # others may be refilled before the backward pass
        ctx.save_for_backward(logits, mask, index, lse, offsets, conversion, *read)
        ctx.images = len(images)
        ctx.backend, ctx.reading = backend, reading
        return patches, index, offsets, log_prob, weight

    @staticmethod
    @first_order
    def backward(
        ctx: Any, grad: Tensor | None, _index: None, _offsets: None, grad_log_prob: Tensor | None, _weight: None
    ) -> tuple[Tensor | None, ...]:
        """The derivatives of its two parts."""
        logits, mask, index, lse, offsets, conversion, *images = ctx.saved_tensors
        grad_logits = None
        if ctx.needs_input_grad[1] and grad_log_prob is not None:
            grad_logits = logits_gradient(ctx.backend, grad_log_prob, logits, mask, index, lse)
        grad_images: list[Tensor | None] = [None] * ctx.images
        if grad is not None and images:
            grad_images = image_gradients(ctx.backend, grad, images, offsets, conversion, ctx.reading)
        return None, grad_logits, *([None] * 9), *grad_images


def sample_patches(
    images: Tensor | Sequence[Tensor] | ImageBatch,
    logits: Tensor,
    mask: Tensor | None,
    seed: Tensor,
    counts: Tensor | None,
    locations: Tensor | None,
    conversion: Tensor,
    grid: tuple[int, int] | None,
    num_samples: int,
    sampler: str,
    estimator: str,
    pad: bool,
    align: str,
    reading: Reading,
    out: Tensor | None,
    backend: str,
) -> SampledPatches:
    """Draw and read; arguments as :func:`zoomkern.reference.patches.sample_patches`."""
    if backend == "reference":
        size, dtype = (reading.height, reading.width), PIXEL_DTYPES[reading.dtype]
        drawn = (num_samples, sampler, estimator, pad, size, reading.step, align, reading.shift, dtype)
        patches, index, offsets, log_prob, weight = reference.sample_patches(
            as_tensors(images), logits, mask, seed, counts, locations, conversion, grid, *drawn
        )
        if out is None:
            return SampledPatches(reading.view(reading.stored(patches).contiguous()), index, offsets, log_prob, weight)
        return SampledPatches(out.copy_(patches), index, offsets, log_prob, weight)
    tensors, table = operands(images)
    native = namespace(backend)
    rows, columns = grid or (0, 0)
    drawing = Drawing(rows, columns, ALIGNMENTS.index(align), num_samples, *codes(sampler, estimator), pad)
    draw = (mask, seed, counts, locations)
    stored = None if out is None else reading.stored(out)
    if track([logits, *tensors]):
        parts = Patches.apply(backend, logits, conversion, *draw, drawing, reading, stored, table, *tensors)
    elif stored is None:
        parts = native.sample_patches(tensors, table, logits, *draw, conversion, *drawing, *reading)[:5]
    else:
        given = native.sample_patches_out(stored, tensors, table, logits, *draw, conversion, *drawing, *reading)
        parts = (stored, *given[:4])
    if out is not None:
        note_write(out)
    return SampledPatches(reading.view(parts[0]) if out is None else out, *parts[1:])
