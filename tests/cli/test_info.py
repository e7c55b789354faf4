import importlib
import os
import subprocess
import sys

import pytest

from zoomkern.cli import info
from zoomkern.cli.main import COMMANDS, main


@pytest.fixture
def printed(capsys):
    assert main(["info"]) == 0
    return capsys.readouterr().out


def test_every_section_is_printed(printed):
    for section in ("versions", "backends", "processor", "page-locked memory", "environment", "build"):
        assert f"\n{section}\n" in f"\n{printed}"


def test_each_backend_is_on_or_off_with_a_reason():
    backends = info.report()["backends"]
    assert list(backends) == ["reference", "cpu", "cuda", "triton"]
    for line in backends.values():
        state, reason = line.split(maxsplit=1)
        assert state in ("on", "off")
        assert len(reason) > 8


def test_variables_in_force_are_shown(monkeypatch):
    monkeypatch.setenv("ZOOMKERN_DATA", "/some/where")
    monkeypatch.delenv("ZOOMKERN_SIMD", raising=False)
    environment = info.report()["environment"]
    assert environment["ZOOMKERN_DATA"] == "/some/where"
    assert environment["ZOOMKERN_SIMD"] == "not set"


def test_build_record_is_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(info.zoomkern, "__path__", [str(tmp_path)])
    assert "source folder" in info.build()["native"]
    (tmp_path / "_build.json").write_text('{"native": "on", "isa": ["baseline", "avx2"]}')
    assert info.build() == {"native": "on", "isa": "baseline, avx2"}


@pytest.mark.parametrize(
    ("value", "words"), [(None, "none"), (True, "yes"), (4096, "4,096 bytes"), ("madvise", "madvise")]
)
def test_limits_in_words(value, words):
    assert info.limit(value) == words


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_module_of_two_functions(name):
    module = importlib.import_module(f"zoomkern.cli.{name.replace('-', '_')}")
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_info_needs_no_extra():
    code = (
        "import sys; from zoomkern.cli.main import main; main(['info']); "
        "assert not {'matplotlib', 'PIL', 'sklearn', 'zoomkern.cli.demo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_reader_that_leaves_early_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "zoomkern.cli.main", "info"], stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("words", [[], ["inform"], ["info", "--unknown"]])
def test_unknown_words_end_with_a_usage_line(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage: zoomkern" in capsys.readouterr().err


def test_a_missing_extra_is_one_sentence(monkeypatch, capsys):
    def run(args):
        raise ImportError("needs matplotlib: pip install 'zoomkern[demo]'")

    monkeypatch.setattr(info, "run", run)
    with pytest.raises(SystemExit) as stop:
        main(["info"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "zoomkern info: needs matplotlib: pip install 'zoomkern[demo]'\n"
