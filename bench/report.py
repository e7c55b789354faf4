"""``make report``: tables and figures of the committed results.

Reads ``bench/results/<suite>--<device>.json``; writes ``docs/benchmarks.md``, ``docs/figures/*.png`` and the README's
table between ``<!-- numbers -->`` and ``<!-- /numbers -->``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import network_tables
from bench.formats import NONE, NUMBER, ORIGIN, TEXT, TIME, check, commit_of, machine_fields, seconds, size_of, times

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE, README = ROOT / "bench/results", ROOT / "docs/benchmarks.md", ROOT / "README.md"
SCHEMA = 1
OPS = ("patches", "sampling", "drawing", "gathering", "expectation", "memory", "readers", "ceilings")
SUITES = (*OPS, *network_tables.SUITES)
MARKED = re.compile(r"(<!-- numbers -->\n).*?(<!-- /numbers -->)", re.DOTALL)
FLOORS = ("floor: fill + read", "the output alone", "pages that hold a patch's pixels")

_ROW = {
    "name": TEXT,
    "work": TEXT,
    "time": (dict, *NONE),
    "bytes_moved": (int, *NONE),
    "share": (dict, *NONE),
    "peak_bytes": (int, *NONE),
    "against": (list,),
    **ORIGIN,
}
_AGAINST = {
    "name": TEXT,
    "time": (dict, *NONE),
    "peak_bytes": (int, *NONE),
    "ratio": (*NUMBER, *NONE),
    "goal": (*NUMBER, *NONE),
    "missing": (*TEXT, *NONE),
}
_SHARE = {"of": TEXT, "speed": NUMBER, "value": NUMBER}


def load(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The result files in the order of the page, checked."""
    documents = [json.loads(path.read_text()) for path in sorted(folder.glob("*--*.json"))]
    for document in documents:
        validate(document)
    return sorted(documents, key=lambda d: (SUITES.index(d["suite"]), d["device"]))


def validate(document: dict[str, Any]) -> None:
    """Raises ValueError, naming the place, if a result file does not follow the schema."""
    check(document, {"schema": (int,), "suite": TEXT, "device": TEXT, "rows": (list,)}, "document")
    if document["schema"] != SCHEMA or document["suite"] not in SUITES:
        raise ValueError(f"schema must be {SCHEMA} and suite one of {SUITES}")
    for row in document["rows"]:
        place = f"{document['suite']}/{row.get('name')}"
        if document["suite"] in network_tables.SUITES:
            network_tables.validate(document["suite"], row, place)
            continue
        check(row, _ROW, place)
        check(row["machine"], machine_fields(row["machine"]), f"{place} machine")
        if (row["time"] is None) == (row["peak_bytes"] is None):
            raise ValueError(f"{place}: one of time and peak_bytes must be there")
        for entry in row["against"]:
            check(entry, _AGAINST, f"{place} against {entry.get('name')}")
            if (entry["ratio"] is None) != (entry["missing"] is not None):
                raise ValueError(f"{place} against {entry['name']}: a ratio, or why it is missing")
        for time in filter(None, (part["time"] for part in (row, *row["against"]))):
            check(time, TIME, f"{place} time")
        if row["share"]:
            check(row["share"], _SHARE, f"{place} share")
        _check_ratios(row, place)


def _check_ratios(row: dict[str, Any], place: str) -> None:
    """A ratio is that of the two numbers it stands between."""
    for entry in row["against"]:
        if entry["ratio"] is None:
            continue
        theirs, ours = (
            (entry["time"]["median"], row["time"]["median"])
            if row["time"]
            else (entry["peak_bytes"], row["peak_bytes"])
        )
        if abs(entry["ratio"] * ours - theirs) > 1e-6 * theirs:
            raise ValueError(f"{place} against {entry['name']}: the ratio is not theirs / ours")


def ratio_of(entry: dict[str, Any]) -> str:
    if entry["ratio"] is None:
        return entry["missing"]
    return times(entry["ratio"])


def goal_of(entry: dict[str, Any]) -> str:
    """What was asked for, and whether it is there."""
    if entry["goal"] is None:
        return ""
    met = entry["ratio"] is not None and entry["ratio"] >= entry["goal"]
    return f"{entry['goal']:.2g}x {'met' if met else '**missed**'}"


def cost(part: dict[str, Any], spread: bool = False) -> str:
    """Time with its spread, or bytes."""
    time = part["time"]
    if time is None:
        return size_of(part["peak_bytes"]) if part["peak_bytes"] is not None else ""
    text = seconds(time["median"])
    return f"{text} ({seconds(time['p20'])} to {seconds(time['p80'])})" if spread else text


