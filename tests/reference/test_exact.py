"""The shared exp, log and random words: accuracy and known answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from zoomkern.reference import exact, random

mpmath = pytest.importorskip("mpmath")  # comes with torch, by way of sympy


def relative_error(given: Tensor, true: Callable[[float], object], at: Tensor) -> float:
    with mpmath.workprec(200):
        pairs = zip(given.tolist(), at.tolist(), strict=True)
        return max(float(abs(mpmath.mpf(g) / true(mpmath.mpf(x)) - 1)) for g, x in pairs)


class TestExp:
    @pytest.mark.parametrize("lowest", [-1e-6, -1.0, -30.0, -699.9], ids=str)
    def test_is_right_to_two_units_in_the_last_place(self, lowest: float) -> None:
        x = torch.rand(2000, dtype=torch.float64) * lowest
        assert relative_error(exact.exp(x), mpmath.exp, x) < 2**-51

    def test_is_one_at_zero_and_zero_far_below(self) -> None:
        x = torch.tensor([0.0, -700.5, -1e4, -6e38, -torch.inf], dtype=torch.float64)
        assert exact.exp(x).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]

    def test_never_falls_where_its_argument_rises_by_a_visible_step(self) -> None:
        x = torch.linspace(-40, 0, 200_001, dtype=torch.float64)
        assert bool((exact.exp(x).diff() > 0).all())


class TestLog:
    @pytest.mark.parametrize(
        ("low", "high"), [(-1000, 1000), (-64, 6), (-1.0, 1.0)], ids=["all", "variates", "around-one"]
    )
    def test_is_right_to_two_units_in_the_last_place(self, low: float, high: float) -> None:
        x = torch.exp2(torch.rand(2000, dtype=torch.float64) * (high - low) + low)
        x = x[(x - 1).abs() > 1e-3]
        assert relative_error(exact.log(x), mpmath.log, x) < 2**-51

    def test_keeps_its_digits_next_to_one(self) -> None:
        x = 1 + torch.cat([torch.logspace(-15, -2, 500), -torch.logspace(-15, -2, 500)]).double()
        assert relative_error(exact.log(x[x != 1]), mpmath.log, x[x != 1]) < 2**-51

    def test_is_exact_at_powers_of_two(self) -> None:
        x = torch.exp2(torch.tensor([0.0, 1.0, -1.0, 10.0, -64.0], dtype=torch.float64))
        assert exact.log(x).tolist() == [0.0, math.log(2), -math.log(2), 10 * math.log(2), -64 * math.log(2)]


class TestLogExponential:
    @staticmethod
    def true(bits: int) -> object:
        u = (mpmath.mpf(bits) + mpmath.mpf(1) / 2) / mpmath.mpf(2) ** 64
        return mpmath.log(-mpmath.log1p(-u))

    @pytest.mark.parametrize("shift", [0, 5, 9, 10, 11, 20, 32, 40, 60])
    def test_is_the_log_of_an_exponential_variate(self, shift: int) -> None:
        generator = torch.Generator().manual_seed(shift)
        words = torch.randint(1 << 32, (2, 400), generator=generator)
        values = [((h << 32) | low) >> shift for h, low in words.T.tolist()]
        high, low = (torch.tensor([v >> s & 0xFFFFFFFF for v in values]) for s in (32, 0))
        found = exact.log_exponential(high, low).tolist()
        with mpmath.workprec(200):
            error = max(abs(float(f - self.true(v))) for f, v in zip(found, values, strict=True))
        # 1 - u is rounded by 2^-54, which is 2^-44 of a variate of 2^-10, where the series takes over.
        assert error < 2**-43

    def test_ends_are_finite(self) -> None:
        ends = torch.tensor([0, 0xFFFFFFFF])
        low, high = exact.log_exponential(ends, ends).tolist()
        with mpmath.workprec(200):
            assert low == pytest.approx(float(self.true(0)), rel=1e-15)
            assert high == pytest.approx(float(self.true(2**64 - 1)), rel=1e-15)

    def test_rises_with_the_bits(self) -> None:
        """The prefilter of the compiled code rests on it."""
        high = torch.arange(0, 1 << 32, 104_729)
        assert bool((exact.log_exponential(high, torch.zeros_like(high)).diff() > 0).all())
        edge = torch.arange(-2000, 2000) + (1 << 22)  # where the short series ends
        assert bool((exact.log_exponential(edge, torch.zeros_like(edge)).diff() > 0).all())


class TestConstants:
    """That C++ has the same is tested in tests/csrc."""

    def test_constants_are_what_they_are_called(self) -> None:
        assert math.log2(math.e) == exact.LOG2E
        assert math.log(2) == exact.LN2
        with mpmath.workprec(200):
            assert abs(mpmath.mpf(exact.LN2_HIGH) + mpmath.mpf(exact.LN2_LOW) - mpmath.log(2)) < 2**-85


class TestPhilox:
    """Known answers of Random123 (kat_vectors, philox4x32 10)."""

    KNOWN = (
        pytest.param([0] * 4, [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8", id="zeros"),
        pytest.param([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd", id="ones"),
        pytest.param(
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
            id="pi",
        ),
    )

    @pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
    def test_known_answers(self, counter: list[int], key: list[int], words: str) -> None:
        seed = key[0] | key[1] << 32
        signed = torch.tensor(seed - (1 << 64) if seed >> 63 else seed)
        four = [torch.tensor([c]) for c in counter]
        found = random.philox((four[0], four[1], four[2], four[3]), signed)
        assert [f"{int(word):08x}" for word in found] == words.split()

    def test_words_belong_to_items_as_documented(self) -> None:
        seed = torch.tensor(-(2**60) + 17)
        words = random.words(seed, 11, 3, 2, seed.device)
        for item in range(11):
            counter = [torch.tensor([c]) for c in (item >> 2, 0, 3, 2)]
            four = random.philox((counter[0], counter[1], counter[2], counter[3]), seed)
            assert int(words[item]) == int(four[item & 3])

    def test_words_of_fewer_items_are_the_first_of_more(self) -> None:
        seed = torch.tensor(5)
        many = random.words(seed, 1000, 0, 0, seed.device)
        for items in (1, 3, 4, 5, 999):
            assert torch.equal(random.words(seed, items, 0, 0, seed.device), many[:items])


class TestMultiplyHigh:
    @pytest.mark.parametrize("bound", [1, 2, 3, 1000, 2**32 - 1, 2**32, 2**52 + 1, 2**62, 2**63 - 1])
    def test_is_the_upper_half_of_the_product(self, bound: int) -> None:
        words = torch.randint(1 << 32, (2, 300))
        words[:, 0], words[:, 1] = 0, 0xFFFFFFFF
        found = random.multiply_high(words[0], words[1], torch.tensor(bound))
        wanted = [((high << 32 | low) * bound) >> 64 for high, low in words.T.tolist()]
        assert found.tolist() == wanted
