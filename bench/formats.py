"""What result rows of every suite share: where they were measured, how they are checked and how numbers are written."""

from __future__ import annotations

from typing import Any

NUMBER, TEXT, NONE = (int, float), (str,), (type(None),)
TIME = {"median": NUMBER, "p20": NUMBER, "p80": NUMBER, "rounds": (int,)}
ORIGIN = {"threads": (int,), "commit": TEXT, "dirty": (bool,), "machine": (dict,)}
MACHINE = {"cpu": TEXT, "cores": (int,), "simd": TEXT, "torch": TEXT, "python": TEXT, "load": (*NUMBER, *NONE)}


def machine_fields(machine: dict[str, Any]) -> dict[str, tuple[type, ...]]:
    """What must be said of a machine: on one whose GPU was measured also its name."""
    return {**MACHINE, "gpu": TEXT} if "gpu" in machine else MACHINE


def check(found: dict[str, Any], wanted: dict[str, tuple[type, ...]], place: str) -> None:
    """Raises ValueError, naming the place, unless the fields and their types are exactly those that are wanted."""
    if found.keys() != wanted.keys():
        raise ValueError(f"{place}: fields {sorted(found.keys() ^ wanted.keys())} are missing or superfluous")
    for name, kinds in wanted.items():
        if not isinstance(found[name], kinds):
            raise ValueError(f"{place}: {name} must be {' or '.join(k.__name__ for k in kinds)}; got {found[name]!r}")


def seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} us"


def size_of(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def times(ratio: float) -> str:
    return f"{ratio:.2g}x" if ratio < 9.95 else f"{ratio:.0f}x"


def commit_of(row: dict[str, Any]) -> str:
    return row["commit"][:8] + ("+" if row["dirty"] else "")
