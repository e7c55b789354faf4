"""Contract of ``gathering``: read patches out of images and convert their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoomkern.ops.derivatives import first_order
from zoomkern.ops.library import namespace, register_shapes
from zoomkern.reference import gathering as reference
from zoomkern.typing import PIXEL_DTYPES, ImageBatch


class Reading(NamedTuple):
    """How patches are read, in the order of the schemas' last arguments."""

    height: int
    width: int
    step: int
    shift: bool
    dtype: int
    channels_last: bool

    def empty(self, like: Tensor, batch: int, draws: int, channels: int) -> Tensor:
        """An unwritten result, in the layout of memory: channels in the last place if ``channels_last``."""
        pixels = (self.height, self.width)
        shape = (*pixels, channels) if self.channels_last else (channels, *pixels)
        return like.new_empty((batch, draws, *shape), dtype=PIXEL_DTYPES[self.dtype])

    def view(self, stored: Tensor) -> Tensor:
        """``[B, N, C, Ph, Pw]`` from the layout of memory."""
        return stored.permute(0, 1, 4, 2, 3) if self.channels_last else stored

    def stored(self, view: Tensor) -> Tensor:
        """The layout of memory from ``[B, N, C, Ph, Pw]``."""
        return view.permute(0, 1, 3, 4, 2) if self.channels_last else view


def operands(images: Tensor | Sequence[Tensor] | ImageBatch) -> tuple[list[Tensor], Tensor | None]:
    """The two ways by which an op is given images: tensors (one ``[B, C, H, W]`` or B ``[C, H, W]``), or a table."""
    if isinstance(images, ImageBatch):
        return [], images.table
    return ([images] if isinstance(images, Tensor) else list(images)), None


def as_tensors(images: Tensor | Sequence[Tensor] | ImageBatch) -> list[Tensor]:
    """``B`` tensors ``[C, H, W]``, as the reference reads them."""
    if isinstance(images, ImageBatch):
        return [images.images[i] for i in images.ids.tolist()]
    return list(images.unbind(0)) if isinstance(images, Tensor) else list(images)


def note_write(out: Tensor) -> None:
    """Tell autograd that ``out`` was overwritten, so that a graph which saved it complains."""
    if not torch.compiler.is_compiling() and not out.is_inference():
        torch.autograd.graph.increment_version(out)


def track(images: Sequence[Tensor]) -> bool:
    """Whether a gradient towards the images is wanted."""
    return torch.is_grad_enabled() and any(image.requires_grad for image in images)


@register_shapes("gather_patches")
def _(images, table, offsets, conversion, *reading):  # type: ignore[no-untyped-def]
    return Reading(*reading).empty(offsets, offsets.shape[0], offsets.shape[1], conversion.shape[1])


@register_shapes("gather_patches_out")
def _(out, images, table, offsets, conversion, *reading):  # type: ignore[no-untyped-def]
    return None


@register_shapes("gather_patches_backward")
def _(grad, images, offsets, conversion, *reading):  # type: ignore[no-untyped-def]
    return [torch.empty_like(image, memory_format=torch.contiguous_format) for image in images]


class Gathering(torch.autograd.Function):
    """Patches in the layout of memory, differentiable towards floating-point images."""

    @staticmethod
    def forward(
        ctx: Any, backend: str, offsets: Tensor, conversion: Tensor, reading: Reading, *images: Tensor
    ) -> Tensor:
        """``images``: one ``[B, C, H, W]`` tensor or B ``[C, H, W]``."""
        ctx.save_for_backward(offsets, conversion, *images)
        ctx.backend, ctx.reading = backend, reading
        return namespace(backend).gather_patches(list(images), None, offsets, conversion, *reading)

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Add every patch's gradient, times its channel's scale, to the pixels it was read from."""
        offsets, conversion, *images = ctx.saved_tensors
        return *([None] * 4), *image_gradients(ctx.backend, grad, images, offsets, conversion, ctx.reading)


def image_gradients(
    backend: str, grad: Tensor, images: list[Tensor], offsets: Tensor, conversion: Tensor, reading: Reading
) -> list[Tensor | None]:
    """A gradient per image, None for images of integers."""
    if not any(image.is_floating_point() for image in images):
        return [None] * len(images)
    floating = [image.is_floating_point() for image in images]
    backward = namespace(backend).gather_patches_backward
    grads = backward(grad.contiguous(), images, offsets, conversion, *reading)
    return [g if f else None for g, f in zip(grads, floating, strict=True)]


def gather_patches(
    images: Tensor | Sequence[Tensor] | ImageBatch,
    offsets: Tensor,
    conversion: Tensor,
    reading: Reading,
    out: Tensor | None,
    backend: str,
) -> Tensor:
    """``[B, N, C, Ph, Pw]`` patches; arguments as :func:`zoomkern.reference.gathering.gather_patches`."""
    if backend == "reference":
        size, dtype = (reading.height, reading.width), PIXEL_DTYPES[reading.dtype]
        patches = reference.gather_patches(
            as_tensors(images), offsets, conversion, size, reading.step, reading.shift, dtype
        )
        if out is not None:
            return out.copy_(patches)
        return reading.view(reading.stored(patches).contiguous())
    tensors, table = operands(images)
    native = namespace(backend)
    if out is not None:
        native.gather_patches_out(reading.stored(out), tensors, table, offsets, conversion, *reading)
        note_write(out)
        return out
    if track(tensors):
        return reading.view(Gathering.apply(backend, offsets, conversion, reading, *tensors))
    return reading.view(native.gather_patches(tensors, table, offsets, conversion, *reading))
