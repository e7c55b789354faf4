"""What stays biased behind a nonlinear head, and that lower variance shrinks it."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "plugin_bias.py"
RULES = (
    ("replacement", "mean"),
    ("gumbel", "desraj"),
    ("gumbel", "murthy"),
    ("threshold", "inclusion"),
    ("two stages", "murthy"),
)
ATTENTIONS = ("diffuse", "moderate", "peaked")
ITEMS = 6

attentions = pytest.mark.parametrize("attention", ATTENTIONS)


@functools.cache
def script() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("the bench scripts are not here")
    spec = importlib.util.spec_from_file_location("plugin_bias", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plugin_bias"] = module
    spec.loader.exec_module(module)
    return module


@functools.cache
def biases() -> dict[tuple[str, str, str], list[tuple[float, float]]]:
    """Bias towards logits and features for 1, 2, ... draws of every attention and rule."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for row in script().measure(ITEMS, range(1, ITEMS + 1), 6):
        found.setdefault((row.attention, row.sampler, row.estimator), []).append((row.logits, row.features))
    return found


@attentions
@pytest.mark.parametrize(("sampler", "estimator"), RULES)
def test_bias_falls_with_the_draws(attention: str, sampler: str, estimator: str) -> None:
    values = biases()[attention, sampler, estimator]
    assert len(values) == ITEMS
    for fewer, more in zip(values, values[1:], strict=False):
        assert more[0] <= fewer[0] + 1e-12
        assert more[1] <= fewer[1] + 1e-12
    assert values[-1][0] < 0.6 * values[0][0]


@attentions
@pytest.mark.parametrize(("sampler", "estimator"), [("gumbel", "murthy"), ("threshold", "inclusion")])
def test_low_variance_is_no_worse_than_replacement(attention: str, sampler: str, estimator: str) -> None:
    """Two systematic draws of even attention come in few pairs, and are no better than two independent ones."""
    fewest = 3 if sampler == "threshold" and attention != "peaked" else 2
    replacement = biases()[attention, "replacement", "mean"]
    own = biases()[attention, sampler, estimator]
    for draws in range(fewest, ITEMS + 1):
        assert own[draws - 1][0] < replacement[draws - 1][0]
    assert own[1][0] < 1.05 * replacement[1][0]


@attentions
def test_one_draw_is_the_same_by_every_rule(attention: str) -> None:
    first = [biases()[(attention, *rule)][0] for rule in RULES]
    assert all(value == pytest.approx(first[0], rel=1e-9) for value in first)


@attentions
def test_drawing_all_items_leaves_no_bias_but_with_replacement(attention: str) -> None:
    last = {rule: biases()[(attention, *rule)][-1] for rule in RULES}
    assert max(last["gumbel", "murthy"]) < 1e-12
    assert max(last["threshold", "inclusion"]) < 1e-12
    assert min(last["replacement", "mean"]) > 1e-3
    assert 1e-3 < min(last["two stages", "murthy"]) < min(last["replacement", "mean"])  # tiles are drawn anew


def test_bias_of_three_draws_from_diffuse_attention_is_of_the_order_of_ten_percent() -> None:
    for rule in RULES[1:]:
        assert 0.05 < biases()[("diffuse", *rule)][2][0] < 0.2


def test_script_writes_a_table_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script().main(["--items", "4", "--features", "2", "--out", str(tmp_path)])
    lines = (tmp_path / "plugin_bias.csv").read_text().splitlines()
    assert lines[0] == "attention,sampler,estimator,num_samples,logits,features"
    assert len(lines) == 1 + len(ATTENTIONS) * len(RULES) * 4
    assert (tmp_path / "plugin_bias.png").read_bytes().startswith(b"\x89PNG")
