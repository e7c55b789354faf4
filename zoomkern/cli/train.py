"""``zoomkern fit | validate | test | predict``: a training run from a recipe, on Lightning."""

from __future__ import annotations

from collections.abc import Sequence


def main(words: Sequence[str]) -> int:
    """Runs one command.

    Args:
        words: the command and its options, as :class:`~zoomkern.training.run.Run` takes them.

    Returns:
        The exit status.
    """
    try:
        from zoomkern.training.run import Run
    except ModuleNotFoundError as error:
        raise ImportError(f"training needs {error.name}: pip install 'zoomkern[train]'") from error
    Run(words)
    return 0
