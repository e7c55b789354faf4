"""Tables of whole networks: their memory, operations and time against the paper's, and where a step's time goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.formats import NONE, NUMBER, ORIGIN, TEXT, TIME, check, commit_of, machine_fields, seconds, size_of, times

SUITES = ("models", "step")
REFERENCE = "ZoomIn"
PHASES = ("forward", "step")
PARTS = (
    "decode",
    "view",
    "attention",
    "draw",
    "gather",
    "draw and gather",
    "features",
    "backward",
    "optimiser",
    "rest",
)

#: Peak memory per image at inference in "Mb", and GFLOPs, as Kong & Henao, CVPR 2022, print them.
PAPER = {
    "colon": {"ZoomIn": (2.55, 0.24), "ATS": (15.83, 0.24), "CNN": (235.68, 1.83)},
    "needle": {"ZoomIn": (11.78, 0.52), "ATS": (37.97, 1.66), "BagNet": (3914.81, 222.72)},
}
#: Why a ratio of the paper's is not reached, as far as shapes tell.
WHY = {
    ("colon", "ATS"): (
        "at 500 pixels a second stage has nothing to save. The one-stage view has 100 x 100 = 10,000 pixels; the "
        "two-stage views have 50 x 50 and, for ten tiles of 250 at 0.2, ten times 50 x 50, 27,500 in all. Behind that "
        "both describe ten sub-tiles alike, whose first maps (10 x 36 x 23 x 23 float32, before and behind the ReLU) "
        "hold 1.5 MB at once. All tensors that the one-stage call ever makes, freed ones included, add up to 4.3 MB: "
        "15.83 was counted in a way that the paper does not tell"
    ),
    ("colon", "CNN"): (
        "without gradients the network holds four maps of 32 x 500 x 500 float32, 32 MB each, and the image. The "
        "paper's figure is about seven such maps, yet its 1.83 GFLOP are below a third of the 6.3 billion "
        "multiplications of eight layers that start at full resolution: its network is another one, or was "
        "counted in another way"
    ),
    ("needle", "ATS"): (
        "shapes here are static, so each of the 30 draws of a tile has a view of its own, where the paper counts "
        "unique tiles, about half of them; and the size of its tiles is not published"
    ),
    ("needle", "BagNet"): (
        "without gradients a map is freed behind the layer that reads it; which BagNet the paper ran, and how its "
        "memory was counted, is not known here"
    ),
}
_NOTE = (
    "Batch 1. Memory is the most that the call's tensors hold at once, the converted view or image included; the "
    "image itself stays in host memory. Parameters, and in training twice as much for Adam's state, come on top; "
    "gradients are counted. `at` is the op that reached the peak at inference. On a CPU a library's workspaces are not "
    "seen; on a GPU the figure is the allocator's. GFLOP counts convolutions and matrix products, two for a "
    "multiplication with its addition; the paper does not say whether it counts one or two. Views are made beforehand. "
    "`IPS` encodes every patch in chunks of 64; `TopK` reads what 100 noise vectors choose in training. A network "
    "whose tensors need more than 8 GB is not run; its bytes and operations are counted on shapes."
)
_PAPER_NOTE = (
    'Against the paper: peak memory at inference over that of `ZoomIn`. It prints "Mb" and does not say how they were '
    "measured; the published code prints `torch.cuda.memory_allocated()`, what is held at the end and not the peak."
)
_STEP_NOTE = (
    "Medians of each part, which therefore need not add up to the median of the whole. `AttentionSampling` draws and "
    "gathers in one op; what `ZoomIn` gathers are tile views and sub-tiles. `view` makes the low-resolution views; it "
    "and `decode` happen once per image where the set is resident."
)

_PHASE = {
    "peak_bytes": (int,),
    "at": TEXT,
    "flops": (int,),
    "time": (dict, *NONE),
    "missing": (*TEXT, *NONE),
}
_ROWS = {
    "models": {
        "name": TEXT,
        "case": TEXT,
        "model": TEXT,
        "work": TEXT,
        "parameter_bytes": (int,),
        **dict.fromkeys(PHASES, (dict,)),
        **ORIGIN,
    },
    "step": {"name": TEXT, "work": TEXT, "time": (dict,), "parts": (dict,), **ORIGIN},
}


class Claim(NamedTuple):
    """A ratio of the paper's beside ours.

    Args:
        case: shapes.
        model: whose memory is divided by that of :data:`REFERENCE`.
        paper: the ratio it prints.
        ours: the ratio here.
        peaks: bytes of ``REFERENCE`` and of ``model``.
    """

    case: str
    model: str
    paper: float
    ours: float
    peaks: tuple[int, int]

    @property
    def verdict(self) -> str:
        return "met" if self.ours >= self.paper else "**missed**"


def validate(suite: str, row: dict[str, Any], place: str) -> None:
    """Raises ValueError, naming the place, if a row does not follow the schema."""
    check(row, _ROWS[suite], place)
    check(row["machine"], machine_fields(row["machine"]), f"{place} machine")
    if suite == "step":
        check(row["time"], TIME, f"{place} time")
        check(row["parts"], {name: NUMBER for name in PARTS if name in row["parts"]}, f"{place} parts")
        return
    for name in PHASES:
        phase, where = row[name], f"{place} {name}"
        check(phase, _PHASE, where)
        if (phase["time"] is None) != (phase["missing"] is not None):
            raise ValueError(f"{where}: a time, or why it is missing")
        if phase["time"]:
            check(phase["time"], TIME, f"{where} time")


def section(document: dict[str, Any]) -> str:
    """Notes and tables of a suite."""
    if document["suite"] == "step":
        return f"{_STEP_NOTE}\n\n{_steps(document['rows'])}"
    by_case: dict[str, dict[str, dict[str, Any]]] = {}
    for row in document["rows"]:
        by_case.setdefault(row["case"], {})[row["model"]] = row
    tables = [f"### {next(iter(rows.values()))['work']}\n\n{_models(rows)}" for rows in by_case.values()]
    found = list(claims(document))
    return "\n\n".join([_NOTE, *tables, *([_PAPER_NOTE, _claims(found)] if found else [])])


def claims(document: dict[str, Any]) -> Iterator[Claim]:
    """The paper's ratios of which both rows are there."""
    peaks = {(row["case"], row["model"]): row["forward"]["peak_bytes"] for row in document.get("rows", ())}
    for case, printed in PAPER.items():
        for model, (size, _) in printed.items():
            if model != REFERENCE and {(case, REFERENCE), (case, model)} <= peaks.keys():
                pair = peaks[case, REFERENCE], peaks[case, model]
                yield Claim(case, model, size / printed[REFERENCE][0], pair[1] / pair[0], pair)


