import pytest
import torch

from zoomkern.training.pictures import Pictures, _heaviest, file_name


@pytest.mark.parametrize("repetitions", [1, 3])
def test_a_prediction_draws_its_first_images(small, tmp_path, repetitions):
    task, data = small.parts(num_folds=3)
    task.model.repetitions = repetitions
    pictures = Pictures(tmp_path / "pictures", most=3)
    small.trainer(tmp_path, callbacks=[pictures]).predict(task, datamodule=data, return_predictions=False)
    wanted = {f"{file_name(data.sets['test'].images.names[i])}.png" for i in data.indices["test"][:3]}
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == wanted
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "pictures").iterdir())


def test_places_that_count_most_come_first_and_once():
    index = torch.tensor([7, -1, 3, 7, 5, -1])
    weight = torch.tensor([0.2, 0.0, 0.3, 0.2, 0.3001, 0.0])
    assert _heaviest(index, weight, 5).tolist() == [0, 4, 2]
    assert _heaviest(index, weight, 2).tolist() == [0, 4]
    assert _heaviest(torch.tensor([-1]), torch.zeros(1), 2).tolist() == []


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("img3", "img3"),
        ("tumor/slide 1.tif", "tumor-slide-1.tif"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "image"),
        ("a" * 200, "a" * 150),
    ],
)
def test_names_of_files_lead_nowhere_else(name, file):
    assert file_name(name) == file
