import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from zoomkern.viewer import find_look
from zoomkern.viewer.overlays import MOST_LOOK_BYTES, load_arrays, read_look

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


def test_infinite_attention_is_refused(look_arrays):
    look_arrays["attention"][0, 0] = np.inf
    with pytest.raises(ValueError, match="First attention must be finite"):
        read_look(look_arrays, {}, (3000, 2000))


def test_a_large_grid_keeps_its_peaks(look_arrays):
    attention = np.zeros((3001, 2999), np.float32)
    attention[3000, 2998] = 0.5
    (stage, _) = read_look(look_arrays | {"attention": attention}, SUMMARY, (3000, 2000)).stages
    assert stage.grids.shape == (1, 1501, 1500)
    assert stage.grids[0, -1, -1] == 0.5
    assert "2 x 2" in stage.name


def test_the_page_is_told_where_the_colours_end(look_arrays):
    """Of 6 cells the uniform one has so much that the colours end at 1; of 100 x 100 they end at 16 times as much."""
    even = np.full((100, 100), 1e-4, np.float32)
    peaked = even.copy()
    peaked[0, 0] = 0.5
    for attention, uniform, end in ((look_arrays["attention"], 1 / 6, 1), (even, 1e-4, 16e-4), (peaked, 1e-4, 0.5)):
        stage = read_look(look_arrays | {"attention": attention}, SUMMARY, (3000, 2000)).page()["stages"][0]
        assert (stage["uniform"], stage["end"]) == pytest.approx((uniform, end))


def header(shape, kind="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


LONG_HEADER = b"\x93NUMPY\2\0" + (1 << 26).to_bytes(4, "little") + bytes(1 << 26)


@pytest.mark.parametrize(
    ("name", "data", "packing", "message"),
    [
        ("attention", header((10**6, 10**6)), zipfile.ZIP_STORED, r"at most 268,435,456 bytes; .* claim 4,000,000,"),
        ("attention", header((1 << 13, (1 << 13) + 1)), zipfile.ZIP_STORED, "at most 268,435,456 bytes"),
        ("attention", header((-4, 4)), zipfile.ZIP_STORED, "numbers in 2 dimensions"),
        ("attention", header((10**9,) * 3), zipfile.ZIP_STORED, "numbers in 2 dimensions"),
        ("attention", header((2, 3), "<U100000"), zipfile.ZIP_STORED, "attention must be numbers"),
        ("attention", LONG_HEADER, zipfile.ZIP_DEFLATED, "EOF: reading array header"),
        ("attention", header((2, 3)), zipfile.ZIP_LZMA, "must be stored or deflated"),
        ("patch_offsets", header((10**7, 2), "<i8"), zipfile.ZIP_STORED, "at most 65,536 rows; .* claims 10,000,000"),
    ],
)
def test_a_header_that_claims_too_much_takes_no_memory(predicted, look_arrays, name, data, packing, message):
    run, image = predicted
    np.savez(run / "looks/key.npz", **{key: array for key, array in look_arrays.items() if key != name})
    with zipfile.ZipFile(run / "looks/key.npz", "a") as members:
        members.writestr(f"{name}.npy", data, packing)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"is no look at this image: .*{message}.*Predict the image again"):
            find_look(run, image, (3000, 2000))
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_look_that_is_too_large_is_refused(predicted, tmp_path):
    run, image = predicted
    np.save(tmp_path / "one.npy", np.zeros((10**6, 3), np.uint8))
    (tmp_path / "one.npy").rename(run / "looks/key.npz")
    with pytest.raises(ValueError, match="is no look"):
        find_look(run, image, (3000, 2000))
    with (run / "looks/key.npz").open("wb") as file:
        file.truncate(2 * MOST_LOOK_BYTES + 1)
    with pytest.raises(ValueError, match="at most 536,870,912 bytes; it has 536,870,913"):
        find_look(run, image, (3000, 2000))


def test_only_what_the_page_shows_is_read(predicted, look_arrays):
    file = predicted[0] / "looks/key.npz"
    with zipfile.ZipFile(file, "a") as members:
        members.writestr("tile_weight.npy", header((10**9, 10**9)))
    arrays = load_arrays(file)
    assert arrays.keys() == look_arrays.keys()
    assert all((arrays[name] == array).all() for name, array in look_arrays.items())
