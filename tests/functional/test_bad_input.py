"""Bad input: each case is a typed error that names the argument, what was given and what is needed."""

import re

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern import ImageBank, ImageBatch, PinnedImage, Pyramid, Sample

NAN, INF = float("nan"), float("inf")
IMAGES = torch.arange(2 * 3 * 40 * 50).remainder(251).to(torch.uint8).reshape(2, 3, 40, 50)
FLOATS = IMAGES.float()
GRID = torch.linspace(-1, 1, 40).sin().reshape(2, 4, 5)
LIST = torch.linspace(-2, 2, 12).cos().reshape(2, 6)
PLACES = torch.arange(12).reshape(6, 2)
OFFSETS = torch.tensor([[[0, 0], [5, 7], [-3, 49]], [[1, 2], [39, 0], [60, 60]]])
INDEX = torch.tensor([[0, 3, 5], [5, 1, 2]])
BANK = ImageBank([IMAGES[0], IMAGES[1, :, :20]])
PYRAMID = Pyramid([IMAGES[0], IMAGES[0, :, ::2, ::2]])
OUT = (2, 3, 3, 8, 8)


def seeded(options):
    if "generator" not in options:
        options.setdefault("seed", 0)
    return options


def draw(logits=GRID, num_samples=3, **options):
    return lambda backend: zoomkern.sample(logits, num_samples, **{"backend": backend, **seeded(options)})


def patches(images=IMAGES, logits=GRID, num_samples=3, patch_size=8, **options):
    options = {**seeded(options)}
    return lambda backend: zoomkern.sample_patches(
        images, logits, num_samples, patch_size, **{"backend": backend, **options}
    )


def gather(images=IMAGES, offsets=OFFSETS, patch_size=8, **options):
    return lambda backend: zoomkern.gather_patches(images, offsets, patch_size, **{"backend": backend, **options})


def weigh(index=INDEX, logits=LIST, **options):
    return lambda backend: zoomkern.draw_weights(logits, index, **{"backend": backend, **options})


def cells(index=INDEX, grid=(4, 5), image_size=(40, 50), patch_size=8, **options):
    return lambda backend: zoomkern.cell_offsets(index, grid, image_size, patch_size, **options)


def expect(features=None, sample=None, **options):
    features = torch.ones(2, 3, 4) if features is None else features
    return lambda backend: zoomkern.expectation(
        features, SAMPLE if sample is None else sample, **{"backend": backend, **options}
    )


def total(values=None, sample=None, **options):
    values = torch.ones(2, 3) if values is None else values
    return lambda backend: zoomkern.estimate_total(values, SAMPLE if sample is None else sample, **options)


def compose(outer, inner):
    return lambda backend: zoomkern.compose(outer, inner)


def merge(sample):
    return lambda backend: zoomkern.merge_repeats(sample)


def other(value, row=1, item=2, logits=LIST):
    changed = logits.clone()
    changed[row].view(-1)[item] = value
    return changed


def sample_of(*shape):
    return Sample(torch.zeros(shape, dtype=torch.int64), torch.zeros(shape), torch.ones(shape))


SAMPLE = sample_of(2, 3)
OVERLAPPING = torch.empty(1, 3, 3, 8, 8).expand(OUT)
BUFFER = torch.zeros(1, 3, 40, 50)
PLACE = torch.zeros(1, 1, 2, dtype=torch.int64)

