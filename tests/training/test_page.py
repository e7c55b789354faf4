"""What the page on training shows in Python is true."""

import re
from pathlib import Path

import torch
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_training_by_hand(tmp_path, monkeypatch, capsys):
    generator = torch.Generator().manual_seed(0)
    for place in range(8):
        path = tmp_path / "photos" / ("cat" if place % 2 else "dog") / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (260, 300, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(path)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    losses = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[:5]]
    assert len(losses) == 5
    assert torch.tensor(losses).isfinite().all()
    assert names["model"].contrast_baseline.steps == 4  # of two epochs
