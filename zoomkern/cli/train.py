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
    require_training()
    from zoomkern.training.run import Run

    run = Run(words)
    for path in run.written:
        print(f"Written: {path}")
    return 0


def require_training() -> None:
    """Import what training needs.

    Raises:
        ImportError: something is missing; the message names it and the extra.
    """
    try:
        import zoomkern.training.run  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(f"training needs {error.name}: pip install 'zoomkern[train]'") from error
