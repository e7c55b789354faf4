"""What a run keeps of itself, so that a resumed one chooses the epoch that a whole one would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class KeptCheckpoint(ModelCheckpoint):
    """Lightning's callback, for one file of a run's folder that is written anew whenever it is time.

    Two things differ. A folder that was moved or copied still knows which epoch was best, and how good it was. And what
    is kept every few steps leaves an epoch's last step to what is kept at its end, after validation: a run that went on
    from between the two would never validate that epoch.

    Args:
        folder: where the file lies.
        name: of the file, without its ending.
        **when: as for Lightning's ``ModelCheckpoint``: ``monitor`` and ``mode``, or ``every_n_train_steps``.
    """

    def __init__(self, folder: Path, name: str, **when: Any) -> None:
        super().__init__(folder, name, enable_version_counter=False, **when)

    @property
    def state_key(self) -> str:
        """Lightning's own, under which checkpoints of earlier versions hold what this one takes up."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        """Write the file if it is time, but not at an epoch's end."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *rest)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was kept, wherever the folder lies now."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: here(state_dict[name]) for name in paths if name in state_dict}
        best = {here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})
