"""Trained networks and folders of images for the tests of predictions; scripts that a test starts import it, too."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from zoomkern.models import AttentionSampling, ZoomIn
from zoomkern.nn import AttentionNetwork, FeatureNetwork
from zoomkern.training.weights import save_weights

CLASSES = ["none", "square"]
ATTENTION = {"class_path": "zoomkern.nn.AttentionNetwork", "init_args": {"channels": [4]}}
FEATURES = {
    "class_path": "zoomkern.nn.FeatureNetwork",
    "init_args": {"channels": [8], "kernel_sizes": [3], "strides": [1]},
}
ONE_STAGE: dict[str, Any] = {
    "class_path": "zoomkern.models.AttentionSampling",
    "init_args": {"num_classes": 2, "num_samples": 4, "patch_size": [12, 12]},
}
TWO_STAGES: dict[str, Any] = {
    "class_path": "zoomkern.models.ZoomIn",
    "init_args": {
        "num_classes": 2,
        "num_samples": 4,
        "patch_size": [12, 12],
        "tile_size": [24, 24],
        "tile_scale": 0.5,
        "tile_attention": ATTENTION,
    },
}


def save_run(folder: Path, two_stages: bool = False, channels: int = 1) -> Path:
    """What ``zoomkern fit`` leaves of a network for images of ``channels``; it was not trained."""
    model = TWO_STAGES if two_stages else ONE_STAGE
    arguments = {**model["init_args"], "in_channels": channels}
    parts = {
        "attention": {**ATTENTION, "init_args": {**ATTENTION["init_args"], "in_channels": channels}},
        "features": {**FEATURES, "init_args": {**FEATURES["init_args"], "in_channels": channels}},
    }
    if two_stages:
        parts["tile_attention"] = parts["attention"]
    network = {**model, "init_args": {**arguments, **parts}, "dict_kwargs": {"mean": 0.4, "std": 0.2}}
    data = {"images": {"class_path": "nowhere.Images"}, "view_scale": 0.25}
    if two_stages:
        data["tile_scale"] = 0.5
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"num_classes": 2, "model": network}, "data": data}))
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    torch.manual_seed(0)
    made: dict[str, Any] = {
        "attention": AttentionNetwork(channels, (4,)),
        "features": FeatureNetwork(channels, (8,), (3,), (1,)),
    }
    if two_stages:
        made["tile_attention"] = AttentionNetwork(channels, (4,))
    save_weights(folder / "weights.safetensors", (ZoomIn if two_stages else AttentionSampling)(**{**arguments, **made}))
    return folder


def save_image(path: Path, seed: int, size: tuple[int, int] = (48, 48)) -> Path:
    """Gray noise."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8)).save(path)
    return path


def save_images(root: Path, count: int) -> Path:
    """A folder of different images of different sizes."""
    for number in range(count):
        save_image(root / f"{number:03d}.png", number, (48 + 8 * (number % 3), 48 + 4 * (number % 5)))
    return root


def contents(output: Path) -> dict[str, str]:
    """Every file of an output folder, by its path there: a digest of what it holds."""
    files = (path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
