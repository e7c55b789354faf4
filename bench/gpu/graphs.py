"""Calls captured in a CUDA graph, so that a measurement holds no time of the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def captured(run: Callable[[], Any], calls: int = 1) -> Callable[[], None]:
    """One replay makes ``calls`` calls; their results stay where the capture put them."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = [run() for _ in range(calls)]

    def replay() -> None:
        graph.replay()
        _ = results  # held as long as the graph writes there

    return replay
