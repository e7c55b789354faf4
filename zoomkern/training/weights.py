"""Weights alone, in a file that cannot hold code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from zoomkern.images.files import write_whole

SUFFIX = ".safetensors"
#: The file beside a run's weights that names the classes, a JSON list.
CLASSES = "classes.json"
#: The entry of the file's header that names the network it is of.
_NETWORK = "zoomkern_network"


def save_weights(path: Path, model: nn.Module) -> None:
    """Write every parameter and buffer of ``model``, whole or not at all."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_whole(path, save(tensors, {_NETWORK: type(model).__name__}))


def load_weights(path: Path, model: nn.Module) -> None:
    """Read what :func:`save_weights` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated or no such file, or holds the weights of another network; the message says which.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {str(path)!r}. Training writes it when it ends: finish it with --resume true, or name "
            "another file with --weights."
        )
    if path.suffix == ".ckpt":
        raise ValueError(
            f"{str(path)!r} is a checkpoint, from which training goes on (--resume true in its folder); weights are in "
            f"a {SUFFIX} file, written when it ends."
        )
    try:
        with safe_open(path, "pt") as file:
            network = (file.metadata() or {}).get(_NETWORK)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is truncated or no safetensors file: {error}. Fetch it again.") from error
    if network not in (None, type(model).__name__):  # others may have the same entries
        what = f"{str(path)!r} holds the weights of another network, a {network}; this one is a {type(model).__name__}."
        raise ValueError(f"{what} Use the configuration it was trained with.")
    require_same(path, tensors, model)
    model.load_state_dict(tensors)


def require_same(path: Path, given: Mapping[str, Tensor], model: nn.Module) -> None:
    """Entries of a file, which must be those of ``model``.

    Raises:
        ValueError: names or shapes differ.
    """
    there = {name: list(tensor.shape) for name, tensor in given.items()}
    own = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    if own != there:
        differing = sorted(name for name in own.keys() | there.keys() if own.get(name) != there.get(name))
        first = differing[0]
        raise ValueError(
            f"{str(path)!r} holds the weights of another network; this one is a {type(model).__name__}. "
            f"They differ in {len(differing)} entries, {first!r} first: {there.get(first, 'absent')} instead of "
            f"{own.get(first, 'absent')}. Use the configuration it was trained with."
        )
