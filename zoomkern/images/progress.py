"""How a long job tells how far it is."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def counted(
    progress: bool | Callable[[int, int], None], total: int, what: str, unit: str = "row"
) -> Iterator[Callable[[int], None]]:
    """A function to be called with each number of units done.

    Args:
        progress: False for silence, True for tqdm's bar, or a function of ``(done, total)``.
        total: Units in all.
        what: The bar's label.
        unit: What is counted.
    """
    if progress is True:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            warnings.warn("progress=True needs tqdm to show a bar: pip install 'zoomkern[demo]'", stacklevel=4)
            progress = False
        else:
            with tqdm(total=total, desc=what, unit=unit, unit_scale=True) as bar:
                yield lambda count: bar.update(count) and None
            return
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if callable(progress):
            progress(done, total)

    yield advance
