"""Result files of whole networks follow their schema, and the tables say what is in them."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIME = {"median": 2e-3, "p20": 1.9e-3, "p80": 2.2e-3, "rounds": 9}
ORIGIN = {
    "threads": 2,
    "commit": "0123456789ab",
    "dirty": False,
    "machine": {"cpu": "one", "cores": 2, "simd": "avx2", "torch": "2.13.0", "python": "3.12.0", "load": 0.1},
}


def phase(peak, time=TIME, missing=None):
    return {"peak_bytes": peak, "at": "relu [1]", "flops": 10**9, "time": time, "missing": missing}


def row(model, peak, **step):
    shapes = {"name": f"colon: {model}", "case": "colon", "model": model, "work": "One image", "parameter_bytes": 5000}
    return {**shapes, "forward": phase(peak), "step": phase(3 * peak, **step), **ORIGIN}


MODELS = {
    "schema": 1,
    "suite": "models",
    "device": "cpu",
    "rows": [
        row("ZoomIn", 10**6),
        row("ATS", 7 * 10**6),
        row("CNN", 5 * 10**7, time=None, missing="needs 150 MB"),
        row("IPS", 2 * 10**6),
    ],
}
STEP = {
    "schema": 1,
    "suite": "step",
    "device": "cpu",
    "rows": [
        {"name": "ZoomIn, LeNet", "work": "B", "time": TIME, "parts": {"draw": 5e-4, "rest": 1.5e-3}, **ORIGIN},
        {"name": "Other", "work": "B", "time": TIME, "parts": {"draw and gather": 1e-3, "rest": 1e-3}, **ORIGIN},
    ],
}


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("bench.report")


@pytest.fixture
def tables(report):
    return report.network_tables


@pytest.mark.parametrize(
    ("document", "change", "message"),
    [
        (MODELS, lambda row: row.pop("commit"), "models/colon: ZoomIn: fields \\['commit'\\]"),
        (MODELS, lambda row: row.update(model=3), "model must be str"),
        (MODELS, lambda row: row["step"].pop("flops"), "ZoomIn step: fields \\['flops'\\]"),
        (MODELS, lambda row: row["step"].update(time=None), "step: a time, or why it is missing"),
        (MODELS, lambda row: row["step"].update(missing="slow"), "step: a time, or why it is missing"),
        (MODELS, lambda row: row["forward"]["time"].pop("p20"), "forward time: fields \\['p20'\\]"),
        (MODELS, lambda row: row["machine"].update(host="name"), "host"),
        (STEP, lambda row: row["parts"].update(lunch=1.0), "parts: fields \\['lunch'\\]"),
        (STEP, lambda row: row["parts"].update(rest="1"), "rest must be int or float"),
        (STEP, lambda row: row["time"].pop("rounds"), "rounds"),
    ],
)
def test_schema_refuses(report, document, change, message):
    document = copy.deepcopy(document)
    report.validate(document)
    change(document["rows"][0])

    with pytest.raises(ValueError, match=message):
        report.validate(document)


def test_table_of_models_says_what_is_missed_and_why(report, tables, tmp_path):
    (tmp_path / "models--cpu.json").write_text(json.dumps(MODELS))
    page = report.page(report.load(tmp_path))

    assert "### One image\n" in page
    assert "| `ATS` | 5 kB | 7 MB | 7x | relu [1] | 15.83 | 21 MB | 7x | 1 | 0.24 | 1 | 2 ms | 2 ms | 2 |" in page
    assert (
        "| `CNN` | 5 kB | 50 MB | 50x | relu [1] | 235.68 | 150 MB | 50x | 1 | 1.83 | 1 | 2 ms | needs 150 MB |" in page
    )
    assert "| `IPS` | 5 kB | 2 MB | 2x | relu [1] |  | 6 MB |" in page
    assert "| colon | ATS | 7x | 6.2x | met |" in page
    assert "| colon | CNN | 50x | 92x | **missed** |" in page
    assert tables.WHY["colon", "CNN"] in page
    assert tables.WHY["colon", "ATS"] not in page


def test_readme_has_the_claims(report):
    lines = report.headline([MODELS, STEP])

    assert "ZoomIn, colon | 1 MB | ATS: 7 MB | 7x | 6.2x met |" in lines
    assert "ZoomIn, colon | 1 MB | CNN: 50 MB | 50x | 92x **missed** |" in lines


def test_without_the_reference_no_ratio_is_claimed(report, tables):
    alone = {**MODELS, "rows": MODELS["rows"][1:]}

    assert list(tables.claims(alone)) == []
    assert "| `ATS` | 5 kB | 7 MB |  | relu [1] |" in tables.section(alone)
    assert "Against the paper" not in tables.section(alone)


def test_every_claim_has_its_reason(tables):
    claimed = {(case, model) for case, models in tables.PAPER.items() for model in models if model != tables.REFERENCE}

    assert tables.WHY.keys() == claimed


def test_table_of_steps_names_every_part_once(report, tables):
    text = tables.section(STEP)

    assert "| step | whole | draw | draw and gather | rest | threads | commit |" in text
    assert "| `ZoomIn, LeNet` B | 2 ms | 500 us, 25% |  | 1.5 ms, 75% | 2 | 01234567 |" in text
    assert "| `Other` B | 2 ms |  | 1 ms, 50% | 1 ms, 50% | 2 | 01234567 |" in text


def test_figures_are_those_that_the_page_shows(report, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    figures = importlib.import_module("bench.figures")
    figures.draw([MODELS, STEP], tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["step-cpu.png"]
    assert report.figures_of(MODELS) == []
    axes = figures.draw_parts(STEP).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert sum(widths) == pytest.approx(100 * len(STEP["rows"]))
    assert len(figures.PART_COLOURS) == len(set(figures.PART_COLOURS)) == len(report.network_tables.PARTS)


def test_runs_write_a_file_for_each_suite_and_device(report, tmp_path):
    conftest = importlib.import_module("bench.conftest")
    path = tmp_path / "models--cuda.json"
    conftest.write(path, "models", "cuda", MODELS["rows"][:2])
    changed = {**MODELS["rows"][1], "parameter_bytes": 1}
    conftest.write(path, "models", "cuda", [changed])
    document = report.load(tmp_path)[0]

    assert document["device"] == "cuda"
    assert document["rows"] == [MODELS["rows"][0], changed]
