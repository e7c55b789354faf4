"""Checkpoints that are there whole or not at all, and that cannot run code."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import CheckpointIO

from zoomkern.images.files import write_whole

#: What to do about a damaged one.
_CURE = "Restore it; best.ckpt in the place of last.ckpt goes on from the best epoch. Or begin anew in another folder."
#: What Lightning needs of a checkpoint.
_PARTS = {
    "state_dict": dict,
    "epoch": int,
    "global_step": int,
    "callbacks": dict,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "pytorch-lightning_version": str,
}


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What :class:`WholeCheckpoints` wrote, on the host.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, or no checkpoint, or holds more than tensors and plain values; nothing ran.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damage may raise anything
        what = "is truncated, no checkpoint, or one that could run code; nothing of it ran."
        raise ValueError(f"{os.fspath(path)!r} {what} {_CURE}") from error  # torch's own message advises to let it run
    there = checkpoint if isinstance(checkpoint, dict) else {}
    missing = [name for name, kind in _PARTS.items() if not isinstance(there.get(name), kind)]
    if missing or not all(isinstance(value, torch.Tensor) for value in there["state_dict"].values()):
        what = f"must be a training run's checkpoint; it has no {(missing or ['state_dict of tensors'])[0]}."
        raise ValueError(f"{os.fspath(path)!r} {what} {_CURE}")
    return checkpoint


class WholeCheckpoints(CheckpointIO):
    """How Lightning reads and writes checkpoints here.

    Its own way goes through the system's folder of temporary files: from there to another disk the last step is a copy,
    which a kill or a full disk cuts short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the file, whole or not at all."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_whole(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read the file, by :func:`load_checkpoint` whatever is asked."""
        return load_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove the file."""
        Path(path).unlink(missing_ok=True)
