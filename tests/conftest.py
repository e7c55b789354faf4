"""Fixtures that all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():  # read when Triton is first imported, which torch.compile does
    os.environ.setdefault("TRITON_INTERPRET", "1")

from zoomkern.ops import backends

# The same examples on every run; `--hypothesis-profile=default` searches for others.
settings.register_profile("zoomkern", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("zoomkern")


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = (
        "fail unless the tests that are skipped, and why, are the lines of this file ('path: reason'); "
        "those after '? ' may be, or may not"
    )
    parser.addoption("--expect-skips", metavar="FILE", type=Path, help=help_text)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A test that is skipped without notice might as well not be there."""
    file = config.getoption("expect_skips")
    if file is None:
        return
    reports = terminalreporter.stats.get("skipped", [])
    given = {f"{report.nodeid.split('::')[0]}: {report.longrepr[2].removeprefix('Skipped: ')}" for report in reports}
    lines = file.read_text().splitlines()
    expected = {line for line in lines if not line.startswith("? ")}
    given -= {line.removeprefix("? ") for line in lines} - expected
    for sign, lines in (("+", given - expected), ("-", expected - given)):
        for line in sorted(lines):
            terminalreporter.write_line(f"{sign} {line}", red=True)
    if given != expected:
        terminalreporter.write_line(f"the skipped tests are not those of {file}: edit it, or mend them", red=True)
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that can serve host memory; what is not built is skipped, and says why."""
    on, reason = backends.explain()[request.param]
    if not on:
        pytest.skip(reason)
    return request.param


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The folder of a real data set, by its name; where there is none the test is skipped."""

    def folder(name: str) -> Path:
        root = os.environ.get("ZOOMKERN_DATA")
        if not root:
            pytest.skip("ZOOMKERN_DATA is not set; it names the folder of the real data sets")
        if not (Path(root) / name).is_dir():
            pytest.skip(f"ZOOMKERN_DATA has no folder {name}")
        return Path(root) / name

    return folder


@pytest.fixture(scope="session")
def dicoms() -> ModuleType:
    """The module beside this file that writes whole-slide DICOM files."""
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from tests import dicoms

    return dicoms


@pytest.fixture
def native() -> str:
    """The compiled CPU backend, for what would take the reference minutes."""
    on, reason = backends.explain()["cpu"]
    if not on:
        pytest.skip(reason)
    return "cpu"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _poisoned(create: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        result = create(*args, **kwargs)
        if torch.compiler.is_compiling():
            return result
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.split(".")[0] == "zoomkern" and (result.is_floating_point() or result.is_complex()):
            with torch.no_grad():
                result.fill_(torch.nan)
        return result

    return poisoned


@pytest.fixture(autouse=True)
def _poison_uninitialised_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floating-point memory that zoomkern's Python code leaves unwritten reads as NaN."""
    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, _poisoned(getattr(torch, name)))
    for name in ("new_empty", "new_empty_strided"):
        monkeypatch.setattr(torch.Tensor, name, _poisoned(getattr(torch.Tensor, name)))
