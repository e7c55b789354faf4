"""The tables of an output folder, made from the states whenever a launch ends; the last one sees them all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from zoomkern.images.files import write_whole
from zoomkern.training.folder.images import Found
from zoomkern.training.folder.states import DONE, FAILED, State, States
from zoomkern.training.names import legible

#: Times that tables are written, at most, while others write states.
_MOST_ROUNDS = 10


def write_summary(states: States, images: Sequence[Found], classes: Sequence[str]) -> dict[str, Any]:
    """Write ``predictions.csv``, ``summary.json`` and ``summary.md`` of all images, whoever predicted them.

    Several launches may do so at once: each looks again at what it read after it has written, so that the last file is
    never of fewer states than there are. One that still misses images leaves that to whoever does them.

    The table of predictions has all images that are done in the folder, those of other calls, too.

    Args:
        states: of the output folder.
        images: all of them, of every shard.
        classes: name of every class.

    Returns:
        What ``summary.json`` holds.
    """
    for _ in range(_MOST_ROUNDS):
        before = _versions(states, images)
        summary = _write(states, images, classes)
        now = _versions(states, images)
        if None in now or before == now:
            break
    return summary


def _versions(states: States, images: Sequence[Found]) -> list[tuple[int, int] | None]:
    """What tells that a state was written since."""
    found: list[tuple[int, int] | None] = []
    for image in images:
        try:
            status = states.path(image.name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns))
    return found


def _write(states: States, images: Sequence[Found], classes: Sequence[str]) -> dict[str, Any]:
    everything = states.all()
    by_name = {state["image"]: state for state in everything}
    known = [by_name.get(image.name) for image in images]
    others = by_name.keys() - {image.name for image in images}
    done = [state for state in known if state is not None and state["status"] == DONE]
    failed = [state for state in known if state is not None and state["status"] == FAILED]
    missing = [image.name for image, state in zip(images, known, strict=True) if state is None]
    summary = {
        "images": len(images),
        "done": len(done),
        "failed": [{"image": state["image"], "error": state["error"]} for state in failed],
        "missing": missing,
        "predicted": {name: sum(state["predicted"] == name for state in done) for name in classes},
        "others_done": sum(state["image"] in others for state in everything if state.get("status") == DONE),
    }
    whole = [state for state in everything if state.get("status") == DONE]
    write_whole(states.output / "predictions.csv", _table(whole, classes))
    write_whole(states.output / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_whole(states.output / "summary.md", _page(summary))
    return summary


def _table(done: Sequence[State], classes: Sequence[str]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "predicted", *classes, "height", "width", "mpp", "places"])
    for state in done:
        probability = dict(zip(state["classes"], state["probability"], strict=True))
        shares = [probability.get(name, "") for name in classes]
        places = "; ".join(f"{y} {x}" for y, x in state["places"])
        mpp = "" if state["mpp"] is None else state["mpp"]
        table.writerow([legible(state["image"]), legible(state["predicted"]), *shares, *state["size"], mpp, places])
    return text.getvalue()


def _page(summary: dict[str, Any]) -> str:
    failed, missing = summary["failed"], summary["missing"]
    lines = [
        "# Predictions",
        "",
        f"{summary['done']} of {summary['images']} images are done, {len(failed)} failed, {len(missing)} are missing.",
        *([f"{summary['others_done']} more are done in the folder, of other calls."] if summary["others_done"] else []),
        "",
        "| predicted | images |",
        "|---|---|",
        *(f"| {_cell(name)} | {count} |" for name, count in summary["predicted"].items()),
    ]
    if failed:
        lines += ["", "## Failed", "", "| image | error |", "|---|---|"]
        lines += [f"| {_cell(entry['image'])} | {_cell(entry['error'])} |" for entry in failed]
    if missing:
        lines += ["", "## Missing", "", *(f"- {_cell(name)}" for name in missing)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return legible(text).replace("|", "\\|").replace("<", "&lt;")