def headline(document: dict[str, Any]) -> Iterator[str]:
    """Lines of the README's table: the paper's claims."""
    for claim in claims(document) if document["suite"] == "models" else ():
        ours, theirs = map(size_of, claim.peaks)
        what = f"models: peak memory of one image at inference, ZoomIn, {claim.case}"
        ratios = f"{times(claim.ours)} | {times(claim.paper)} {claim.verdict}"
        yield f"| {what} | {ours} | {claim.model}: {theirs} | {ratios} |"


def _models(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| model | parameters | inference | / ZoomIn | at | paper, Mb | training step | / ZoomIn | GFLOP, inference "
        "| paper | GFLOP, step | inference | step | threads | commit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    base = rows.get(REFERENCE)
    for model, row in rows.items():
        printed = [str(value) for value in PAPER.get(row["case"], {}).get(model, ("", ""))]
        look, step = row["forward"], row["step"]
        shares = [times(row[p]["peak_bytes"] / base[p]["peak_bytes"]) if base else "" for p in PHASES]
        flops = [f"{row[phase]['flops'] / 1e9:.3g}" for phase in PHASES]
        cells = [f"`{model}`", size_of(row["parameter_bytes"])]
        cells += [size_of(look["peak_bytes"]), shares[0], look["at"], printed[0]]
        cells += [size_of(step["peak_bytes"]), shares[1], flops[0], printed[1], flops[1]]
        cells += [_time(look), _time(step), str(row["threads"]), commit_of(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _time(phase: dict[str, Any]) -> str:
    return seconds(phase["time"]["median"]) if phase["time"] else phase["missing"]


def _claims(found: list[Claim]) -> str:
    lines = ["| case | against | here | paper | |", "|---|---|---|---|---|"]
    for claim in found:
        lines.append(f"| {claim.case} | {claim.model} | {times(claim.ours)} | {times(claim.paper)} | {claim.verdict} |")
    why = [f"- {c.case}, {c.model}: {WHY[c.case, c.model]}." for c in found if c.ours < c.paper]
    return "\n".join([*lines, *(["", "Why the ratio is another:", "", *why] if why else [])])


def _steps(rows: list[dict[str, Any]]) -> str:
    names = [name for name in PARTS if any(name in row["parts"] for row in rows)]
    lines = [f"| step | whole | {' | '.join(names)} | threads | commit |", "|---" * (len(names) + 4) + "|"]
    for row in rows:
        whole, parts = row["time"]["median"], row["parts"]
        shares = [f"{seconds(parts[n])}, {parts[n] / whole:.0%}" if n in parts else "" for n in names]
        cells = [f"`{row['name']}` {row['work']}", seconds(whole), *shares, str(row["threads"]), commit_of(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
