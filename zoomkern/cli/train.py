"""``zoomkern fit | validate | test | predict``: a training run from a recipe, on Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def main(words: Sequence[str]) -> int:
    """Runs one command.

    Args:
        words: the command and its options, as :class:`~zoomkern.training.run.Run` takes them; ``--run DIR`` stands for
            the configuration and the folder of a run.

    Returns:
        The exit status.

    Raises:
        FileNotFoundError: there is no such run.
    """
    require_training()
    from zoomkern.training.run import Run

    run = Run(_expanded(words))
    for path in run.written:
        print(f"Written: {path}")
    return 0


def _expanded(words: Sequence[str]) -> list[str]:
    """``--run DIR`` as ``--config DIR/config.yaml --folder DIR``, before what follows it."""
    expanded: list[str] = []
    rest = iter(words)
    for word in rest:
        name, _, folder = word.partition("=")
        if name == "--run" and words[0] != "fit":
            folder = folder or next(rest, "")
            if not Path(folder, "config.yaml").is_file():
                raise FileNotFoundError(f"there is no run in {folder!r}, which has no config.yaml. Check --run.")
            expanded += ["--config", f"{folder}/config.yaml", "--folder", folder]
        else:
            expanded.append(word)
    return expanded


def require_training() -> None:
    """Import what training needs.

    Raises:
        ImportError: something is missing; the message names it and the extra.
    """
    try:
        import zoomkern.training.run  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(f"training needs {error.name}: pip install 'zoomkern[train]'") from error