def table(document: dict[str, Any]) -> str:
    """All rows of a suite of ops, a line per rival; where zoomkern loses the ratio is below one."""
    lines = [
        "| row | zoomkern | moved | speed | against | theirs | ratio | goal | threads | commit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        share, moved = row["share"], row["bytes_moved"]
        speed = f"{share['value']:.0%} of {share['of']}" if share else ""
        head = [f"`{row['name']}` {row['work']}", cost(row, True), size_of(moved) if moved else "", speed]
        tail = [str(row["threads"]), commit_of(row)]
        for entry in row["against"]:
            middle = [entry["name"], cost(entry), ratio_of(entry), goal_of(entry)]
            lines.append(f"| {' | '.join(head + middle + tail)} |")
            head, tail = [""] * 4, [""] * 2
    return "\n".join(lines)


def headline(documents: Sequence[dict[str, Any]]) -> str:
    """The README's table: the rows that have goals."""
    lines = ["| what | zoomkern | against | ratio | goal |", "|---|---|---|---|---|"]
    for document in documents:
        if document["suite"] in network_tables.SUITES:
            lines.extend(network_tables.headline(document))
            continue
        for row in document["rows"]:
            for entry in row["against"]:
                if entry["goal"] is not None:
                    what, theirs = f"{_suite(document)}: {row['work']}", f"{entry['name']}: {cost(entry)}"
                    lines.append(f"| {what} | {cost(row)} | {theirs} | {ratio_of(entry)} | {goal_of(entry)} |")
    return "\n".join([*lines, "", *origins(documents)])


def _suite(document: dict[str, Any]) -> str:
    return document["suite"] if document["device"] == "cpu" else f"{document['suite']}, {document['device']}"


def origins(documents: Sequence[dict[str, Any]]) -> list[str]:
    """A line per machine that the rows come from."""
    machines = [row["machine"] for document in documents for row in document["rows"]]
    keys = ("gpu", "cpu", "cores", "simd", "torch", "python")
    distinct = dict.fromkeys(tuple(machine.get(key) for key in keys) for machine in machines)
    lines = []
    for known in distinct:
        gpu, cpu, cores, simd, torch, python = known
        loads = [m["load"] for m in machines if tuple(m.get(key) for key in keys) == known]
        busy = max((load for load in loads if load is not None), default=None)
        busy_text = "" if busy is None else f", load average at most {busy} at the start"
        machine = f"{gpu}, {cpu}" if gpu else cpu
        lines.append(f"Measured on {machine}, {cores} cores, {simd}; torch {torch}, Python {python}{busy_text}.")
    return lines


def page(documents: Sequence[dict[str, Any]]) -> str:
    """docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        "Made by `make bench` and `make report`; the rules are in [bench/README.md](../bench/README.md). Ratios are "
        "theirs over ours, medians of calls that took turns in one process: above 1 zoomkern is faster or smaller; a "
        "floor is what torch takes to fill as much and then to read as much, which one pass past the caches can beat. "
        "`speed` is bytes moved per time as a share of the measured speed of `fill` (a large tensor filled in place) "
        "or `copy` (read and written bytes counted); what fits a cache can pass 100 %. `+` behind a commit: the "
        "sources differed from it.",
        *origins(documents),
    ]
    for document in documents:
        parts.append(f"## {document['suite'].capitalize()}, {document['device']}")
        if document["suite"] == "ceilings":
            parts.append("Here `zoomkern` is a plain kernel that reads the memory: what gathering is measured against.")
        parts.extend(f"![{name}](figures/{name}.png)" for name in figures_of(document))
        networks = document["suite"] in network_tables.SUITES
        parts.append(network_tables.section(document) if networks else table(document))
    return "\n\n".join(parts) + "\n"


def figures_of(document: dict[str, Any]) -> list[str]:
    """Names of the figures of a suite."""
    stem = f"{document['suite']}-{document['device']}"
    return {"sampling": [stem, f"{stem}-items"], "models": []}.get(document["suite"], [stem])


def with_numbers(readme: str, documents: Sequence[dict[str, Any]]) -> str:
    """The README with its table renewed; unchanged if it has no markers."""
    return MARKED.sub(lambda found: f"{found[1]}{headline(documents)}\n{found[2]}", readme)


def main() -> None:
    from bench import figures

    documents = load()
    if not documents:
        raise SystemExit("bench/results holds no results: run make bench first")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(documents))
    figures.draw(documents, PAGE.parent / "figures")
    if README.is_file():
        README.write_text(with_numbers(README.read_text(), documents))


if __name__ == "__main__":
    main()
