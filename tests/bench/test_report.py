"""The committed results follow their schema, and what the README and docs/benchmarks.md say of them is theirs."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIME = {"median": 2e-3, "p20": 1.9e-3, "p80": 2.2e-3, "rounds": 9}
MACHINE = {"cpu": "a processor", "cores": 2, "simd": "avx2", "torch": "2.13.0", "python": "3.12.0", "load": 0.1}
ROW = {
    "name": "fresh",
    "work": "B = 4",
    "time": TIME,
    "bytes_moved": 10**6,
    "share": {"of": "fill", "speed": 1e9, "value": 0.5},
    "peak_bytes": None,
    "against": [
        {
            "name": "naive",
            "time": {**TIME, "median": 5e-3},
            "ratio": 2.5,
            "goal": 7,
            "peak_bytes": None,
            "missing": None,
        },
        {"name": "roi", "time": None, "ratio": None, "goal": None, "peak_bytes": None, "missing": "not installed"},
    ],
    "threads": 2,
    "commit": "0123456789ab",
    "dirty": False,
    "machine": MACHINE,
}
DOCUMENT = {"schema": 1, "suite": "patches", "device": "cpu", "rows": [ROW]}


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("bench.report")


@pytest.fixture
def documents(report):
    found = report.load()
    if not found:
        pytest.skip("bench/results holds no results yet: make bench writes them")
    return found


def test_committed_results_follow_the_schema(report, documents):
    names = {f"{document['suite']}--{document['device']}.json" for document in documents}

    assert names == {path.name for path in report.RESULTS.iterdir() if path.suffix == ".json"}
    assert all(document["rows"] for document in documents)


def test_page_agrees_with_the_results(report, documents):
    assert report.PAGE.read_text() == report.page(documents), "run make report"
    for document in documents:
        for name in report.figures_of(document):
            assert (report.PAGE.parent / "figures" / f"{name}.png").is_file()


def test_readme_agrees_with_the_results(report, documents):
    text = report.README.read_text() if report.README.is_file() else ""
    if not report.MARKED.search(text):
        pytest.skip("README.md has no <!-- numbers --> markers yet")

    assert report.with_numbers(text, documents) == text, "run make report"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=0), "schema"),
        (lambda d: d.update(suite="cooking"), "suite"),
        (lambda d: d["rows"][0].pop("commit"), "patches/fresh: fields \\['commit'\\]"),
        (lambda d: d["rows"][0].update(threads="2"), "threads must be int"),
        (lambda d: d["rows"][0].update(time=None), "one of time and peak_bytes"),
        (lambda d: d["rows"][0]["time"].pop("p80"), "p80"),
        (lambda d: d["rows"][0]["against"][0].update(ratio=3.0), "not theirs / ours"),
        (lambda d: d["rows"][0]["against"][1].update(missing=None), "why it is missing"),
        (lambda d: d["rows"][0]["machine"].update(host="name"), "host"),
    ],
)
def test_schema_refuses(report, change, message):
    document = copy.deepcopy(DOCUMENT)
    report.validate(document)
    change(document)

    with pytest.raises(ValueError, match=message):
        report.validate(document)


def test_table_says_what_is_missed_and_what_is_missing(report, tmp_path):
    (tmp_path / "patches--cpu.json").write_text(json.dumps(DOCUMENT))
    documents = report.load(tmp_path)

    table = report.table(documents[0])
    assert (
        "| `fresh` B = 4 | 2 ms (1.9 ms to 2.2 ms) | 1 MB | 50% of fill | naive | 5 ms | 2.5x | 7x **missed** |"
        in table
    )
    assert "| roi |  | not installed |" in table
    readme = "a\n<!-- numbers -->\nold\n<!-- /numbers -->\nb\n"
    assert "patches: B = 4 | 2 ms | naive: 5 ms | 2.5x | 7x **missed** |" in report.with_numbers(readme, documents)
    assert report.with_numbers("no markers\n", documents) == "no markers\n"
