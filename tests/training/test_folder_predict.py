"""Predictions of folders, by the command line: what is written, what is done again, and by whom."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from zoomkern.cli.main import main


@pytest.fixture(scope="module")
def images(folders, tmp_path_factory):
    """Eight of them."""
    return folders.save_images(tmp_path_factory.mktemp("images"), 8)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in list(os.environ):
        if name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") or name.startswith("SLURM_ARRAY"):
            monkeypatch.delenv(name)


def predict(run, images, output, *words):
    return main(["predict", "--run", str(run), "--images", str(images), "--output", str(output), "--quiet", *words])


def table(output):
    with open(output / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def state(output, name):
    return json.loads((output / "state" / f"{name}.json").read_bytes())


def look(output, name):
    return np.load(output / "looks" / f"{name}.npz", allow_pickle=False)


def test_what_is_written_of_two_stages(run_of_two, images, tmp_path):
    assert predict(run_of_two, images, tmp_path / "out", "--mpp", "0.5", "--top", "3") == 0
    out = tmp_path / "out"
    rows = table(out)
    assert [row["image"] for row in rows] == [f"{number:03d}.png" for number in range(8)]
    for row in rows:
        name = row["image"]
        known = state(out, name)
        shares = [float(row["none"]), float(row["square"])]
        assert sum(shares) == pytest.approx(1, abs=2e-6)
        assert known["probability"] == shares
        assert known["predicted"] == row["predicted"] == ("none", "square")[shares[1] > shares[0]]
        assert known["size"] == [int(row["height"]), int(row["width"])]
        assert known["mpp"] == float(row["mpp"]) == 0.5
        assert all((out / file).is_file() for file in known["files"].values())
        assert known["files"].keys() == {"look", "attention", "overlay", "sheet", "outlines"}
        seen = look(out, name)
        assert seen["image_size"].tolist() == known["size"]
        assert seen["attention"].sum() == pytest.approx(1, abs=1e-5)
        assert seen["tile_attention"].sum((1, 2)) == pytest.approx(np.ones(len(seen["tile_offsets"])), abs=1e-5)
        assert seen["patch_offsets"].tolist() == known["places"]
        assert row["places"] == "; ".join(f"{y} {x}" for y, x in known["places"])
        assert (np.diff(seen["patch_weight"]) <= 0).all()
        corner = seen["tile_offsets"][seen["patch_tile"]]
        inside = seen["patch_offsets"] + seen["patch_size"] // 2 - corner
        assert ((inside >= 0) & (inside <= seen["tile_size"])).all()
        with tifffile.TiffFile(out / known["files"]["attention"]) as file:
            assert (file.asarray() == seen["attention"]).all()
            cell = 0.5 * known["size"][0] / seen["attention"].shape[0]
            assert f'PhysicalSizeY="{cell}"' in file.ome_metadata
        outlines = json.loads((out / known["files"]["outlines"]).read_text())
        assert outlines["coordinate_space"] == "pixels of level 0"
        stages = [feature["properties"]["stage"] for feature in outlines["features"]]
        assert stages == [1] * len(seen["tile_offsets"]) + [2] * len(seen["patch_offsets"])
        for kind in ("overlay", "sheet"):
            assert (out / known["files"][kind]).read_bytes().startswith(b"\x89PNG")
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["images"], summary["done"], summary["failed"], summary["missing"]) == (8, 8, [], [])
    assert "8 of 8 images are done, 0 failed, 0 are missing." in (out / "summary.md").read_text()


def as_in_training(run, images, name, number):
    """What Lightning would predict of the same image, view and seed."""
    from PIL import Image

    from zoomkern.training.batches import Item, collate
    from zoomkern.training.folder.network import load_looker
    from zoomkern.training.folder.predict import image_seed

    looker = load_looker(run / "config.yaml", run / "weights.safetensors")
    image = torch.from_numpy(np.array(Image.open(images / name)))[None]
    nothing = torch.zeros(0, 4)
    item = Item(image, *looker.views.make(image), 0, 0, image_seed(number, name), nothing, nothing)
    with torch.no_grad():
        return looker.task.predict_step(collate([item]), 0)


@pytest.mark.parametrize("stages", ["run", "run_of_two"])
def test_the_scores_are_those_of_training(request, stages, images, tmp_path):
    run = request.getfixturevalue(stages)
    predict(run, images, tmp_path / "out", "--top", "0", "--seed", "5")
    for row in table(tmp_path / "out"):
        probability = as_in_training(run, images, row["image"], 5).probability[0]
        assert [float(row["none"]), float(row["square"])] == pytest.approx(probability.tolist(), abs=2e-6)


def test_the_overlay_shows_the_tiles_as_the_second_attention_saw_them(run_of_two, images, tmp_path, monkeypatch):
    from zoomkern.training.folder import results

    shown = {}
    monkeypatch.setattr(results, "save_overlay", lambda path, **given: shown.update({path.stem: given}))
    predict(run_of_two, images, tmp_path / "out", "--top", "3")
    assert len(shown) == 8
    for name, given in shown.items():
        drawn, seen = as_in_training(run_of_two, images, name, 0).output.tiles, look(tmp_path / "out", name)
        tiles = given["tiles"]
        assert len(tiles.offsets) == min(3, len(seen["tile_offsets"]))
        assert len(tiles.parents) == len(given["offsets"]) == min(3, len(seen["patch_offsets"]))
        for i, cell in enumerate(seen["tile_index"][:3]):
            place = drawn.index[0].tolist().index(cell)
            assert torch.allclose(tiles.views[i], drawn.patches[0, place] * 0.2 + 0.4, atol=1e-6)
            assert (tiles.attention[i].numpy() == seen["tile_attention"][i]).all()
        for parent, wanted in zip(tiles.parents.tolist(), seen["patch_tile"], strict=False):
            assert parent == (wanted if wanted < len(tiles.offsets) else -1)


def test_one_bad_file_of_a_hundred(run, folders, tmp_path, capsys):
    images, out = folders.save_images(tmp_path / "images", 100), tmp_path / "out"
    whole = (images / "042.png").read_bytes()
    (images / "042.png").write_bytes(whole[:900])
    assert predict(run, images, out, "--top", "0") == 1
    assert len(table(out)) == 99
    summary = json.loads((out / "summary.json").read_text())
    assert summary["done"] == 99
    assert [entry["image"] for entry in summary["failed"]] == ["042.png"]
    assert str(images / "042.png") in summary["failed"][0]["error"]
    page = (out / "summary.md").read_text()
    assert "99 of 100 images are done, 1 failed, 0 are missing." in page
    assert "| 042.png | " in page
    assert "failed: 042.png: " in capsys.readouterr().err

    before = {path: path.stat().st_mtime_ns for path in (out / "state").iterdir()}
    assert predict(run, images, out, "--top", "0") == 1  # again, and only that one
    (images / "042.png").write_bytes(whole)
    assert predict(run, images, out, "--top", "0") == 0
    after = {path: path.stat().st_mtime_ns for path in (out / "state").iterdir()}
    assert [path.name for path in after if after[path] != before[path]] == ["042.png.json"]
    assert len(table(out)) == 100
    assert "100 of 100 images are done, 0 failed" in (out / "summary.md").read_text()


def test_without_skipping_the_first_error_ends_it(run, folders, tmp_path, capsys):
    images, out = folders.save_images(tmp_path / "images", 5), tmp_path / "out"
    (images / "002.png").write_bytes(b"")
    assert predict(run, images, out, "--top", "0", "--no-skip-errors") == 1
    assert "2 of 5 images are done, 1 failed, 2 are missing" in capsys.readouterr().out
    assert "- 003.png" in (out / "summary.md").read_text()


def said(run, images, out, capsys, *words):
    """What is to be done, and how much was."""
    words = ["predict", "--run", str(run), "--images", str(images), "--output", str(out), "--top", "0", *words]
    main(words)
    lines = capsys.readouterr().out.splitlines()
    return next(line for line in lines if line.startswith("to do: "))


def test_what_is_done_again(run, run_of_two, folders, tmp_path, capsys):
    images, out = folders.save_images(tmp_path / "images", 4), tmp_path / "out"
    assert said(run, images, out, capsys) == "to do: 4 new"
    assert said(run, images, out, capsys) == "to do: nothing"
    first = folders.contents(out)
    folders.save_image(images / "001.png", 99)
    folders.save_image(images / "new.png", 100)
    assert said(run, images, out, capsys) == "to do: 1 changed since, 1 new"
    assert folders.contents(out)["state/000.png.json"] == first["state/000.png.json"]
    assert folders.contents(out)["looks/001.png.npz"] != first["looks/001.png.npz"]
    (out / "looks" / "003.png.npz").unlink()
    assert said(run, images, out, capsys) == "to do: 1 without some of their files"
    assert folders.contents(out)["looks/003.png.npz"] == first["looks/003.png.npz"]
    (out / "state" / "000.png.json").write_text("{")
    assert said(run, images, out, capsys) == "to do: 1 new"
    assert said(run, images, out, capsys, "--overwrite") == "to do: 5 asked for"
    other = "of another network, or with other options"
    assert said(run_of_two, images, out, capsys) == f"to do: 5 {other}"
    assert said(run_of_two, images, out, capsys, "--model.model.num_samples=2") == f"to do: 5 {other}"
    assert len(look(out, "000.png")["patch_offsets"]) == 2
    weights = tmp_path / "run" / "weights.safetensors"
    shutil.copytree(run_of_two, weights.parent)
    from safetensors.torch import load_file

    from zoomkern.models import ZoomIn
    from zoomkern.training.folder.network import load_looker
    from zoomkern.training.weights import save_weights

    model = load_looker(run_of_two / "config.yaml", run_of_two / "weights.safetensors").task.model
    assert isinstance(model, ZoomIn)
    model.classifier.bias.data += 1
    save_weights(weights, model)
    assert load_file(weights).keys() == model.state_dict().keys()
    assert said(run_of_two, images, out, capsys) == f"to do: 5 {other}"
    assert said(weights.parent, images, out, capsys) == f"to do: 5 {other}"
    (tmp_path / "mpp.csv").write_text("image,mpp\n001.png,0.25\n")
    assert said(weights.parent, images, out, capsys, f"--mpp-table={tmp_path / 'mpp.csv'}") == f"to do: 1 {other}"
    assert state(out, "001.png")["mpp"] == 0.25


def test_shards_together_are_the_whole(run, images, tmp_path, folders):
    predict(run, images, tmp_path / "whole", "--top", "2")
    names = []
    for number in (3, 1, 2):
        assert predict(run, images, tmp_path / "parts", "--top", "2", "--shard", f"{number}/3") == 0
        names.append({path.name for path in (tmp_path / "parts" / "state").iterdir()})
    assert [len(some) for some in names] == sorted(len(some) for some in names)
    assert len(names[0]) < len(names[1]) < len(names[2]) == 8
    assert folders.contents(tmp_path / "parts") == folders.contents(tmp_path / "whole")


def test_torchrun_says_which_shard_it_is(run, images, tmp_path, monkeypatch, capsys):
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        words = ["predict", "--run", str(run), "--images", str(images), "--output", str(tmp_path / "out"), "--top=0"]
        assert main(words) == 0
        assert f"shard {int(rank) + 1}/2 (RANK): 4 of 8 images" in capsys.readouterr().out
    assert len(table(tmp_path / "out")) == 8


def test_names_do_not_collide_or_lead_elsewhere(run, folders, tmp_path, monkeypatch):
    images, out = tmp_path / "images", tmp_path / "deep" / "out"
    names = ["a/x.png", "b/x.png", "a+x.png", "a x.png", "a%20x.png", "組織/é.png", "a/x.jpeg", "x;$(rm).png"]
    for seed, name in enumerate(names):
        if name.endswith("png"):
            folders.save_image(images / name, seed)
        else:
            shutil.copy(folders.save_image(tmp_path / "x.png", seed), images / name)
    assert predict(run, images, out, "--top", "1") == 0
    assert [row["image"] for row in table(out)] == sorted(names)
    for folder in ("state", "looks", "attention", "overlays"):
        assert len(list((out / folder).iterdir())) == len(names)
    assert len({row["places"] for row in table(out)}) == len(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "images", "x.png"]
    monkeypatch.chdir(images)
    assert main(["predict", f"--run={run}", "--output", str(tmp_path / "o2"), "--images", "../images/a/x.png"]) == 0
    assert [path.name for path in (tmp_path / "o2" / "state").iterdir()] == ["%2E.+images+a+x.png.json"]


def test_a_view_beyond_bounds_names_the_cure(run, images, tmp_path):
    assert predict(run, images, tmp_path, "--top=0", "--max-view-pixels=150") == 1
    failed = {entry["image"]: entry["error"] for entry in json.loads((tmp_path / "summary.json").read_text())["failed"]}
    assert "000.png" not in failed
    assert failed["002.png"] == (
        "the view must have at most 150 pixels; that of an image of 64 x 56 has 16 x 14, which is view_scale = 0.25. "
        "Give --view-size 12 11, or raise --max-view-pixels."
    )
    assert predict(run, images, tmp_path, "--top=0", "--max-view-pixels=150", "--view-size", "12", "11") == 0
    assert look(tmp_path, "002.png")["attention"].shape == (12, 11)


def save_colour(path, transform=None):
    """Gray glass, and in its lower right quarter tissue."""
    pixels = np.full((96, 128, 3), 240, np.uint8)
    pixels[48:, 64:] = (200, 60, 150)
    tags = []
    if transform is not None:
        tags = [
            (33550, "d", 3, (2.0, 2.0, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4000000.0, 0.0), True),
            (34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32633), True),
        ]
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(32, 32), extratags=tags)


@pytest.fixture(scope="module")
def run_in_colour(folders, tmp_path_factory):
    return folders.save_run(tmp_path_factory.mktemp("colour"), channels=3)


def test_masks(run_in_colour, tmp_path):
    images, out = tmp_path / "images", tmp_path / "images" / "out"  # results among the images are none
    images.mkdir()
    save_colour(images / "slide.tif")
    assert predict(run_in_colour, images, out, "--top=0", "--mask=tissue") == 0
    seen = look(out, "slide.tif")
    assert (seen["attention"][:12].sum(), seen["attention"][:, :16].sum()) == (0, 0)
    assert (seen["patch_offsets"] + 12 > [48, 64]).all()
    blank = images / "blank.tif"
    tifffile.imwrite(blank, np.full((96, 128, 3), 240, np.uint8), photometric="rgb")
    with pytest.warns(UserWarning, match="no tissue"):
        assert predict(run_in_colour, blank, tmp_path / "out2", "--top=0", "--mask=tissue") == 1
    (failed,) = json.loads((tmp_path / "out2" / "summary.json").read_text())["failed"]
    assert failed["error"] == "--mask tissue finds none in it. Look at the image; --mask none looks everywhere."

    outlines = tmp_path / "outlines"
    outlines.mkdir()
    ring = [[0, 0], [64, 0], [64, 48], [0, 48], [0, 0]]
    (outlines / "slide.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    assert predict(run_in_colour, images, out, "--top=0", f"--mask={outlines}") == 1
    assert (look(out, "slide.tif")["patch_offsets"] < [48, 64]).all()
    (failed,) = json.loads((out / "summary.json").read_text())["failed"]
    assert "--mask names a folder without a file for 'blank.tif'" in failed["error"]


def test_a_raster_gets_outlines_on_its_map(run_in_colour, tmp_path):
    save_colour(tmp_path / "raster.tif", transform=True)
    assert predict(run_in_colour, tmp_path / "raster.tif", tmp_path / "out", "--top=0") == 0
    known = table(tmp_path / "out")[0]
    (file,) = (tmp_path / "out" / "patches").iterdir()
    outlines = json.loads(file.read_text())
    assert outlines["coordinate_space"] == "map"
    assert outlines["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    for place, feature in zip(known["places"].split("; "), outlines["features"], strict=True):
        y, x = map(int, place.split())
        corners = np.array(feature["geometry"]["coordinates"][0])
        assert corners.min(0).tolist() == [500000 + 2 * x, 4000000 - 2 * (y + 12)]


def test_outlines_of_a_raster_say_what_they_count(run_in_colour, tmp_path):
    """Degrees, or map coordinates, taken for pixels would be a mask of some other place."""
    save_colour(tmp_path / "raster.tif", transform=True)
    (tmp_path / "masks").mkdir()
    pixels = [[0, 0], [64, 0], [64, 48], [0, 48], [0, 0]]
    on_map = [[500000 + 2 * x, 4000000 - 2 * y] for x, y in pixels]
    out = tmp_path / "out"

    def outcome(ring, **more):
        content = {"type": "Polygon", "coordinates": [ring], **more}
        (tmp_path / "masks" / f"{name}.geojson").write_text(json.dumps(content))
        return predict(run_in_colour, tmp_path / "raster.tif", out, "--top=0", f"--mask={tmp_path / 'masks'}")

    from zoomkern.training.names import output_key

    name = output_key(str(tmp_path / "raster.tif"))
    assert outcome(pixels) == 1
    (failed,) = json.loads((out / "summary.json").read_text())["failed"]
    assert "must say what its coordinates count" in failed["error"]
    assert 'Add "coordinate_space": "map"' in failed["error"]
    for ring, space in ((pixels, "pixels of level 0"), (on_map, "map")):
        assert outcome(ring, coordinate_space=space) == 0
        assert (look(out, name)["patch_offsets"] < [48, 64]).all()
    assert outcome(pixels, coordinate_space="degrees") == 1


def test_a_later_call_for_some_keeps_the_rows_of_all(run, images, tmp_path):
    assert predict(run, images, tmp_path, "--top=0") == 0
    (tmp_path / "some.txt").write_text(f"{images / '003.png'}\n")
    assert predict(run, tmp_path / "some.txt", tmp_path, "--top=0") == 0
    assert len(table(tmp_path)) == 9
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["images"], summary["done"], summary["others_done"]) == (1, 1, 8)
    assert "8 more are done in the folder, of other calls." in (tmp_path / "summary.md").read_text()


def test_a_shard_that_ends_first_writes_its_tables_once(tmp_path, monkeypatch):
    from zoomkern.training.folder import summary
    from zoomkern.training.folder.images import Found
    from zoomkern.training.folder.states import States

    images = [Found(name, tmp_path / name, 1, number) for number, name in enumerate("abc")]
    states, written, write = States(tmp_path), [], summary._write

    def while_others_write(*arguments):
        written.append(write(*arguments))
        states.failed(images[busy], "network", str(len(written)))
        return written[-1]

    monkeypatch.setattr(summary, "_write", while_others_write)
    busy = 0
    assert summary.write_summary(states, images, [])["missing"] == ["a", "b", "c"]
    assert len(written) == 1
    for image in images:
        states.failed(image, "network", "")
    summary.write_summary(states, images, [])
    assert len(written) == 11  # nothing is missing, but the states go on changing


def test_a_damaged_image_below_the_results_fails_alone(run, folders, tmp_path):
    images = folders.save_images(tmp_path / "out" / "slides", 3)
    (images / "001.png").unlink()
    (images / "001.png").mkdir()  # an OSError that names a file in the output folder
    (tmp_path / "list.txt").write_text("".join(f"{images / name}\n" for name in ("000.png", "001.png", "002.png")))
    assert predict(run, tmp_path / "list.txt", tmp_path / "out", "--top=0") == 1
    assert len(table(tmp_path / "out")) == 2


def test_what_is_wrong_with_a_file_is_said_once(run, folders, tmp_path):
    images = folders.save_images(tmp_path / "images", 3)
    (images / "001.png").write_bytes((images / "001.png").read_bytes()[:-40])
    assert predict(run, images, tmp_path / "out", "--top=0") == 1
    (failed,) = json.loads((tmp_path / "out" / "summary.json").read_text())["failed"]
    assert failed["error"].count("path must name a whole image") == 1
    assert failed["error"].count("Fetch or export it again.") == 1


def test_weights_of_another_network_of_the_same_layers_warn(run, images, tmp_path):
    with pytest.warns(UserWarning, match="init_args.num_samples is 5 and was 4. Is that meant"):
        predict(run, images, tmp_path, "--top=0", "--model.model.init_args.num_samples=5")


def test_a_picture_that_is_decoded_whole_has_a_bound(run, images, tmp_path):
    assert predict(run, images, tmp_path, "--top=0", "--max-picture-pixels=2400") == 1
    failed = {entry["image"]: entry["error"] for entry in json.loads((tmp_path / "summary.json").read_text())["failed"]}
    assert "000.png" not in failed
    assert failed["002.png"] == (
        "a file that is decoded as a whole must have at most 2400 pixels; '002.png' has 64 x 56. Copy it with zoomkern "
        "convert first, or raise --max-picture-pixels."
    )


def test_a_network_that_looks_everywhere_has_no_look(folders, tmp_path):
    import yaml

    from zoomkern.models import DenseNetwork
    from zoomkern.training.weights import save_weights

    folders.save_image(tmp_path / "images" / "a.png", 0)
    model = {"class_path": "zoomkern.models.DenseNetwork", "init_args": {"num_classes": 2, "in_channels": 1}}
    recipe = {"model": {"num_classes": 2, "model": model}, "data": {"view_scale": 0.25}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    save_weights(tmp_path / "w.safetensors", DenseNetwork(2, in_channels=1))
    words = ["--config", str(tmp_path / "recipe.yaml"), "--weights", str(tmp_path / "w.safetensors"), "--quiet"]
    out = tmp_path / "out"
    assert main(["predict", *words, "--images", str(tmp_path / "images"), "--output", str(out)]) == 0
    known = state(out, "a.png")
    assert known["files"] == {}
    assert known["classes"] == ["class 0", "class 1"]


def test_a_full_disk_ends_the_run(run, images, tmp_path, monkeypatch, capsys):
    sync, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) > 10:
            raise OSError(28, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SystemExit) as ended:
            predict(run, images, tmp_path, "--top=0")
    assert ended.value.code == 2
    assert "zoomkern predict: [Errno 28] No space left on device: " in capsys.readouterr().err
    assert predict(run, images, tmp_path, "--top=0") == 0
    assert len(table(tmp_path)) == 8


def test_scores_that_are_no_numbers_are_an_error(folders, images, tmp_path):
    run = folders.save_run(tmp_path / "run")
    from zoomkern.training.folder.network import load_looker
    from zoomkern.training.weights import save_weights

    model = load_looker(run / "config.yaml", run / "weights.safetensors").task.model
    model.classifier.bias.data += torch.inf
    save_weights(run / "weights.safetensors", model)
    assert predict(run, images, tmp_path / "out", "--top=0") == 1
    assert "scores are not finite" in (tmp_path / "out" / "summary.md").read_text()


def test_while_the_network_looks_the_next_image_is_read_and_no_more(run, images, tmp_path, monkeypatch):
    """Two images are held at most, however many there are."""
    import weakref

    from zoomkern.training.folder import predict as module

    held, most = weakref.WeakSet(), []
    prepare, look_at = module.prepare, module._look

    def counting(*arguments):
        prepared = prepare(*arguments)
        held.add(prepared.pyramid)
        most.append(len(held))
        return prepared

    def slow(prepared, looker):
        import time

        time.sleep(0.05)
        return look_at(prepared, looker)

    monkeypatch.setattr(module, "prepare", counting)
    monkeypatch.setattr(module, "_look", slow)
    assert predict(run, images, tmp_path, "--top=0") == 0
    assert max(most) == 2


def test_a_missing_library_is_named_before_anything_is_read(run, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(SystemExit) as ended:
        predict(run, images, tmp_path / "out")
    assert ended.value.code == 2
    assert (
        "zoomkern predict: writing OME-TIFF needs tifffile: pip install 'zoomkern[slides]'" in capsys.readouterr().err
    )
    assert not list((tmp_path / "out").rglob("*.json"))


def test_the_folder_that_was_predicted_stays_as_it_was(run, images, tmp_path, folders):
    before = folders.contents(images)
    predict(run, images, tmp_path / "out", "--top=0")
    assert folders.contents(images) == before
    assert not list(Path(tmp_path).rglob("*.part"))


def test_a_dicom_series_is_predicted_once(run_in_colour, dicoms, tmp_path, capsys):
    pixels = np.full((128, 192, 3), 240, np.uint8)
    pixels[64:, 128:] = (200, 60, 150)
    first, second = (dicoms.write_series(tmp_path / "slides", pixels, series) for series in ("1.2.3", "1.2.4"))
    np.save(tmp_path / "slide.npy", pixels)
    out = tmp_path / "out"
    for shard in ("1/2", "2/2"):
        assert predict(run_in_colour, tmp_path / "slides", out, "--top=1", "--mask=tissue", "--shard", shard) == 0
    assert [row["image"] for row in table(out)] == ["1.2.3-1.dcm", "1.2.4-1.dcm"]
    known = state(out, "1.2.3-1.dcm")
    assert (known["path"], known["size"], known["mpp"]) == (str(min(first)), [128, 192], 0.25)
    assert known["input"]["bytes"] == sum(file.stat().st_size for file in first)
    assert (look(out, "1.2.3-1.dcm")["patch_offsets"] + 12 > [64, 128]).all()
    assert said(run_in_colour, tmp_path / "slides", out, capsys, "--mask=tissue", "--top=1") == "to do: nothing"
    os.utime(second[0])
    assert said(run_in_colour, tmp_path / "slides", out, capsys, "--mask=tissue", "--top=1") == "to do: 1 changed since"
    for file in second:
        file.write_bytes(file.read_bytes()[:-64])
    assert predict(run_in_colour, tmp_path / "slides", out, "--top=0") == 1
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["images"], summary["done"]) == (2, 1)
    assert [entry["image"] for entry in summary["failed"]] == ["1.2.4-1.dcm"]
    max(first).unlink()  # the finest level
    assert predict(run_in_colour, tmp_path / "slides", out, "--top=0") == 1
    errors = [entry["error"] for entry in json.loads((out / "summary.json").read_text())["failed"]]
    assert any("the finest file of the series of '1.2.3-1.dcm' is missing" in error for error in errors)


def save_pyramid(path, pixels):
    """Three levels, of which the views are."""
    path.parent.mkdir()
    with tifffile.TiffWriter(path) as file:
        for level in range(3):
            file.write(pixels[:: 2**level, :: 2**level], subfiletype=int(level > 0), photometric="minisblack")
    return path


def test_sixteen_bits_are_parts_of_65535(run_of_two, tmp_path):
    """``257 v`` of them is what ``v`` is of eight: scores, places and pictures are the same."""
    from PIL import Image

    eight = np.random.default_rng(0).integers(0, 256, (96, 128), np.uint8)
    outs = []
    for name, pixels in (("eight", eight), ("sixteen", 257 * eight.astype(np.uint16))):
        path = save_pyramid(tmp_path / name / "slide.tif", pixels)
        outs.append(tmp_path / f"out of {name}")
        assert predict(run_of_two, path.parent, outs[-1]) == 0
    ours, theirs = (state(out, "slide.tif") for out in outs)
    assert ours["probability"] == pytest.approx(theirs["probability"], abs=2e-6)
    assert (ours["places"], ours["size"]) == (theirs["places"], [96, 128])
    for kind in ("overlay", "sheet"):
        one, other = (np.asarray(Image.open(out / ours["files"][kind])).astype(int) for out in outs)
        assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("stages", ["run", "run_of_two"])
def test_sixteen_bits_without_levels_give_the_scores_of_floats(request, stages, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 1 << 16, (96, 128), np.uint16)
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    np.save(tmp_path / "images" / "b.npy", pixels)
    np.save(tmp_path / "images" / "c.npy", (pixels / 65535).astype(np.float32))
    run = request.getfixturevalue(stages)
    words = [f"--model.model.init_args.num_samples={24 if stages == 'run' else 4}"]
    assert predict(run, tmp_path / "images", tmp_path / "out", "--top=0", *words) == 0
    maps = [look(tmp_path / "out", name)["attention"] for name in ("a.png", "b.npy", "c.npy")]
    assert (maps[0] == maps[1]).all()
    assert maps[1] == pytest.approx(maps[2], abs=1e-5)


def test_twelve_bits_of_sixteen_are_seen(run, tmp_path):
    """In pictures alone is white what 12 bits hold."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(2048, 4096, (64, 64), np.uint16)
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", pixels)
    assert predict(run, tmp_path / "images", tmp_path / "out") == 0
    sheet = np.asarray(Image.open(tmp_path / "out" / state(tmp_path / "out", "a.npy")["files"]["sheet"]))[..., 0]
    assert np.mean(sheet >= 127) > 0.2


