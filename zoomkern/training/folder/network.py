"""A trained network as a recipe and a file of weights describe it, without the images it was trained on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jsonargparse import ActionConfigFile
from lightning.pytorch.cli import LightningArgumentParser

from zoomkern import checks
from zoomkern.images.scaling import scaled_size
from zoomkern.training.provenance import trained_classes, warn_of_another_network
from zoomkern.training.recipes import read_recipe
from zoomkern.training.task import ClassificationTask
from zoomkern.training.views import Views
from zoomkern.training.weights import load_weights


class Looker(NamedTuple):
    """A network that is ready to look.

    Args:
        task: the network and how it is called, in evaluation mode on its device.
        views: how its images are made small.
        classes: name of every class.
        device: where it is.
        identity: what tells it, its weights and its views from others.
    """

    task: ClassificationTask
    views: Views
    classes: list[str]
    device: torch.device
    identity: str


def load_looker(
    config: Path,
    weights: Path,
    overrides: Sequence[str] = (),
    *,
    views: Views | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
) -> Looker:
    """Make the network of a recipe, and give it its weights.

    Args:
        config: recipe, or the ``config.yaml`` of a run. Its data and trainer are not made.
        weights: what a run saved.
        overrides: options of the network, as ``--model.model.num_samples=50``.
        views: other views than those of the recipe; its tile scale stays.
        classes: names of the classes; None for those beside the weights, else numbers.
        device: "auto", "cpu", "cuda" or "cuda:1".

    Raises:
        FileNotFoundError: there is no recipe, or there are no weights.
        ValueError: they do not fit each other, or the recipe does not say what is needed.
        SystemExit: an option that the network does not have; what is wrong was printed.
    """
    if not config.is_file():
        raise FileNotFoundError(f"there is no recipe {str(config)!r}. Name it with --config, or a run with --run.")
    recipe = read_recipe(config)
    if not isinstance(recipe.get("model"), dict):
        raise ValueError(f"{str(config)!r} must be a recipe with a model; it has none.")
    parser = LightningArgumentParser(prog="zoomkern predict")
    parser.add_argument("--recipe", action=ActionConfigFile)
    parser.add_lightning_class_args(ClassificationTask, "model")
    settings = parser.parse_args(["--recipe", yaml.safe_dump({"model": recipe["model"]}), *overrides])
    settings.pop("recipe")
    network = json.dumps(settings.model.model.as_dict(), sort_keys=True, default=str)
    task = getattr(parser, "instantiate", parser.instantiate_classes)(settings).model
    load_weights(weights, task.model)
    warn_of_another_network(weights, json.loads(network))
    seen = _views(recipe.get("data") or {}, views, getattr(task.model, "tile_scale", None))
    digest = hashlib.sha256(network.encode() + weights.read_bytes() + repr(seen).encode())
    count = task.model.classifier.out_features
    place = _device(device)
    return Looker(task.eval().to(place), seen, _classes(classes, weights, count), place, digest.hexdigest())


def _views(data: dict[str, Any], given: Views | None, tile_scale: float | None) -> Views:
    scale, size = data.get("view_scale"), data.get("view_size")
    if given is not None and (given.view_scale is not None or given.view_size is not None):
        scale, size = given.view_scale, given.view_size
    if scale is None and size is None:
        raise ValueError("a recipe must say in its data how views are made; this one does not. Give --view-size H W.")
    return Views(scale, None if size is None else checks.pair("view_size", size), data.get("tile_scale", tile_scale))


def view_size(views: Views, image_size: tuple[int, int], most: int) -> tuple[int, int]:
    """``(h, w)`` of an image's view.

    Raises:
        ValueError: it has more than ``most`` pixels.
    """
    size = views.view_size or scaled_size(image_size, views.view_scale or 1.0)
    if math.prod(size) > most:
        height, width = (max(round(side * math.sqrt(0.9 * most / math.prod(size))), 1) for side in size)
        said = "" if views.view_size else f", which is view_scale = {views.view_scale or 1.0}"
        raise ValueError(
            f"the view must have at most {most:,} pixels; that of an image of {image_size[0]} x {image_size[1]} has "
            f"{size[0]} x {size[1]}{said}. Give --view-size {height} {width}, or raise --max-view-pixels."
        )
    return size


def _classes(given: Sequence[str] | None, weights: Path, count: int) -> list[str]:
    classes = list(given) if given is not None else trained_classes(weights)
    if classes is None:
        classes = [f"class {number}" for number in range(count)]
    if len(classes) != count or len(set(classes)) != count:
        raise ValueError(f"the network has {count} classes; got {', '.join(classes)}. Name each once with --classes.")
    return classes


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:1; got {name!r}.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device is cuda, and torch sees no CUDA device. Take --device cpu.")
    return device
