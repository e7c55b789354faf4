"""The schemas of the ops, and the native libraries that implement them.

Schemas live here, so that the namespace ``zoomkern`` exists without a compiler; C++ registers its kernels there, one
library per kind of device. ``zoomkern_triton`` repeats the schemas that Triton serves, so that a GPU can have both.
Integer codes: samplers, estimators and alignments are positions in the tuples of the reference; pixel types are
positions in ``zoomkern.typing.PIXEL_DTYPES``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SAMPLE = "SymInt num_samples, int sampler, int estimator, bool pad"
READ = "SymInt height, SymInt width, SymInt step, bool shift, int dtype, bool channels_last"
IMAGES = "Tensor[] images, Tensor? table"
DRAW = "Tensor logits, Tensor? mask, Tensor seed, Tensor? counts"
PATCHES = f"{IMAGES}, {DRAW}, Tensor? locations, Tensor conversion, SymInt rows, SymInt columns, int align"

#: What has kernels on every kind of device, by the room in which it stands.
KERNELS = {
    "sampling": (
        f"sample({DRAW}, {SAMPLE}, SymInt grid_width) -> (Tensor, Tensor, Tensor, Tensor)",
        "draw_weights(Tensor logits, Tensor? mask, Tensor index, int sampler, int estimator) "
        "-> (Tensor, Tensor, Tensor)",
        "sample_backward(Tensor grad_log_prob, Tensor logits, Tensor? mask, Tensor index, Tensor lse) -> Tensor",
    ),
    "gathering": (
        f"gather_patches({IMAGES}, Tensor offsets, Tensor conversion, {READ}) -> Tensor",
        f"gather_patches_out(Tensor(a!) out, {IMAGES}, Tensor offsets, Tensor conversion, {READ}) -> ()",
        f"gather_patches_backward(Tensor grad, Tensor[] images, Tensor offsets, Tensor conversion, {READ}) -> Tensor[]",
    ),
    "patches": (
        f"sample_patches({PATCHES}, {SAMPLE}, {READ}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
        f"sample_patches_out(Tensor(a!) out, {PATCHES}, {SAMPLE}, {READ}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    ),
}
SCHEMAS = (
    *(schema for schemas in KERNELS.values() for schema in schemas),
    "draw_seed(Device device) -> Tensor",
    "expectation(Tensor features, Tensor weight) -> Tensor",
    "expectation_backward(Tensor grad, Tensor features, Tensor log_prob, Tensor weight, Tensor? baseline, "
    "int gradient) -> (Tensor, Tensor)",
    "simd_level() -> str",
    "set_simd_level(str level) -> ()",
    "cpu_features() -> str",
)

DIRECTORY = Path(__file__).resolve().parent.parent / "lib"

LIBRARY = torch.library.Library("zoomkern", "DEF")
for _schema in SCHEMAS:
    _tags = (torch.Tag.nondeterministic_seeded,) if _schema.startswith("draw_seed") else (torch.Tag.pt2_compliant_tag,)
    LIBRARY.define(_schema, tags=_tags)

TRITON = torch.library.Library("zoomkern_triton", "DEF")


def _from_triton(room: str, op: str) -> Callable[..., Any]:
    def serve(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"zoomkern.triton.{room}"), op)(*arguments)

    return serve


for _room, _schemas in KERNELS.items():
    for _schema in _schemas:
        _op = _schema.split("(")[0]
        TRITON.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
        TRITON.impl(_op, _from_triton(_room, _op), "CompositeExplicitAutograd")


def namespace(backend: str) -> Any:
    """The ops that a compiled backend registers."""
    return torch.ops.zoomkern_triton if backend == "triton" else torch.ops.zoomkern


def register_shapes(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function the shape function of an op in every namespace that has it."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        torch.library.register_fake(f"zoomkern::{op}", function, lib=LIBRARY)
        if hasattr(torch.ops.zoomkern_triton, op):
            torch.library.register_fake(f"zoomkern_triton::{op}", function, lib=TRITON)
        return function

    return register


_NEEDS = {"cpu": "a C++20 compiler", "cuda": "a torch with CUDA, a C++20 compiler and nvcc"}


def _cure(name: str) -> str:
    in_tree = (DIRECTORY.parent.parent / "setup.py").is_file()
    if name == "cpu" and in_tree:
        return "this is a source tree: 'pip install -e .' builds it there, elsewhere Python finds an installed zoomkern"
    command = "pip install -e ." if in_tree else "pip install ."
    return f"install {_NEEDS[name]} and run '{command}' again; 'zoomkern info' says under build what was missing"


def _load(name: str) -> str | None:
    """Load one native library; the reason if it cannot be."""
    path = DIRECTORY / f"libzoomkern_{name}.so"
    if not path.is_file():
        return f"{path.name} was not built; {_cure(name)}"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path.name} does not load into torch {torch.__version__}: {error}"
    return None


#: Why a library is off; None where it is loaded.
MISSING = {name: _load(name) for name in ("cpu", "cuda")}
if MISSING["cpu"] is None and (_level := os.environ.get("ZOOMKERN_SIMD")):
    try:
        torch.ops.zoomkern.set_simd_level(_level)
    except RuntimeError as error:
        raise RuntimeError(f"ZOOMKERN_SIMD={_level}: {error}") from None