def test_pixels_of_a_type_that_no_image_has_are_named(run, tmp_path):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", np.zeros((64, 64), np.int64))
    assert predict(run, tmp_path / "images", tmp_path / "out") == 1
    (failed,) = json.loads((tmp_path / "out" / "summary.json").read_text())["failed"]
    assert "pixels are int64, which no image here has; save them as float32" in failed["error"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [", "is no YAML in line 1, column 9"),
        ("- 3", "holds no options, so it is no recipe"),
        ("data: {view_scale: 0.25}", "must be a recipe with a model; it has none."),
        ("", "holds no options"),
    ],
)
def test_what_is_no_recipe_is_named(run, images, tmp_path, capsys, text, said):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(SystemExit) as ended:
        predict(run, images, tmp_path / "out", "--config", str(tmp_path / "recipe.yaml"))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_recipe_that_makes_no_views_is_not_guessed(run, images, tmp_path, capsys):
    import yaml

    model = {"model": yaml.safe_load((run / "config.yaml").read_text())["model"]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(model))
    words = ["--config", str(tmp_path / "recipe.yaml"), "--weights", str(run / "weights.safetensors")]
    with pytest.raises(SystemExit):
        predict(run, images, tmp_path / "out", *words)
    assert (
        "must say in its data how views are made; this one does not. Give --view-size H W." in capsys.readouterr().err
    )
    assert predict(run, images, tmp_path / "out", *words, "--view-scale=0.25") == 0
    assert predict(run, images, tmp_path / "same") == 0
    assert table(tmp_path / "out") == table(tmp_path / "same")