CASES = {
    # What logits are.
    "logits: nan": (draw(other(NAN)), ValueError, "logits must be finite", "got nan in row 1, item 2"),
    "logits: nan in a grid": (draw(other(NAN, logits=GRID)), ValueError, "logits must be finite", "got nan in row 1"),
    "logits: +inf": (draw(other(INF, row=0)), ValueError, "logits must be finite", "got inf in row 0, item 2"),
    "logits: nan for topk": (draw(other(NAN), sampler="topk"), ValueError, "logits must be finite", "got nan"),
    "logits: +inf for threshold": (draw(other(INF), sampler="threshold"), ValueError, "logits must be", "got inf"),
    "logits: nan for replacement": (draw(other(NAN), sampler="replacement"), ValueError, "logits must be", "got nan"),
    "logits: nan, padded": (draw(other(NAN), on_short="pad"), ValueError, "logits must be finite", "got nan"),
    "logits: float16 inf": (draw(other(INF).half()), ValueError, "logits must be finite", "got inf"),
    "logits: all -inf": (
        draw(torch.full((2, 6), -INF)),
        ValueError,
        "logits must have at least 3 items",
        "row 0 has 0",
    ),
    "logits: one row of -inf": (
        draw(torch.stack([LIST[0], torch.full((6,), -INF)])),
        ValueError,
        "logits must have at least 3 items",
        "row 1 has 0",
    ),
    "logits: replacement from -inf": (
        draw(torch.full((2, 6), -INF), sampler="replacement"),
        ValueError,
        "logits must have at least 1 item",
        "row 0 has 0",
    ),
    "logits: too few drawable": (
        draw(other(-INF, row=1, item=0), 6),
        ValueError,
        "logits must have at least 6 items",
        "row 1 has 5",
    ),
    "logits: nan through sample_patches": (patches(logits=other(NAN, logits=GRID)), ValueError, "logits", "got nan"),
    "logits: nan through draw_weights": (weigh(logits=other(NAN)), ValueError, "logits must be finite", "got nan"),
    "logits: int64": (draw(LIST.long()), TypeError, "logits must be float32", "got torch.int64"),
    "logits: bool": (draw(LIST > 0), TypeError, "logits must be float32", "got torch.bool"),
    "logits: complex": (draw(LIST.to(torch.complex64)), TypeError, "logits must be a dense, real", "complex64"),
    "logits: sparse": (draw(LIST.to_sparse()), TypeError, "logits must be a dense", "sparse_coo"),
    "logits: sparse rows": (
        lambda backend: draw(LIST.to_sparse_csr())(backend),
        TypeError,
        "logits must be a dense",
        "sparse_csr",
    ),
    "logits: nested": (
        lambda backend: draw(torch.nested.nested_tensor([LIST[0], LIST[1, :3]]))(backend),
        TypeError,
        "logits must be a dense",
        "nested",
    ),
    "logits: 1-D": (
        draw(LIST[0]),
        ValueError,
        "logits must be .B, L. or",
        r"got \[6\]. For one row pass logits\[None\]",
    ),
    "logits: 0-D": (draw(torch.tensor(1.0)), ValueError, "logits must be .B, L. or", r"got \[\]"),
    "logits: 4-D": (draw(GRID[None]), ValueError, "logits must be .B, L. or", r"got \[1, 2, 4, 5\]"),
    "logits: array": (draw(LIST.numpy()), TypeError, "logits must be a tensor", "got ndarray", "torch.as_tensor"),
    "logits: list": (draw([[0.0, 1.0]]), TypeError, "logits must be a tensor", "got list"),
    "logits: None": (patches(logits=None), TypeError, "logits must be a tensor", "got NoneType"),
    "logits: meta": (draw(LIST.to("meta")), ValueError, "logits must have data", "got a tensor on meta"),
    "logits: no items": (draw(torch.zeros(2, 0)), ValueError, "num_samples must be at most 0", "got 3"),
    "logits: no items, replacement": (
        draw(torch.zeros(2, 0), sampler="replacement"),
        ValueError,
        "logits must have at least 1 item",
        "row 0 has 0",
    ),
    "logits: no cells": (patches(logits=torch.zeros(2, 0, 5)), ValueError, "num_samples must be at most 0", "got 3"),
    "logits: no cells, replacement": (
        patches(logits=torch.zeros(2, 0, 5), sampler="replacement"),
        ValueError,
        "logits must have cells",
        r"\[0, 5\]",
    ),
    # How many.
    "num_samples: more than items": (draw(num_samples=21), ValueError, "num_samples must be at most 20", "got 21"),
    "num_samples: 0": (draw(num_samples=0), ValueError, "num_samples must be between 1", "got 0"),
    "num_samples: negative": (draw(num_samples=-2), ValueError, "num_samples must be between 1", "got -2"),
    "num_samples: huge": (draw(num_samples=1 << 40), ValueError, "num_samples must be between", "got 1099511627776"),
    "num_samples: bool": (draw(num_samples=True), TypeError, "num_samples must be an int", "got bool True"),
    "num_samples: float": (draw(num_samples=3.0), TypeError, "num_samples must be an int", "got float 3.0"),
    "num_samples: str": (draw(num_samples="3"), TypeError, "num_samples must be an int", "got str '3'"),
    "num_samples: None": (patches(num_samples=None), TypeError, "num_samples must be an int", "got NoneType"),
    "num_samples: int32": (
        draw(num_samples=torch.tensor([1, 2], dtype=torch.int32), max_samples=3),
        TypeError,
        "num_samples must be int64",
        "got torch.int32",
    ),
    "num_samples: float tensor": (draw(num_samples=torch.ones(2)), TypeError, "num_samples must be int64", "float32"),
    "num_samples: other length": (
        draw(num_samples=torch.tensor([1, 2, 3])),
        ValueError,
        r"num_samples must be \[B\] = \[2\]",
        r"got \[3\]",
    ),
    "num_samples: scalar tensor": (
        draw(num_samples=torch.tensor(2)),
        ValueError,
        r"num_samples must be \[B\]",
        r"\[\]",
    ),
    "num_samples: above max_samples": (
        draw(num_samples=torch.tensor([1, 4]), max_samples=3),
        ValueError,
        "num_samples must be between 0 and max_samples = 3",
        "got 1 to 4",
    ),
    "num_samples: negative tensor": (
        draw(num_samples=torch.tensor([-1, 2]), max_samples=3),
        ValueError,
        "num_samples must be between 0",
        "got -1 to 2",
    ),
    "num_samples: row above its items": (
        draw(other(-INF), num_samples=torch.tensor([1, 6])),
        ValueError,
        "logits must have at least 6 items",
        "row 1 has 5",
    ),
    "num_samples: meta": (
        draw(num_samples=torch.ones(2, dtype=torch.int64, device="meta"), max_samples=3),
        ValueError,
        "num_samples must have data",
        "meta",
    ),
    "max_samples: with an int": (draw(max_samples=3), ValueError, "max_samples goes with a tensor", "Drop max_samples"),
    "max_samples: 0": (
        draw(num_samples=torch.tensor([0, 0]), max_samples=0),
        ValueError,
        "max_samples must be between 1",
        "got 0",
    ),
    "max_samples: float": (
        draw(num_samples=torch.tensor([1, 1]), max_samples=2.0),
        TypeError,
        "max_samples must be an int",
        "got float",
    ),
    # How.
    "sampler: unknown": (draw(sampler="multinomial"), ValueError, "sampler must be one of 'gumbel'", "'multinomial'"),
    "sampler: int": (draw(sampler=0), ValueError, "sampler must be one of", "got 0"),
    "sampler: None": (draw(sampler=None), ValueError, "sampler must be one of", "got None"),
    "sampler: array": (draw(sampler=np.array([1, 2])), ValueError, "sampler must be one of", "got array"),
    "estimator: of another sampler": (
        draw(sampler="threshold", estimator="murthy"),
        ValueError,
        "estimator of sampler 'threshold' must be 'inclusion'",
        "got 'murthy'",
    ),
    "estimator: desraj of topk": (
        patches(sampler="topk", estimator="desraj"),
        ValueError,
        "estimator of sampler 'topk' must be 'renormalised'",
        "got 'desraj'",
    ),
    "estimator: unknown": (weigh(estimator="ht"), ValueError, "must be 'murthy' or 'desraj'", "got 'ht'"),
    "mask: nothing may be drawn": (
        draw(mask=torch.zeros(2, 4, 5, dtype=torch.bool)),
        ValueError,
        "logits must have at least 3 items",
        "row 0 has 0",
        "widen the mask",
    ),
    "mask: too few in one row": (
        draw(LIST, mask=torch.tensor([[True] * 6, [True, True] + [False] * 4])),
        ValueError,
        "at least 3 items",
        "row 1 has 2",
    ),
    "mask: uint8": (
        draw(mask=torch.ones_like(GRID, dtype=torch.uint8)),
        TypeError,
        "mask must be bool",
        "got torch.uint8",
    ),
    "mask: float": (draw(mask=torch.ones_like(GRID)), TypeError, "mask must be bool", "got torch.float32"),
    "mask: flat for a grid": (
        draw(mask=torch.ones(2, 20, dtype=torch.bool)),
        ValueError,
        "mask must be the shape of logits",
        r"\[2, 4, 5\]",
        r"got \[2, 20\]",
    ),
    "mask: one row": (draw(mask=torch.ones(1, 4, 5, dtype=torch.bool)), ValueError, "mask must be", r"got \[1, 4, 5\]"),
    "mask: list": (draw(mask=[[True]]), TypeError, "mask must be a bool tensor", "got list"),
    "mask: meta": (draw(mask=torch.ones(2, 4, 5, dtype=torch.bool, device="meta")), ValueError, "mask must", "meta"),
    "temperature: 0": (draw(temperature=0), ValueError, "temperature must be positive", "got 0"),
    "temperature: negative": (draw(temperature=-1.0), ValueError, "temperature must be positive", "got -1.0"),
    "temperature: nan": (draw(temperature=NAN), ValueError, "temperature must be positive", "got nan"),
    "temperature: inf": (draw(temperature=INF), ValueError, "temperature must be positive", "got inf"),
    "temperature: subnormal": (draw(temperature=1e-310), ValueError, "temperature must be positive", "got 1e-310"),
    "temperature: tensor": (
        draw(temperature=torch.tensor(1.0)),
        TypeError,
        "temperature must be a number",
        "got Tensor",
    ),
    "temperature: str": (patches(temperature="1"), TypeError, "temperature must be a number", "got str"),
    "temperature: None": (weigh(temperature=None), TypeError, "temperature must be a number", "got NoneType"),
    "on_short: unknown": (
        draw(on_short="ignore"),
        ValueError,
        "on_short must be one of 'error', 'pad'",
        "got 'ignore'",
    ),
    "on_short: bool": (draw(on_short=True), ValueError, "on_short must be one of", "got True"),
    "seed: too large": (draw(seed=1 << 64), ValueError, "seed must be between", "got 18446744073709551616"),
    "seed: too small": (draw(seed=-(1 << 63) - 1), ValueError, "seed must be between", "got -9223372036854775809"),
    "seed: float": (draw(seed=1.0), TypeError, "seed must be an int", "got float"),
    "seed: bool": (draw(seed=True), TypeError, "seed must be an int", "got bool"),
    "seed: int32": (draw(seed=torch.tensor(1, dtype=torch.int32)), TypeError, "seed must be int64", "torch.int32"),
    "seed: other length": (
        draw(seed=torch.tensor([1, 2, 3])),
        ValueError,
        r"seed must be a scalar or \[B\] = \[2\]",
        r"got \[3\]",
    ),
    "seed: matrix": (draw(seed=torch.zeros(2, 2, dtype=torch.int64)), ValueError, "seed must be a scalar", r"\[2, 2\]"),
    "seed: meta": (draw(seed=torch.tensor(1, device="meta")), ValueError, "seed must have data", "meta"),
    "seed: and generator": (
        draw(seed=1, generator=torch.Generator()),
        ValueError,
        "seed and generator exclude",
        "Pass one",
    ),
    "generator: int": (draw(generator=7), TypeError, "generator must be a torch.Generator", "got int"),
    "generator: of NumPy": (patches(generator=np.random.default_rng(0)), TypeError, "generator must be a torch.Gen"),
    "backend: unknown": (draw(backend="numpy"), ValueError, "backend must be one of", "reference", "got 'numpy'"),
    "backend: absent": (gather(backend="cuda"), ValueError, "backend 'cuda' cannot serve", "not built|takes cuda"),
    "backend: int": (gather(backend=0), ValueError, "backend must be one of", "got 0"),
    "backend: in expectation": (expect(backend="gpu"), ValueError, "backend must be one of", "got 'gpu'"),
    # What images are.
    "images: 2-D": (gather(IMAGES[0, 0]), ValueError, "images must be .B, C, H, W.", r"got shape \(40, 50\)"),
    "images: 3-D": (gather(IMAGES[0]), ValueError, "images must be .B, C, H, W.", r"images\[None\]"),
    "images: array": (
        gather(IMAGES.numpy()),
        TypeError,
        "images must be a .B, C, H, W. tensor",
        "got ndarray",
        "from_numpy",
    ),
    "images: list of arrays": (gather([i.numpy() for i in IMAGES]), TypeError, r"images\[0\] must be", "got ndarray"),
    "images: str": (gather("slide.tif"), TypeError, "images must be a .B, C, H, W. tensor", "got str", "from_file"),
    "images: list of str": (gather(["a.png", "b.png"]), TypeError, r"images\[0\] must be", "got str", "from_file"),
    "images: None": (patches(None), TypeError, "images must be a", "got NoneType"),
    "images: generator": (gather(i for i in IMAGES), TypeError, "images must be a", "got generator"),
    "images: empty list": (gather([]), ValueError, "images must hold at least one image", "got none"),
    "images: mixed channels": (
        gather([IMAGES[0], IMAGES[1, :1]]),
        ValueError,
        r"images\[1\] must have 3 channels",
        r"got shape \(1, 40, 50\)",
    ),
    "images: mixed types": (
        gather([IMAGES[0], FLOATS[1]]),
        TypeError,
        r"images\[1\] must be torch.uint8",
        "got torch.float32",
    ),
    "images: mixed dimensions": (gather([IMAGES[0], IMAGES[:1]]), ValueError, r"images\[1\] must be .C, H, W."),
    "images: list of batches": (gather([IMAGES, IMAGES]), ValueError, r"images\[0\] must be .C, H, W."),
    "images: complex": (gather(FLOATS.to(torch.complex64)), TypeError, "images must be a dense, real", "complex64"),
    "images: sparse": (gather(FLOATS.to_sparse()), TypeError, "images must be a dense", "sparse_coo"),
    "images: sparse in a list": (gather([FLOATS[0], FLOATS[1].to_sparse()]), TypeError, r"images\[1\] must be a dense"),
    "images: bool": (gather(IMAGES > 9), TypeError, "images must be one of uint8", "got torch.bool"),
    "images: int32": (patches(IMAGES.int()), TypeError, "images must be one of uint8", "got torch.int32"),
    "images: int8 in a list": (
        gather([*IMAGES.to(torch.int8)]),
        TypeError,
        r"images\[0\] must be one of uint8",
        "int8",
    ),
    "images: no rows": (
        gather(IMAGES[:, :, :0]),
        ValueError,
        "images must hold at least one pixel",
        r"\(2, 3, 0, 50\)",
    ),
    "images: no channels": (gather(IMAGES[:, :0]), ValueError, "images must hold at least one pixel", r"\(2, 0, 40"),
    "images: empty one in a list": (
        gather([IMAGES[0], IMAGES[1, :, :, :0]]),
        ValueError,
        r"images\[1\] must hold at least one pixel",
        r"\(3, 40, 0\)",
    ),
    "images: too few": (
        patches(IMAGES[:1]),
        ValueError,
        "images must be one for each of the 2 rows of logits",
        r"got 1\. If these are one image's, pass logits\[None\]",
    ),
    "images: too many": (gather([*IMAGES, IMAGES[0]]), ValueError, "images must be one for each of the 2", "got 3"),
    "images: meta": (gather(IMAGES.to("meta")), ValueError, "images must be on cpu, like offsets", "got meta"),
    "images: meta in a list": (
        gather([IMAGES[0], IMAGES[1].to("meta")]),
        ValueError,
        r"images\[1\] must be on cpu",
        "meta",
    ),
    "images: one PinnedImage": (
        gather(PinnedImage(IMAGES[0])),
        TypeError,
        "images must be a batch",
        "PinnedImage",
        "list",
    ),
    "images: one Pyramid": (patches(PYRAMID), TypeError, "images must be a batch", "one Pyramid"),
    "images: a bank": (patches(BANK), TypeError, "images must be a", "got ImageBank", r"bank\[ids\]"),
    "images: too few of a bank": (patches(BANK[[1]]), ValueError, "images must be one for each of the 2", "got 1"),
    "images: batch of floats": (
        gather(BANK[[0, 1]]._replace(table=torch.zeros(2, 8))),
        ValueError,
        "images.table must be int64",
        "got torch.float32",
    ),
    "images: batch of short rows": (
        gather(BANK[[0, 1]]._replace(table=BANK.table[:, :7])),
        ValueError,
        r"images.table must be int64 \[B, 8\]",
        r"\(2, 7\)",
    ),
    "images: batch without a table": (
        gather(ImageBatch(None, INDEX[0], [])),
        TypeError,
        "images must be a batch of an",
    ),
    "images: batch with other ids": (
        gather(BANK[[0, 1]]._replace(ids=torch.tensor([0]))),
        ValueError,
        r"images.ids must be int64 \[2\]",
        r"\(1,\)",
    ),
    "bank: id beyond": (lambda backend: BANK[[0, 2]], IndexError, "ids must be from 0 to 1", "got 2"),
    "bank: negative id": (lambda backend: BANK[torch.tensor([-1])], IndexError, "ids must be from 0 to 1", "got -1"),
    "bank: float ids": (lambda backend: BANK[torch.zeros(2)], TypeError, "ids must be an integer", "float32"),
    "bank: mask for ids": (lambda backend: BANK[[True, False]], TypeError, "ids must be an int", "True"),
    "bank: empty": (lambda backend: ImageBank([]), ValueError, "images must hold at least one image", "empty list"),
    "bank: empty image": (lambda backend: ImageBank([IMAGES[0, :, :0]]), ValueError, r"images\[0\] must hold at least"),
    "bank: gradient": (
        lambda backend: ImageBank([FLOATS[0].clone().requires_grad_()]),
        ValueError,
        r"images\[0\] must not require a gradient",
    ),
    "pinned: 2-D": (lambda backend: PinnedImage(IMAGES[0, 0]), ValueError, "image must be .C, H, W.", r"\(40, 50\)"),
    "pyramid: no levels": (lambda backend: Pyramid([]), ValueError, "levels must hold at least one image"),
    "pyramid: upside down": (
        lambda backend: Pyramid([PYRAMID[1], PYRAMID[0]]),
        ValueError,
        r"levels\[1\] must be smaller",
        "got 50 x 40",
    ),
    # Where to read.
    "level: of a tensor": (gather(level=1), ValueError, "level must be left out", "got 1", "images is a tensor"),
    "level: of a list": (gather([*IMAGES], level=0), ValueError, "level must be left out", r"images\[0\]"),
    "level: of a bank": (patches(BANK[[0, 1]], level=0), ValueError, "level must be left out", "ImageBatch"),
    "level: beyond": (gather([PYRAMID, PYRAMID], level=2), ValueError, "level must be from 0 to 1", "got 2"),
    "level: negative": (patches([PYRAMID, PYRAMID], level=-1), ValueError, "level must be from 0 to 1", "got -1"),
    "level: bool": (gather([PYRAMID, PYRAMID], level=True), TypeError, "level must be an int", "got bool"),
    "level: float": (gather([PYRAMID, PYRAMID], level=1.0), TypeError, "level must be an int", "got float"),
    "level: in a mixture": (
        gather([PYRAMID, IMAGES[1]], level=0),
        ValueError,
        "level must be left out",
        r"images\[1\]",
    ),
    "offsets: int32": (gather(offsets=OFFSETS.int()), TypeError, "offsets must be int64", "got torch.int32"),
    "offsets: float": (gather(offsets=OFFSETS.double()), TypeError, "offsets must be int64", "got torch.float64"),
    "offsets: no batch": (gather(offsets=OFFSETS[0]), ValueError, "offsets must be .B, N, 2.", r"got \[3, 2\]"),
    "offsets: triples": (
        gather(offsets=torch.zeros(2, 2, 3, dtype=torch.int64)),
        ValueError,
        "offsets must be .B, N, 2.",
        r"got \[2, 2, 3\]",
    ),
    "offsets: list": (gather(offsets=[[[0, 0]]]), TypeError, "offsets must be an int64 tensor", "got list"),
    "offsets: array": (gather(offsets=OFFSETS.numpy()), TypeError, "offsets must be an int64 tensor", "got ndarray"),
    "offsets: meta": (gather(offsets=OFFSETS.to("meta")), ValueError, "offsets must have data", "meta"),
    "locations: missing": (patches(logits=LIST), ValueError, "locations must be given with logits .B, L.", "got None"),
    "locations: with a grid": (patches(locations=PLACES), ValueError, "locations go with logits .B, L.", "got a grid"),
    "locations: int32": (
        patches(logits=LIST, locations=PLACES.int()),
        TypeError,
        "locations must be int64",
        "got torch.int32",
    ),
    "locations: float": (
        patches(logits=LIST, locations=PLACES.float()),
        TypeError,
        "locations must be int64",
        "float32",
    ),
    "locations: too few": (
        patches(logits=LIST, locations=PLACES[:5]),
        ValueError,
        r"locations must be \[L, 2\] or \[B, L, 2\] = \[6, 2\]",
        r"got \[5, 2\]",
    ),
    "locations: one batch": (
        patches(logits=LIST, locations=PLACES[None]),
        ValueError,
        r"locations must be .* \[2, 6, 2\]",
        r"got \[1, 6, 2\]",
    ),
    "locations: list": (
        patches(logits=LIST, locations=[[0, 0]] * 6),
        TypeError,
        "locations must be an int64",
        "got list",
    ),
    "locations: meta": (patches(logits=LIST, locations=PLACES.to("meta")), ValueError, "locations must", "meta"),
    "patch_size: 0": (gather(patch_size=0), ValueError, r"patch_size\[0\] must be between 1", "got 0"),
    "patch_size: negative": (gather(patch_size=(8, -1)), ValueError, r"patch_size\[1\] must be between 1", "got -1"),
    "patch_size: float": (gather(patch_size=8.0), TypeError, "patch_size must be .height, width.", "got 8.0"),
    "patch_size: pair of floats": (
        gather(patch_size=(8.0, 8)),
        TypeError,
        r"patch_size\[0\] must be an int",
        "got float",
    ),
    "patch_size: three": (
        gather(patch_size=(3, 8, 8)),
        TypeError,
        "patch_size must be .height, width.",
        r"\(3, 8, 8\)",
    ),
    "patch_size: str": (patches(patch_size="8"), TypeError, "patch_size must be .height, width.", "got '8'"),
    "patch_size: two letters": (patches(patch_size="88"), TypeError, "patch_size must be .height, width.", "got '88'"),
    "patch_size: bool": (gather(patch_size=True), TypeError, "patch_size must be", "got True"),
    "patch_size: None": (gather(patch_size=None), TypeError, "patch_size must be", "got None"),
    "patch_size: tensor": (gather(patch_size=torch.tensor([8, 8])), TypeError, "patch_size must be", "got tensor"),
    "patch_size: huge": (gather(patch_size=1 << 31), ValueError, r"patch_size\[0\] must be between", "got 2147483648"),
    "patch_size: beyond memory": (
        gather(patch_size=(1 << 31) - 1),
        ValueError,
        "patch_size must make a result that fits in memory",
        "2147483647",
    ),
    "step: 0": (gather(step=0), ValueError, "step must be between 1", "got 0"),
    "step: negative": (patches(step=-1), ValueError, "step must be between 1", "got -1"),
    "step: float": (gather(step=2.0), TypeError, "step must be an int", "got float"),
    "step: bool": (cells(step=True), TypeError, "step must be an int", "got bool"),
    "align: unknown": (patches(align="centre"), ValueError, "align must be one of 'center', 'corners'", "got 'centre'"),
    "align: bool": (cells(align=True), ValueError, "align must be one of", "got True"),
    "padding_mode: unknown": (
        gather(padding_mode="reflect"),
        ValueError,
        "padding_mode must be one of 'constant', 'shift'",
        "got 'reflect'",
    ),
    # Conversion.
    "fill: nan": (gather(fill=NAN), ValueError, "fill must be finite", "got .*nan"),
    "fill: str": (gather(fill="white"), TypeError, "fill must be a number or 3 of them", "got 'white'"),
    "fill: None": (gather(fill=None), TypeError, "fill must be a number", "got None"),
    "fill: other length": (gather(fill=(1, 2)), ValueError, "fill must have one value for each of 3 channels", "got 2"),
    "fill: beyond float32": (gather(fill=10**400), ValueError, "fill must be finite"),
    "fill: complex": (gather(fill=1j), TypeError, "fill must be a number", "got 1j"),
    "scale: inf": (patches(scale=INF), ValueError, "scale must be finite", "got .*inf"),
    "scale: beyond float32": (gather(scale=1e300), ValueError, "scale must be finite", r"1e\+300"),
    "scale: other length": (gather(scale=[1.0] * 4), ValueError, "scale must have one value for each of 3", "got 4"),
    "scale: list of str": (gather(scale=["1", "2", "3"]), TypeError, "scale must be a number", r"\['1'"),
    "scale: matrix": (gather(scale=torch.ones(3, 1)), TypeError, "scale must be a number", r"\[\[1.0\]"),
    "shift: nan": (gather(shift=[0, NAN, 0]), ValueError, "shift must be finite", "nan"),
    "shift: other length": (patches(shift=(1.0, 2.0)), ValueError, "shift must have one value", "got 2"),
    "shift: bool": (gather(shift=True), TypeError, "shift must be a number", "got True"),
    "mean: with scale": (gather(mean=0.5, scale=2.0), ValueError, "mean and std replace scale and shift", "got both"),
    "std: with shift": (patches(std=0.5, shift=0.0), ValueError, "mean and std replace scale and shift", "Pass one"),
    "mean: other length": (gather(mean=(0.5, 0.5)), ValueError, "mean must have one value for each of 3", "got 2"),
    "mean: nan": (gather(mean=NAN), ValueError, "mean must be finite", "nan"),
    "mean: str": (gather(mean="imagenet"), TypeError, "mean must be a number", "'imagenet'"),
    "mean: of pixels to 255": (gather(mean=127.0, std=60.0), ValueError, "mean must be of pixels in", "127.0"),
    "std: 0": (gather(std=0), ValueError, "std must be positive", "0.0"),
    "std: negative": (gather(std=(1, -1, 1)), ValueError, "std must be positive", "-1.0"),
    "std: other length": (gather(std=[1.0] * 4), ValueError, "std must have one value for each of 3", "got 4"),
    "std: vanishing": (gather(std=1e-320), ValueError, "std must not be so small", "e-320"),
    "mean: of a bank of two types": (
        gather(ImageBank([IMAGES[0], FLOATS[0]])[[0, 1]], mean=0.5),
        ValueError,
        "mean and std need images of one pixel type",
        "Pass scale and shift",
    ),
    "dtype: int32": (gather(dtype=torch.int32), TypeError, "dtype must be float32", "got torch.int32"),
    "dtype: uint8": (patches(dtype=torch.uint8), TypeError, "dtype must be float32", "got torch.uint8"),
    "dtype: of NumPy": (gather(dtype=np.float32), TypeError, "dtype must be float32", "Pass torch.float32"),
    "dtype: str": (gather(dtype="float32"), TypeError, "dtype must be float32", "got 'float32'"),
    "memory_format: channels_last_3d": (
        gather(memory_format=torch.channels_last_3d),
        ValueError,
        "memory_format must be torch.contiguous_format or torch.channels_last",
        "channels_last_3d",
    ),
    "memory_format: preserve": (gather(memory_format=torch.preserve_format), ValueError, "memory_format", "preserve"),
    "memory_format: str": (gather(memory_format="NHWC"), TypeError, "memory_format must be a torch.memory", "got str"),
    # out=
    "out: shape": (gather(out=torch.empty(2, 3, 3, 8, 9)), ValueError, r"out must be .* \[2, 3, 3, 8, 8\]", r"8, 9\]"),
    "out: flat": (
        patches(out=torch.empty(2, 3, 192)),
        ValueError,
        r"out must be \[B, N, C, Ph, Pw\]",
        r"\[2, 3, 192\]",
    ),
    "out: dtype": (gather(out=torch.empty(OUT).half()), TypeError, "out must have the type of dtype", "float16"),
    "out: int": (
        gather(out=torch.empty(OUT, dtype=torch.int32)),
        TypeError,
        "out must have the type of dtype",
        "int32",
    ),
    "out: strides": (
        gather(out=torch.empty(2, 3, 8, 8, 3).permute(0, 1, 4, 2, 3)),
        ValueError,
        "out must be contiguous in memory_format",
        "got strides",
    ),
    "out: contiguous for channels_last": (
        patches(out=torch.empty(OUT), memory_format=torch.channels_last),
        ValueError,
        "out must be contiguous in memory_format",
        "got strides",
    ),
    "out: negated": (gather(out=torch._neg_view(torch.empty(OUT))), ValueError, "out must hold its values", "negated"),
    "out: overlaps itself": (gather(out=OVERLAPPING), ValueError, "out must be contiguous", r"strides \[0, "),
    "out: requires a gradient": (
        patches(out=torch.empty(OUT, requires_grad=True)),
        ValueError,
        "out must not require a gradient",
        "detach",
    ),
    "out: of images that require a gradient": (
        gather(FLOATS.clone().requires_grad_(), out=torch.empty(OUT)),
        ValueError,
        "out carries no gradient to images",
        "Detach them or drop out",
    ),
    "out: shares memory with images": (
        gather(BUFFER, PLACE, (40, 50), out=BUFFER[None]),
        ValueError,
        "out must not share memory with images",
    ),
    "out: shares memory with a bank": (
        gather(ImageBank([BUFFER[0]])[[0]], PLACE, (40, 50), out=BUFFER[None]),
        ValueError,
        "out must not share memory with images",
    ),
    "out: meta": (gather(out=torch.empty(OUT, device="meta")), ValueError, "out must have data", "meta"),
    "out: array": (gather(out=np.empty(OUT, np.float32)), TypeError, "out must be a tensor", "got ndarray"),
    # cell_offsets
    "cells: index beyond": (
        cells(torch.tensor([[20]])),
        ValueError,
        r"index must be -1 or in \[0, 20\)",
        "got 20 to 20",
    ),
    "cells: index below": (
        cells(torch.tensor([[-2, 0]])),
        ValueError,
        r"index must be -1 or in \[0, 20\)",
        "got -2 to 0",
    ),
    "cells: index int32": (cells(INDEX.int()), TypeError, "index must be int64", "got torch.int32"),
    "cells: index 1-D": (cells(INDEX[0]), ValueError, "index must be .B, N.", r"got \[3\]"),
    "cells: index list": (cells([[0]]), TypeError, "index must be an int64 tensor", "got list"),
    "cells: index meta": (cells(INDEX.to("meta")), ValueError, "index must have data", "meta"),
    "cells: grid of 0": (cells(grid=(0, 5)), ValueError, r"grid\[0\] must be between 1", "got 0"),
    "cells: grid of three": (cells(grid=(2, 2, 5)), TypeError, "grid must be", r"got \(2, 2, 5\)"),
    "cells: image_size of 0": (cells(image_size=(40, 0)), ValueError, r"image_size\[1\] must be between 1", "got 0"),
    "cells: image_size floats": (cells(image_size=(40.0, 50.0)), TypeError, r"image_size\[0\] must be an int", "float"),
    "cells: image_size float tensor": (
        cells(image_size=torch.ones(2, 2)),
        TypeError,
        "image_size must be int64",
        "float32",
    ),
    "cells: image_size other rows": (
        cells(image_size=torch.ones(3, 2, dtype=torch.int64)),
        ValueError,
        r"image_size must be \[B, 2\] = \[2, 2\]",
        r"got \[3, 2\]",
    ),
    "cells: image_size negative": (
        cells(image_size=torch.tensor([[40, 50], [-1, 50]])),
        ValueError,
        "image_size must be between 1",
        "got -1 to 50",
    ),
    "cells: patch_size 0": (cells(patch_size=0), ValueError, r"patch_size\[0\] must be between 1", "got 0"),
    # draw_weights
    "weights: index beyond": (
        weigh(torch.tensor([[0], [6]])),
        ValueError,
        r"index must be -1 or in \[0, 6\)",
        "0 to 6",
    ),
    "weights: index below": (
        weigh(torch.tensor([[0], [-2]])),
        ValueError,
        r"index must be -1 or in \[0, 6\)",
        "-2 to 0",
    ),
    "weights: index twice": (
        weigh(torch.tensor([[0, 3, 0], [0, 1, 2]])),
        ValueError,
        "index must name an item once",
        "got item 0 twice in row 0",
        "replacement",
    ),
    "weights: more than items": (
        weigh(torch.zeros(2, 7, dtype=torch.int64)),
        ValueError,
        "index must name an item once",
    ),
    "weights: padding before an item": (
        weigh(torch.tensor([[0, -1, 3], [0, 1, 2]])),
        ValueError,
        "index must have -1 only behind",
        "Move it to the end",
    ),
    "weights: index masked": (
        weigh(mask=torch.ones(2, 6, dtype=torch.bool).index_fill(1, torch.tensor([1]), False)),
        ValueError,
        "index must name items that may be drawn",
        "got 1 in row 1",
    ),
    "weights: index of -inf": (
        weigh(logits=other(-INF)),
        ValueError,
        "index must name items that may",
        "got 2 in row 1",
    ),
    "weights: index float": (weigh(INDEX.float()), TypeError, "index must be int64", "float32"),
    "weights: index of no draws": (
        weigh(INDEX[:, :0]),
        ValueError,
        "index must be .B, N. with B = 2 and N > 0",
        r"\[2, 0\]",
    ),
    "weights: index of other rows": (weigh(INDEX[:1]), ValueError, "index must be .B, N. with B = 2", r"got \[1, 3\]"),
    "weights: index meta": (weigh(INDEX.to("meta")), ValueError, "index must have data", "meta"),
    "weights: logits list": (weigh(logits=[0.0]), TypeError, "logits must be a tensor", "got list"),
    # expectation
    "features: int": (expect(torch.ones(2, 3, 4, dtype=torch.int64)), TypeError, "features must be float32", "int64"),
    "features: complex": (expect(torch.ones(2, 3, 4) * 1j), TypeError, "features must be a dense, real", "complex64"),
    "features: other draws": (
        expect(torch.ones(2, 4, 4)),
        ValueError,
        r"features must be \[B, N, ...\] = \[2, 3\]",
        r"got \[2, 4, 4\]",
    ),
    "features: flattened": (expect(torch.ones(6, 4)), ValueError, "features must be .B, N, ....", r"got \[6, 4\]"),
    "features: 1-D": (expect(torch.ones(2)), ValueError, "features must be .B, N, ....", r"got \[2\]"),
    "features: list": (expect([[1.0]]), TypeError, "features must be a tensor", "got list"),
    "features: the draw": (
        expect(zoomkern.sample(torch.zeros(2, 5), 3, seed=0)),
        TypeError,
        "features must be a tensor",
        "Features come first",
    ),
    "features: meta": (expect(torch.ones(2, 3, 4, device="meta")), ValueError, "features must have data", "meta"),
    "sample: tensor": (expect(sample=torch.ones(2, 3)), TypeError, "sample must be a Sample", "got Tensor"),
    "sample: plain tuple": (expect(sample=tuple(SAMPLE)), TypeError, "sample must be a Sample", "got tuple"),
    "sample: without weights": (
        expect(sample=SAMPLE._replace(weight=None)),
        TypeError,
        "sample must be a Sample",
        "zoomkern.sample returns",
    ),
    "sample: weights of another draw": (
        expect(sample=SAMPLE._replace(weight=torch.ones(2, 1))),
        ValueError,
        r"sample.weight must be the shape of sample.index = \[2, 3\]",
        r"got \[2, 1\]",
    ),
    "sample: integer log_prob": (
        expect(sample=SAMPLE._replace(log_prob=SAMPLE.index)),
        TypeError,
        "sample.log_prob must be float32",
        "int64",
    ),
    "sample: float index": (
        total(sample=SAMPLE._replace(index=SAMPLE.weight)),
        TypeError,
        "sample.index must be int64",
        "float32",
    ),
    "baseline: does not broadcast": (
        expect(baseline=torch.ones(3)),
        ValueError,
        r"baseline must broadcast to \[B, ...\] = \[2, 4\]",
        r"got \[3\]",
    ),
    "baseline: per draw": (expect(baseline=torch.ones(2, 3, 4)), ValueError, "baseline must broadcast", r"\[2, 3, 4\]"),
    "baseline: float": (expect(baseline=0.5), TypeError, "baseline must be a tensor", "got float"),
    "baseline: meta": (expect(baseline=torch.ones(4, device="meta")), ValueError, "baseline must have data", "meta"),
    "gradient: unknown": (
        expect(gradient="reinforce"),
        ValueError,
        "gradient must be one of 'exact'",
        "got 'reinforce'",
    ),
    "gradient: None": (expect(gradient=None), ValueError, "gradient must be one of", "got None"),
    # compose, merge_repeats, estimate_total
    "compose: other batch": (
        compose(SAMPLE, sample_of(3, 3, 2)),
        ValueError,
        r"inner must be \[2, 3, n\] or \[6, n\]",
        r"got \[3, 3, 2\]",
    ),
    "compose: other parents": (compose(SAMPLE, sample_of(4, 2)), ValueError, "inner must be", r"got \[4, 2\]"),
    "compose: inner 1-D": (
        compose(SAMPLE, sample_of(6)),
        ValueError,
        "inner must be a draw .B, N.",
        r"got \[6\]",
    ),
    "compose: outer 3-D": (compose(sample_of(2, 3, 1), sample_of(6, 2)), ValueError, "outer must be a draw", "1"),
    "compose: outer tensor": (compose(SAMPLE.weight, SAMPLE), TypeError, "outer must be a Sample", "got Tensor"),
    "compose: inner None": (compose(SAMPLE, None), TypeError, "inner must be a Sample", "got NoneType"),
    "compose: inner of two shapes": (
        compose(SAMPLE, sample_of(6, 2)._replace(index=torch.zeros(6, 1, dtype=torch.int64))),
        ValueError,
        "inner.log_prob must be the shape of inner.index",
        r"got \[6, 2\]",
    ),
    "merge: tensor": (merge(SAMPLE.index), TypeError, "sample must be a Sample", "got Tensor"),
    "merge: 3-D": (merge(sample_of(2, 3, 1)), ValueError, "sample must be a draw .B, N.", r"\[2, 3, 1\]"),
    "total: shape": (total(torch.ones(2, 4)), ValueError, r"values must be \[B, N\] = \[2, 3\]", r"got \[2, 4\]"),
    "total: list": (total([[1, 2, 3]]), TypeError, "values must be a tensor", "got list"),
    "total: complex": (total(torch.ones(2, 3) * 1j), TypeError, "values must be a dense, real", "complex"),
    "total: topk": (total(sampler="topk"), ValueError, "sampler must have unbiased weights", "got 'topk'"),
    "total: sampler unknown": (total(sampler="poisson"), ValueError, "sampler must be one of", "got 'poisson'"),
    "total: tensor for a sample": (total(sample=SAMPLE.weight), TypeError, "sample must be a Sample", "got Tensor"),
    "total: meta": (total(torch.ones(2, 3, device="meta")), ValueError, "values must have data", "meta"),
}


