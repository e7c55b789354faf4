"""The schemas of the ``zoomkern`` op namespace, and the native library that implements them.

Schemas live here, so that the namespace exists without a compiler. Integer codes: samplers, estimators and alignments
are positions in the tuples of the reference; pixel types are positions in ``zoomkern.typing.PIXEL_DTYPES``.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

SAMPLE = "SymInt num_samples, int sampler, int estimator, bool pad"
READ = "SymInt height, SymInt width, SymInt step, bool shift, int dtype, bool channels_last"
IMAGES = "Tensor[] images, Tensor? table"
DRAW = "Tensor logits, Tensor? mask, Tensor seed, Tensor? counts"
PATCHES = f"{IMAGES}, {DRAW}, Tensor? locations, Tensor conversion, SymInt rows, SymInt columns, int align"

SCHEMAS = (
    "draw_seed(Device device) -> Tensor",
    f"sample({DRAW}, {SAMPLE}, SymInt grid_width) -> (Tensor, Tensor, Tensor, Tensor)",
    "draw_weights(Tensor logits, Tensor? mask, Tensor index, int sampler, int estimator) -> (Tensor, Tensor, Tensor)",
    "sample_backward(Tensor grad_log_prob, Tensor logits, Tensor? mask, Tensor index, Tensor lse) -> Tensor",
    f"gather_patches({IMAGES}, Tensor offsets, Tensor conversion, {READ}) -> Tensor",
    f"gather_patches_out(Tensor(a!) out, {IMAGES}, Tensor offsets, Tensor conversion, {READ}) -> ()",
    f"gather_patches_backward(Tensor grad, Tensor[] images, Tensor offsets, Tensor conversion, {READ}) -> Tensor[]",
    f"sample_patches({PATCHES}, {SAMPLE}, {READ}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    f"sample_patches_out(Tensor(a!) out, {PATCHES}, {SAMPLE}, {READ}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
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


def _cure() -> str:
    if (DIRECTORY.parent.parent / "setup.py").is_file():
        return "this is a source tree: 'pip install -e .' builds it there, elsewhere Python finds an installed zoomkern"
    return "install a C++20 compiler and run 'pip install .' again"


def _load(name: str) -> str | None:
    """Load one native library; the reason if it cannot be."""
    path = DIRECTORY / f"libzoomkern_{name}.so"
    if not path.is_file():
        return f"{path.name} was not built; {_cure()}"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path.name} does not load into torch {torch.__version__}: {error}"
    if level := os.environ.get("ZOOMKERN_SIMD"):
        torch.ops.zoomkern.set_simd_level(level)
    return None


#: Why the CPU library is off; None where it is loaded.
CPU_MISSING = _load("cpu")
