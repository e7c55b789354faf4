import json

import numpy as np
import pytest

from zoomkern.viewer import find_look
from zoomkern.viewer.overlays import read_look

SUMMARY = {"predicted": "tumour", "classes": ["normal", "tumour"], "probability": [0.25, 0.75]}


@pytest.fixture
def predicted(tmp_path, look_arrays):
    """An output folder with one image, and the image."""
    image = tmp_path / "slide 1.tif"
    image.touch()
    run = tmp_path / "out"
    for folder in ("state", "looks"):
        (run / folder).mkdir(parents=True)
    np.savez(run / "looks/key.npz", **look_arrays)
    write_state(run, image)
    return run, image


def write_state(run, image, **changes):
    state = {"image": image.name, "path": str(image), "status": "done", "files": {"look": "looks/key.npz"}, **SUMMARY}
    (run / "state/key.json").write_text(json.dumps(state | changes))


def test_a_look_is_found_by_path_and_by_name(predicted, tmp_path):
    run, image = predicted
    found = find_look(run, image, (3000, 2000))
    assert found.summary == SUMMARY
    assert [stage.grids.shape for stage in found.stages] == [(1, 2, 3), (2, 5, 5)]
    assert found.tiles[1] == {"box": [0, 1000, 1000, 1000], "probability": 0.3}
    assert len(found.patches) == 3
    moved = tmp_path / "elsewhere" / image.name
    moved.parent.mkdir()
    image.rename(moved)
    assert find_look(run, moved, (3000, 2000)).patches == found.patches


def test_a_failed_image_says_why(predicted):
    run, image = predicted
    write_state(run, image, status="failed", error="the file is damaged.")
    with pytest.raises(ValueError, match="slide 1.tif was not predicted: the file is damaged"):
        find_look(run, image, (3000, 2000))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"look": 5}}, "must name its files; its entry 'files' is {'look': 5}"),
        ({"files": []}, "must name its files"),
        ({"probability": [None, 0.5]}, "must have numbers as probabilities; got None"),
        ({"probability": 1}, "must have lists of classes"),
    ],
)
def test_a_state_of_strangers_is_told(predicted, changes, message):
    run, image = predicted
    write_state(run, image, **changes)
    with pytest.raises(ValueError, match=message):
        find_look(run, image, (3000, 2000))


def test_a_network_that_looks_everywhere_has_no_attention(predicted):
    run, image = predicted
    write_state(run, image, files={})
    assert find_look(run, image, (3000, 2000)).stages == ()


def test_what_is_not_there(predicted, tmp_path):
    run, _ = predicted
    (tmp_path / "other.tif").touch()
    with pytest.raises(FileNotFoundError, match="none of that name"):
        find_look(run, tmp_path / "other.tif", (3000, 2000))
    with pytest.raises(FileNotFoundError, match="no folder 'state'"):
        find_look(tmp_path, tmp_path / "other.tif", (3000, 2000))


def test_a_file_outside_of_the_folder_is_not_read(predicted):
    run, image = predicted
    write_state(run, image, files={"look": "../../secret.npz"})
    with pytest.raises(ValueError, match="outside"):
        find_look(run, image, (3000, 2000))


def test_another_size_and_damage_are_told(predicted):
    run, image = predicted
    with pytest.raises(ValueError, match="3000 x 2000 pixels, not 300 x 200"):
        find_look(run, image, (300, 200))
    (run / "looks/key.npz").write_bytes(b"PK\3\4 no zip")
    with pytest.raises(ValueError, match="is no look"):
        find_look(run, image, (3000, 2000))


@pytest.mark.parametrize("name", ["patch_weight", "tile_attention", "attention", "image_size"])
def test_arrays_of_a_wrong_shape(look_arrays, name):
    with pytest.raises(ValueError, match=f"{name} must be numbers of shape"):
        read_look(look_arrays | {name: np.zeros(1)}, SUMMARY, (3000, 2000))


def test_a_large_grid_keeps_its_peaks(look_arrays):
    attention = np.zeros((3001, 2999), np.float32)
    attention[3000, 2998] = 0.5
    (stage, _) = read_look(look_arrays | {"attention": attention}, SUMMARY, (3000, 2000)).stages
    assert stage.grids.shape == (1, 1501, 1500)
    assert stage.grids[0, -1, -1] == 0.5
    assert "2 x 2" in stage.name
