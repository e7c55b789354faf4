"""The constants that stand in C++ and in Python are the same numbers."""

import re
from pathlib import Path

import pytest

from zoomkern import typing
from zoomkern.reference import exact, masses, random, weights

CSRC = Path(__file__).resolve().parents[2] / "csrc"
pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="the C++ sources are not beside the tests")


def _source(name: str) -> str:
    return (CSRC / name).read_text()


def _coefficients(name: str, function: str) -> list[float]:
    body = re.search(rf"{function}\(double (\w)\) \{{\s*return horner\(\1, (.*?)\);", _source(name), re.DOTALL)
    assert body is not None
    words = [word.strip() for word in body.group(2).split(",")]
    return [float.fromhex(word) if "x" in word else float(word) for word in words if word]


@pytest.mark.parametrize(
    ("function", "coefficients"),
    [("exp_polynomial", exact.EXP), ("log_polynomial", exact.LOG), ("log1p_polynomial", exact.LOG1P)],
)
def test_polynomials_have_the_same_coefficients(function: str, coefficients: list[float]) -> None:
    assert _coefficients("core/exact.hpp", function) == coefficients


def test_philox_has_the_same_constants_and_streams() -> None:
    source = _source("core/philox.hpp")
    for number in (*random.MULTIPLIERS, *random.KEY_STEPS):
        assert f"0x{number:08X}u" in source
    streams = (random.RACE_STREAM, random.THRESHOLD_STREAM, random.REPLACEMENT_STREAM)
    assert "kRace = {}, kThreshold = {}, kReplacement = {}".format(*streams) in source


def test_masses_and_quadrature_have_the_same_sizes() -> None:
    assert f"kSumBits = {masses.SUM_BITS}, kMostBits = {masses.MOST_BITS};" in _source("cpu/masses.hpp")
    source = _source("cpu/weights.hpp")
    for name, rule in zip(("kSingle", "kDouble"), weights.RULES.values(), strict=True):
        assert "{} = {{{}, {}, {},".format(name, *rule) in source


def test_padded_offset_is_the_same_number() -> None:
    assert typing.PADDED_OFFSET == -(1 << 62)
    assert "kPaddedOffset = -(int64_t{1} << 62)" in _source("core/image.hpp")
