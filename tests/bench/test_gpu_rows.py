"""Results of a GPU name it, and are told from those of the host."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIME = {"median": 1e-3, "p20": 1e-3, "p80": 1e-3, "rounds": 9}
MACHINE = {"cpu": "a processor", "cores": 2, "simd": "avx2", "torch": "2.11.0", "python": "3.12.0", "load": 0.1}


def document(suite, device, **machine):
    rival = {"name": "a rival", "time": TIME, "ratio": 1.0, "goal": 0.9, "peak_bytes": None, "missing": None}
    row = {"name": "row", "work": "work", "time": TIME, "bytes_moved": 1, "share": None, "peak_bytes": None}
    origin = {"threads": 2, "commit": "0" * 12, "dirty": False, "machine": {**MACHINE, **machine}}
    return {"schema": 1, "suite": suite, "device": device, "rows": [{**row, "against": [rival], **origin}]}


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("bench.report")


def test_the_gpu_is_named_beside_the_processor(report):
    documents = [document("sampling", "cpu"), document("sampling", "cuda", gpu="a GPU")]
    for one in documents:
        report.validate(one)

    text = report.headline(documents)

    assert "| sampling: work | 1 ms |" in text
    assert "| sampling, cuda: work | 1 ms |" in text
    assert "Measured on a processor, 2 cores" in text
    assert "Measured on a GPU, a processor, 2 cores" in text


def test_the_ceilings_say_that_their_first_column_is_no_op_of_ours(report):
    ceilings = document("ceilings", "cuda", gpu="a GPU")
    report.validate(ceilings)

    assert "`zoomkern` is a plain kernel" in report.page([ceilings])
    assert "`zoomkern` is a plain kernel" not in report.page([document("gathering", "cuda", gpu="a GPU")])


def test_the_clock_waits_for_the_device_in_every_candidate(monkeypatch, report):
    timing = importlib.import_module("bench.timing")
    waited = []
    monkeypatch.setattr(timing, "synchronize", lambda: waited.append(True))

    class Benchmark:
        stats = None
        extra_info: dict[str, object] = {}

        def pedantic(self, target, args, setup, rounds, iterations):
            setup()
            waited.clear()
            target(*args)

    timing.race(Benchmark(), lambda: None, [timing.Rival("one", lambda: None)], 0.01)

    assert waited == [True]
