"""Peak memory, operations and time of every network, at inference and in a training step, batch 1.

Bytes are those of the tensors that a call makes (``bench/tensors.py``), the converted view or image included; images
in host memory, parameters and the optimiser's state are there before. A network that looks at every pixel is counted
on tensors that have shapes alone, and runs only where it fits. The clock of pytest-benchmark only runs along.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench import formats, networks, tensors, timing, workloads

MOST_BYTES = 8 * 10**9  # of tensors at once; beyond, the network is not run
PHASES = ("forward", "step")


def count(subject: networks.Subject, device: torch.device) -> dict[str, dict[str, Any]]:
    """Peak and operations of each phase; a first call each leaves behind what stays, the optimiser's state."""
    phases = {}
    for phase in PHASES:
        run = getattr(subject, phase)
        run()
        found = tensors.peak(run, device)
        phases[phase] = {"peak_bytes": found.bytes, "at": found.at, "flops": tensors.flops(run)}
    return phases


def on_shapes(case: networks.Case, name: str) -> dict[str, dict[str, Any]]:
    """:func:`count` without memory or time, of a network that is alike for all pixels."""
    with FakeTensorMode():
        image = torch.empty(3, case.size, case.size, dtype=torch.uint8)
        return count(networks.subject(case, name, image), torch.device("cpu"))


def measure(case: networks.Case, device: torch.device, seconds: float) -> dict[str, dict[str, Any]]:
    """Everything about each network of a case; all take turns, ``seconds`` each for both phases."""
    image = workloads.pictures(1, case.size)[0]
    rows, subjects = {}, {}
    for name in networks.networks(case):
        phases = on_shapes(case, name) if name in networks.DENSE else None
        if phases is None or phases["forward"]["peak_bytes"] <= MOST_BYTES:
            subjects[name] = networks.subject(case, name, image, device)
        if phases is None or (device.type != "cpu" and phases["step"]["peak_bytes"] <= MOST_BYTES):
            phases = count(subjects[name], device)
        with FakeTensorMode():
            parameters = sum(p.nbytes for p in networks.networks(case)[name]().parameters())
        rows[name] = {"parameter_bytes": parameters, **phases}
    for phase in PHASES:
        fitting = [name for name in rows if rows[name][phase]["peak_bytes"] <= MOST_BYTES]
        times = timing.turns([getattr(subjects[name], phase) for name in fitting], seconds / len(PHASES))
        found = dict(zip(fitting, times, strict=True))
        for name, row in rows.items():
            needed = f"needs {formats.size_of(row[phase]['peak_bytes'])}"
            row[phase] |= {
                "time": timing.summary(found[name]) if name in found else None,
                "missing": None if name in found else needed,
            }
    return rows


@pytest.mark.parametrize("case", networks.CASES)
def test_models(request, benchmark, put, device, case):
    shapes = networks.CASES[case]
    given = (shapes, device, request.config.getoption("--bench-seconds"))
    rows = benchmark.pedantic(measure, args=given, rounds=1)
    for model, row in rows.items():
        put(device.type, name=f"{case}: {model}", case=case, model=model, work=shapes.work, **row)
