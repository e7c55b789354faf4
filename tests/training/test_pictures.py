import pytest
import torch

from zoomkern.images import Pyramid
from zoomkern.training import pictures as module
from zoomkern.training.folder.look import look_of
from zoomkern.training.names import output_key
from zoomkern.training.pictures import Pictures, _heaviest
from zoomkern.training.predictions import Predictions, predictions_table
from zoomkern.training.task import ClassificationTask


@pytest.mark.parametrize("repetitions", [1, 3])
def test_a_prediction_draws_its_first_images(small, tmp_path, repetitions):
    task, data = small.parts(num_folds=3)
    task.model.repetitions = repetitions
    pictures = Pictures(tmp_path / "pictures", most=3)
    small.trainer(tmp_path, callbacks=[pictures]).predict(task, datamodule=data, return_predictions=False)
    wanted = {f"{output_key(data.sets['test'].images.names[i])}.png" for i in data.indices["test"][:3]}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == wanted
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "pictures").iterdir())


@pytest.mark.parametrize(("name", "number"), [("selection", 3), ("selection", 20), ("perturbed", 3)])
def test_what_the_rivals_read_is_written_and_drawn(small, tmp_path, monkeypatch, name, number):
    """Of twenty patches the image has sixteen; the rest is padding."""
    torch.manual_seed(0)
    task = ClassificationTask(small.selection(number) if name == "selection" else small.perturbed(), 2)
    _, data = small.parts(num_folds=3)
    given, real = {}, module.save_attention
    monkeypatch.setattr(module, "save_attention", lambda path, **kw: (given.update({path.stem: kw}), real(path, **kw)))
    rows, drawing = Predictions(), Pictures(tmp_path / "pictures", most=10)
    outputs = small.trainer(tmp_path, callbacks=[rows, drawing]).predict(task, datamodule=data)
    images = data.sets["test"].images
    for output in outputs:
        for row, index in enumerate(output.index.tolist()):
            there = output.output.index[row] >= 0
            wanted = output.output.offsets[row][there].tolist()
            assert len(wanted) == min(number, 16)
            assert rows.rows[index].places == [(y, x) for y, x in wanted]
            shown = given[output_key(images.names[index])]
            assert sorted(shown["offsets"].tolist()) == sorted(wanted)
            pixels = [images.image(index)[:, y : y + 12, x : x + 12] for y, x in shown["offsets"].tolist()]
            inside = [i for i, pixel in enumerate(pixels) if pixel.shape == (1, 12, 12)]  # of some a part hangs over
            assert inside
            torch.testing.assert_close(shown["patches"][inside], torch.stack([pixels[i] for i in inside]) / 255)
            if name == "selection":
                assert shown["attention"] is None
                torch.testing.assert_close(
                    shown["probabilities"], output.output.shares[row][there].sort(descending=True)[0]
                )
            else:
                assert float(shown["attention"].sum()) == pytest.approx(1)
            path = tmp_path / "pictures" / f"{output_key(images.names[index])}.png"
            assert path.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "predictions.csv").write_text(predictions_table(images, rows.rows))
    lines = (tmp_path / "predictions.csv").read_text().splitlines()[1:]
    assert [len(line.split(",")[-1].split("; ")) for line in lines] == [min(number, 16)] * 4


def test_a_picture_says_what_it_shows_and_fills_as_the_network_does(small, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = small.selection(20, fill=50)  # of the last of 16 places a part hangs over the edge
    given = {}
    monkeypatch.setattr(module, "save_attention", lambda path, **kw: given.update({path.stem: kw}))
    monkeypatch.setattr(module, "MOST_PATCHES", 15)
    task, (_, data) = ClassificationTask(model, 2), small.parts(small.Squares(), num_folds=3)
    small.trainer(tmp_path, callbacks=[Pictures(tmp_path, most=9)]).predict(task, datamodule=data)
    images = data.sets["test"].images
    for index in data.indices["test"]:
        shown = given[output_key(images.names[index])]
        assert "15 of 16 places read are shown" in shown["subtitle"]
        assert ("1 annotated objects marked" in shown["subtitle"]) == bool(images.labels[index])
        for pixels, (y, x) in zip(shown["patches"], shown["offsets"].tolist(), strict=True):
            outside = torch.ones(12, 12, dtype=torch.bool)
            outside[max(-y, 0) : 48 - y, max(-x, 0) : 48 - x] = False
            assert torch.equal(pixels[0][outside], torch.full((int(outside.sum()),), 50 / 255))


def test_a_picture_shows_the_level_that_is_read(small, tmp_path, monkeypatch):
    class Pyramids(small.Squares):
        def image(self, index):
            return Pyramid.build(super().image(index), levels=2)

    torch.manual_seed(0)
    images, given = Pyramids(), {}
    monkeypatch.setattr(module, "save_attention", lambda path, **kw: given.update({path.stem: kw}))
    task, (_, data) = ClassificationTask(small.selection(level=1), 2), small.parts(images, num_folds=3)
    small.trainer(tmp_path, callbacks=[Pictures(tmp_path, most=9)]).predict(task, datamodule=data)
    assert len(given) == 4
    for index in data.indices["test"]:
        shown, level = given[output_key(images.names[index])], images.image(index)[1]
        assert shown["image_size"] == (24, 24)
        assert torch.equal(shown["objects"], images.objects(index) / 2)
        pixels = torch.stack([level[:, y : y + 12, x : x + 12] for y, x in shown["offsets"].tolist()])
        torch.testing.assert_close(shown["patches"], pixels / 255)


@pytest.mark.parametrize("name", ["selection", "perturbed"])
def test_looks_of_the_rivals_hold_their_patches(small, name):
    torch.manual_seed(0)
    model = getattr(small, name)().eval()
    image = small.Squares().image(1)[None]
    with torch.no_grad():
        out = model(*[{"images": image, "view": image[..., ::4, ::4] / 255}[word] for word in model.inputs])
    look = look_of(out, model, (48, 48), None)
    assert ("attention" in look) == (name == "perturbed")
    assert sorted(look["patch_index"].tolist()) == sorted(out.index[0].tolist())
    assert look["patch_weight"].sum() == pytest.approx(1, abs=1e-6)


def test_places_that_count_most_come_first_and_once():
    index = torch.tensor([7, -1, 3, 7, 5, -1])
    weight = torch.tensor([0.2, 0.0, 0.3, 0.2, 0.3001, 0.0])
    assert _heaviest(index, weight, 5).tolist() == [0, 4, 2]
    assert _heaviest(index, weight, 2).tolist() == [0, 4]
    assert _heaviest(torch.tensor([-1]), torch.zeros(1), 2).tolist() == []
