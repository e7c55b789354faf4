"""Three streams that draw, read and learn at the same time; a program of its own, to be run under torch's sanitizer."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

import zoomkern
from zoomkern import ImageBank, PinnedImage

STREAMS, ROUNDS = 3, 5


def work(images: Any, logits: Tensor, seed: Tensor, backend: str) -> list[Tensor]:
    """Index, patches and a gradient of a draw."""
    leaf = logits.detach().requires_grad_()
    drawn = zoomkern.sample_patches(images, leaf, 16, 32, mean=0.5, std=0.25, seed=seed, backend=backend)
    pooled = zoomkern.expectation(drawn.patches.flatten(2), drawn.sample, backend=backend)
    return [drawn.index, drawn.patches, *torch.autograd.grad(pooled.sum(), leaf)]


def alone_and_together(backend: str) -> tuple[list[list[Tensor]], list[list[list[Tensor]]]]:
    """What each piece of work gives by itself, and in every round on three streams at once."""
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randint(0, 256, (3, 400, 500), dtype=torch.uint8, generator=generator) for _ in range(STREAMS)]
    banks = [ImageBank([PinnedImage(image)] if i == 0 else [image.cuda()], "cuda") for i, image in enumerate(pixels)]
    ids = torch.zeros(2, dtype=torch.int64, device="cuda")
    sizes = [(2, 9, 8), (2, 70, 60), (2, 500, 400)]  # a regime each
    logits = [torch.randn(size, generator=generator).cuda() for size in sizes]
    seeds = [torch.tensor(i, device="cuda") for i in range(STREAMS)]
    arguments = [(bank[ids], score, seed, backend) for bank, score, seed in zip(banks, logits, seeds, strict=True)]
    alone = [work(*given) for given in arguments]
    torch.cuda.synchronize()
    streams, main = [torch.cuda.Stream() for _ in range(STREAMS)], torch.cuda.current_stream()
    rounds: list[list[list[Tensor]]] = []
    for _ in range(ROUNDS):
        together: list[list[Tensor]] = []
        for stream, given in zip(streams, arguments, strict=True):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                together.append(work(*given))
        for stream, results in zip(streams, together, strict=True):
            main.wait_stream(stream)
            for result in results:
                result.record_stream(main)
        rounds.append(together)
    return alone, rounds


def race() -> None:
    """A stream reads what another writes, and nobody waits: what torch's sanitizer has to find."""
    values = torch.zeros(1000, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        values.add_(1)


def main(task: str) -> None:
    if task == "race":
        return race()
    alone, rounds = alone_and_together(task)
    for together in rounds:
        for before, after in zip(alone, together, strict=True):
            assert torch.equal(before[0], after[0])
            assert torch.equal(before[1], after[1])
            torch.testing.assert_close(before[2], after[2])
    print("equal")


if __name__ == "__main__":
    main(sys.argv[1])