@pytest.fixture(scope="module")
def answers():
    """What a good call gives, from before any failure."""
    return zoomkern.sample_patches(IMAGES, GRID, 3, 8, seed=5, backend="reference")


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_bad_input_is_a_typed_error_that_says_what_is_needed(case, backend, answers):
    call, error, *fragments = case

    with pytest.raises(error) as caught:
        call(backend)

    assert type(caught.value) is error
    message = str(caught.value)
    for fragment in fragments:
        assert re.search(fragment, message), f"{fragment!r} is not in {message!r}"
    after = zoomkern.sample_patches(IMAGES, GRID, 3, 8, seed=5, backend=backend)
    assert torch.equal(after.index, answers.index)
    assert torch.equal(after.patches, answers.patches)


def test_a_failing_call_leaves_out_alone(backend):
    out = torch.full(OUT, 7.0)

    with pytest.raises(ValueError, match="got nan"):
        patches(logits=other(NAN, logits=GRID), out=out)(backend)

    assert (out == 7).all()


# What looks odd and is valid.


def test_an_empty_batch_is_valid(backend):
    drawn = zoomkern.sample_patches(IMAGES[:0], GRID[:0], 3, 8, seed=0, backend=backend)

    assert drawn.patches.shape == (0, 3, 3, 8, 8)
    assert drawn.index.shape == drawn.log_prob.shape == drawn.weight.shape == (0, 3)
    assert drawn.offsets.shape == (0, 3, 2)
    assert zoomkern.expectation(torch.zeros(0, 3, 4), drawn.sample, backend=backend).shape == (0, 4)
    assert zoomkern.sample(LIST[:0], 9, seed=0, backend=backend).index.shape == (0, 9)
    assert zoomkern.estimate_total(torch.zeros(0, 3), drawn)[0].shape == (0,)


