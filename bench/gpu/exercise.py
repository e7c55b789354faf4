"""Every op once or twice at small sizes, in each regime of theirs: what compute-sanitizer watches.

    python bench/gpu/exercise.py cuda            # or triton; a second word names the device

Results are compared with the CPU's, so that a checker that breaks a kernel shows too. Triton's kernels read pixels by
words of 32 bits, the last of which may end behind an image. What torch's caching allocator gives can be read so, but
with PYTORCH_NO_CUDA_MEMORY_CACHING=1 each allocation has just its bytes, of which memcheck makes an error: images for
Triton are hence views of whole words. The CUDA library reads no byte that is not an image's, and gets no padding.
"""

from __future__ import annotations

import itertools
import os
import sys

import torch

os.environ["ZOOMKERN_CHECK"] = "1"  # before any op asks

import zoomkern
from zoomkern import ImageBank, PinnedImage

SAMPLERS = ("gumbel", "threshold", "replacement", "topk")
ITEMS = (31, 1000, 20_000, 300_000)
WORD = 4  # elements, of a byte or more


def draws(backend: str, device: str) -> None:
    for sampler, items in itertools.product(SAMPLERS, ITEMS):
        logits, mask = 2 * torch.randn(3, items), torch.rand(3, items) < 0.9
        options = {"sampler": sampler, "on_short": "pad", "max_samples": 20, "seed": items}
        counts = torch.tensor([20, 0, 7])
        leaf = logits.to(device).requires_grad_()
        drawn = zoomkern.sample(leaf, counts.to(device), mask=mask.to(device), backend=backend, **options)
        drawn.log_prob.sum().backward()
        wanted = zoomkern.sample(logits, counts, mask=mask, backend="cpu", **options)
        assert torch.equal(drawn.index.cpu(), wanted.index), (sampler, items)
        assert bool(leaf.grad.isfinite().all())
        zoomkern.draw_weights(leaf.detach(), drawn.index, sampler=sampler, mask=mask.to(device), backend=backend)


def placed(image: torch.Tensor, backend: str, device: str) -> torch.Tensor:
    """An image on the device; for Triton the memory behind it is readable up to the next whole word."""
    if backend != "triton":
        return image.to(device)
    numel = image.numel()
    memory = torch.zeros(numel + -numel % WORD, dtype=image.dtype, device=device)
    memory[:numel] = image.flatten().to(device)
    return memory[:numel].view(image.shape)


def patches(backend: str, device: str) -> None:
    pixels = [torch.randint(0, 256, (3, 97, 131)).to(torch.uint8), torch.rand(3, 64, 50)]
    sources = {
        "list": ([pixels[0]] * 2, [placed(pixels[0], backend, device)] * 2),
        "pinned": ([pixels[0]] * 2, [PinnedImage(pixels[0])] * 2),
        "bank": (ImageBank(pixels)[[1, 0]], ImageBank([PinnedImage(p) for p in pixels], device)[[1, 0]]),
    }
    places = torch.randint(-60, 150, (2, 9, 2))
    places[0, 0] = torch.tensor([-(1 << 63), (1 << 63) - 1])
    modes = itertools.product(("constant", "shift"), (torch.contiguous_format, torch.channels_last), (1, 3))
    for (host, there), (mode, layout, step) in itertools.product(sources.values(), modes):
        for size, dtype in (((7, 33), torch.float32), ((40, 100), torch.float16)):
            read = {"padding_mode": mode, "memory_format": layout, "step": step, "dtype": dtype, "fill": 3}
            given = zoomkern.gather_patches(there, places.to(device), size, backend=backend, **read)
            wanted = zoomkern.gather_patches(host, places, size, backend="cpu", **read)
            assert torch.equal(given.cpu(), wanted)
    logits = torch.randn(2, 9, 11, device=device, requires_grad=True)
    image = pixels[1].to(device).expand(2, -1, -1, -1).clone().requires_grad_()
    drawn = zoomkern.sample_patches(image, logits, 5, (16, 20), seed=1, backend=backend)
    pooled = zoomkern.expectation(drawn.patches.flatten(2), drawn.sample, backend=backend)
    pooled.sum().backward()
    assert bool(image.grad.isfinite().all())


def faults(backend: str, device: str) -> None:
    """Values that nothing can be drawn from, raised at once as ZOOMKERN_CHECK=1 asks; the process lives on."""
    for value, items in itertools.product((torch.nan, torch.inf), ITEMS):
        logits = torch.zeros(2, items, device=device)
        logits[1, items // 2] = value
        try:
            zoomkern.sample(logits, 5, seed=0, backend=backend)
        except ValueError:
            continue
        raise AssertionError("a fault was not told")


def main() -> None:
    backend, device = (*sys.argv[1:], "cuda")[:2]
    torch.manual_seed(0)
    for part in (draws, patches, faults):
        part(backend, device)
        if device == "cuda":
            torch.cuda.synchronize()
        print(part.__name__, "ran")


if __name__ == "__main__":
    main()
