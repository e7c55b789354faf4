import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoomkern.losses import supervised_attention
from zoomkern.training.annotations import annotation_loss, cell_shares
from zoomkern.training.batches import collate
from zoomkern.training.views import ViewedImages, Views

sides = st.tuples(st.integers(-5, 30), st.integers(1, 20))
boxes = st.tuples(sides, sides).map(lambda xy: (xy[0][0], xy[1][0], sum(xy[0]), sum(xy[1])))


@given(st.lists(boxes, max_size=4), st.sampled_from([(24, 24), (12, 36)]), st.sampled_from([(1, 1), (3, 4), (6, 2)]))
def test_shares_are_those_of_painted_pixels(found, size, grid):
    canvas = np.zeros(size)
    for x0, y0, x1, y1 in found:
        canvas[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] += 1
    cells = canvas.reshape(grid[0], size[0] // grid[0], grid[1], size[1] // grid[1]).mean((1, 3))
    shares = cell_shares(torch.tensor(found, dtype=torch.float64).reshape(-1, 4), size, grid)
    assert np.allclose(shares.numpy(), cells, atol=1e-12)


def test_points_cover_a_pixel():
    points = torch.tensor([[3.0, 9.0, 3.0, 9.0], [8.0, 1.0, 8.0, 1.0]])
    shares = cell_shares(points, (12, 12), (2, 2))
    assert shares.tolist() == [[0.0, 1 / 36], [1 / 36, 0.0]]


def test_the_loss_is_least_where_attention_is_the_shares():
    shares = torch.tensor([[0.0, 0.5, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0]])
    best = supervised_attention(torch.tensor([[-50.0, 0.0, -0.6931472, -50.0], [1.0, 2.0, 3.0, 4.0]]), shares)
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert best.item() == pytest.approx(entropy, abs=1e-6)
    for _ in range(20):
        assert supervised_attention(torch.randn(2, 4), shares) > best
    assert supervised_attention(torch.randn(2, 4), torch.zeros(2, 4)) == 0
    with pytest.raises(ValueError, match=r"one shape \[B, ...\]; got \[2, 4\] and \[2, 3\]"):
        supervised_attention(torch.zeros(2, 4), torch.zeros(2, 3))


def test_annotations_of_tiles_are_those_inside_them(small):
    viewed = ViewedImages(small.Squares(), Views(0.25, None, 0.5), seed=0)
    batch = collate([viewed[i, 0] for i in range(6)])
    model = small.network()
    out = model(batch.images, batch.view / 255, batch.tile_view, seed=batch.seed)
    loss = annotation_loss(batch, out, model)
    first = supervised_attention(
        out.attention, torch.stack([cell_shares(o, (48, 48), (12, 12)) for o in batch.objects])
    )
    inner = []
    for objects, tiles, index in zip(batch.objects, out.tiles.offsets, out.tiles.index, strict=True):
        canvas = torch.zeros(48 + 96, 48 + 96, dtype=torch.float64)
        for x0, y0, x1, y1 in objects.long().tolist():
            canvas[48 + y0 : 48 + y1, 48 + x0 : 48 + x1] = 1
        for (y, x), cell in zip((2 * tiles).tolist(), index.tolist(), strict=True):
            tile = canvas[48 + y : 48 + y + 24, 48 + x : 48 + x + 24] if cell >= 0 else torch.zeros(24, 24)
            inner.append(tile.reshape(12, 2, 12, 2).mean((1, 3)))
    second = supervised_attention(out.tile_attention.flatten(0, 1), torch.stack(inner))
    assert torch.allclose(loss, first + second)


def test_supervised_attention_finds_the_objects(small, tmp_path):
    task, data = small.parts(small.Squares(24), batch_size=8)
    task.supervision = 1.0
    task.optimizer = lambda parameters: torch.optim.Adam(parameters, 0.03)
    values = []

    class Loss(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, index):
            pl_module.eval()
            with torch.no_grad():
                values.append(float(annotation_loss(batch, pl_module(batch), pl_module.model)))
            pl_module.train()

    small.trainer(tmp_path, 25, callbacks=[Loss()]).fit(task, datamodule=data)
    uniform = np.log(144) * 2
    assert values[0] == pytest.approx(uniform, rel=0.15)
    assert np.mean(values[-6:]) < uniform - 1.0
