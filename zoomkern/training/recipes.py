"""Recipe files, looked at before the parser that knows no file names reads them."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

#: The options that name a recipe.
_OPTIONS = ("-c", "--config")


def require_recipes(words: Sequence[str]) -> None:
    """Every file that ``words`` name as a recipe must be YAML with options in it.

    Args:
        words: a command's, with ``--config FILE`` or ``--config=FILE`` among them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else, as :func:`read_recipe` says.
    """
    following = [value for word, value in zip(words, words[1:], strict=False) if word in _OPTIONS]
    joined = [word.partition("=")[2] for word in words if word.partition("=")[0] in _OPTIONS and "=" in word]
    for path in (*following, *joined):
        read_recipe(Path(path))


def read_recipe(path: Path) -> dict[str, Any]:
    """The options that a recipe holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else; the message names the file, and the line where YAML ends.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {str(path)!r}. Check the path after --config.")
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        said = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise ValueError(f"{str(path)!r} is no YAML{where}: {said}. Mend it, or name a recipe.") from error
    if not isinstance(options, dict):
        raise ValueError(f"{str(path)!r} holds no options, so it is no recipe. Name a YAML file such as config.yaml.")
    return options


def nearest(message: str, options: Iterable[str]) -> str:
    """What a wrong option was probably meant to be, as a sentence to be appended; empty where nothing is like it.

    Args:
        message: the parser's, which names the option in quotes, and the class that does not take it.
        options: that the parser itself has, with dots.
    """
    wrong = re.findall(r"(?:[Oo]ption '|unrecognized arguments: --)([\w.-]+)", message)
    if not wrong:
        return ""
    named = re.findall(r"class_path '([\w.]+)\.(\w+)'", message)
    if named:  # the innermost class is the last one
        module, name = named[-1]
        try:
            parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        except (ImportError, AttributeError, TypeError, ValueError):  # no class, or one that does not tell
            return ""
        meant = difflib.get_close_matches(wrong[-1].partition(".")[0], list(parameters), 1)
        if not meant and any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return f". Further arguments of {name} go below its dict_kwargs"
    else:
        meant = difflib.get_close_matches(wrong[-1], list(options), 1)
    return f". Is {meant[0]!r} meant?" if meant else ""
