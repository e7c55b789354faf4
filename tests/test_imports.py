"""The import contract, and what importing the package costs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import zoomkern

ROOT = Path(__file__).resolve().parent.parent
#: Packages of the extras: each is imported where it is used, when it is used.
LATE = {
    *("PIL", "h5py", "imagecodecs", "lightning", "matplotlib", "openslide", "rasterio", "scipy", "skimage", "sklearn"),
    *("tifffile", "timm", "torchvision", "tqdm", "triton", "zarr"),
}


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_imports_go_down_only():
    pytest.importorskip("importlinter", reason="import-linter is not installed; pip install 'zoomkern[test]'")

    done = run("import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_a_room_that_looks_up_breaks_the_contract(tmp_path):
    pytest.importorskip("importlinter", reason="import-linter is not installed; pip install 'zoomkern[test]'")
    config = (
        (ROOT / "pyproject.toml")
        .read_text()
        .replace('"functional",', "")
        .replace('"checks | typing",', '"checks | typing | functional",')
    )
    changed = tmp_path / "pyproject.toml"
    changed.write_text(config)

    call = f"lint_imports({str(changed)!r}, no_cache=True)"
    done = run(f"import sys; from importlinter.cli import lint_imports; sys.exit({call})")

    assert done.returncode == 1, done.stdout + done.stderr
    assert "zoomkern.functional" in done.stdout


def test_importing_the_package_imports_no_extra():
    done = run(
        "import sys, json, torch; before = set(sys.modules); import zoomkern;"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )

    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    assert "zoomkern" in imported
    assert not imported & LATE


@pytest.mark.parametrize(
    "room", ["zoomkern.nn", "zoomkern.losses", "zoomkern.models", "zoomkern.data", "zoomkern.cli.main"]
)
def test_importing_a_room_imports_no_extra_either(room):
    done = run(
        f"import sys, json, torch; before = set(sys.modules); import {room};"
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )

    assert done.returncode == 0, done.stderr
    assert not set(json.loads(done.stdout)) & LATE


def test_every_public_name_is_there():
    assert zoomkern.__all__ == sorted(zoomkern.__all__)
    for name in zoomkern.__all__:
        assert getattr(zoomkern, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zoomkern.nothing