@pytest.mark.parametrize("sampler", ["gumbel", "threshold", "replacement", "topk"])
@pytest.mark.parametrize("logits", [torch.zeros(2, 0), torch.full((2, 6), -INF)], ids=["no items", "all -inf"])
def test_where_nothing_can_be_drawn_padding_is_an_answer(backend, sampler, logits):
    places = PLACES[: logits.shape[1]]
    options = {"sampler": sampler, "on_short": "pad", "seed": 0, "fill": 9, "backend": backend}

    drawn = zoomkern.sample_patches(IMAGES, logits, 3, 8, locations=places, **options)

    assert (drawn.index == -1).all()
    assert (drawn.weight == 0).all()
    assert (drawn.log_prob == 0).all()
    assert (drawn.patches == 9).all()


def test_numbers_and_arrays_of_numpy_are_taken_where_numbers_are(backend):
    options = {"mean": np.array([0.1, 0.2, 0.3]), "std": np.float32(0.5), "fill": np.int64(3), "backend": backend}
    plain = {"mean": [0.1, 0.2, 0.3], "std": 0.5, "fill": 3, "backend": backend}

    read = zoomkern.gather_patches(IMAGES, OFFSETS, (np.int64(8), np.int32(4)), step=np.int16(2), **options)

    assert torch.equal(read, zoomkern.gather_patches(IMAGES, OFFSETS, (8, 4), step=2, **plain))
    drawn = zoomkern.sample(GRID, np.int64(3), seed=np.uint64(1 << 63), temperature=np.float32(0.5), backend=backend)
    assert torch.equal(drawn.index, zoomkern.sample(GRID, 3, seed=-(1 << 63), temperature=0.5, backend=backend).index)


def test_a_call_in_inference_mode_spoils_no_later_training(backend):
    options = {"scale": 0.37, "shift": 0.11, "fill": 2.5, "backend": backend}
    with torch.inference_mode():
        zoomkern.gather_patches(FLOATS, OFFSETS, 8, **options)
    images = FLOATS.clone().requires_grad_()

    zoomkern.gather_patches(images, OFFSETS, 8, **options).sum().backward()

    counts = np.zeros((2, 40, 50))
    for b, row in enumerate(OFFSETS.tolist()):
        for y, x in row:
            counts[b, max(y, 0) : max(y + 8, 0), max(x, 0) : max(x + 8, 0)] += 1
    expected = torch.from_numpy(counts)[:, None].expand(2, 3, 40, 50) * 0.37
    torch.testing.assert_close(images.grad, expected.float())
