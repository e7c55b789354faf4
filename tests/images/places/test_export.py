"""Drawn patches as GeoJSON: QuPath's properties, exact coordinates, and back again as a mask."""

import json

import numpy as np
import pytest
import torch

import zoomkern
from zoomkern.images import patch_features, polygon_mask, read_polygons, save_geojson
from zoomkern.typing import PADDED_OFFSET, SampledPatches


def drawing(offsets, index=None):
    offsets = torch.tensor(offsets)[None]
    number = offsets.shape[1]
    index = torch.arange(number)[None] if index is None else torch.tensor([index])
    log_prob = torch.log(torch.arange(1, number + 1, dtype=torch.float32) / 10)[None]
    return SampledPatches(torch.zeros(1, number, 1, 1, 1), index, offsets, log_prob, torch.full((1, number), 0.25))


def test_a_drawn_patch_is_a_rectangle_with_its_numbers():
    image = torch.zeros(3, 300, 500, dtype=torch.uint8)
    logits = torch.randn(2, 6, 10, requires_grad=True)
    drawn = zoomkern.sample_patches([image, image], logits, 4, (40, 60), step=2, seed=0)

    features = patch_features(drawn, (80, 120), row=1, stage=2, downsample=4.0, object_type="detection")

    assert len(features) == 4
    for number, found in enumerate(features):
        top, left = (4.0 * drawn.offsets[1, number]).tolist()
        ring = found["geometry"]["coordinates"][0]
        assert ring[0] == ring[-1] == [left, top]
        assert ring[2] == [left + 480, top + 320]
        properties = found["properties"]
        assert properties["objectType"] == "detection"
        assert properties["classification"] == {"name": "stage 2"}
        measured = properties["measurements"]
        assert measured["probability"] == pytest.approx(float(drawn.log_prob[1, number].detach().exp()))
        assert measured["weight"] == float(drawn.weight[1, number])
        assert (measured["index"], measured["stage"]) == (int(drawn.index[1, number]), 2)
        assert {name: properties[name] for name in measured} == measured


def test_the_file_opens_as_qupath_wants_it_and_comes_back_exactly(tmp_path):
    beyond = (1 << 24) + 1
    drawn = drawing([[5, 7], [beyond, 171_359], [PADDED_OFFSET, PADDED_OFFSET]], index=[3, 9, -1])

    save_geojson(tmp_path / "drawn.geojson", patch_features(drawn, (16, 8)))

    content = json.loads((tmp_path / "drawn.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert content["coordinate_space"] == "pixels of level 0"
    assert "crs" not in content
    assert [f["properties"]["index"] for f in content["features"]] == [3, 9]
    polygons = read_polygons(tmp_path / "drawn.geojson")
    assert polygons[1][0].tolist() == [
        [beyond, 171_359],
        [beyond, 171_367],
        [beyond + 16, 171_367],
        [beyond + 16, 171_359],
    ]


def test_both_stages_go_into_one_file_and_back_into_masks(tmp_path):
    tiles, patches = drawing([[0, 0], [64, 32]]), drawing([[8, 8], [72, 40], [80, 48]])
    features = patch_features(tiles, 32, stage=1) + patch_features(patches, 8, stage=2)

    save_geojson(tmp_path / "both.geojson", features)

    for stage, places, extent in (("stage 1", tiles, 32), ("stage 2", patches, 8)):
        expected = np.zeros((128, 128), dtype=bool)
        for y, x in places.offsets[0].tolist():
            expected[y : y + extent, x : x + extent] = True
        mask = polygon_mask(tmp_path / "both.geojson", (128, 128), (128, 128), classes=[stage])
        assert np.array_equal(mask.numpy(), expected)


def area(ring):
    x, y = np.array(ring[:-1]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_a_rasters_map_has_its_system_and_its_turn(tmp_path):
    transform = (0.5, 0.0, 499_980.25, 0.0, -0.5, 5_200_020.75)
    drawn = drawing([[100, 200], [7, 9]])

    save_geojson(tmp_path / "map.geojson", patch_features(drawn, 64), transform=transform, crs="EPSG:32633")

    content = json.loads((tmp_path / "map.geojson").read_text())
    assert content["coordinate_space"] == "map"
    assert content["crs"] == {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    rings = [f["geometry"]["coordinates"][0] for f in content["features"]]
    assert [499_980.25 + 100, 5_200_020.75 - 50] in rings[0]
    assert all(area(ring) == 32 * 32 for ring in rings)  # positive: counter-clockwise
    polygons = read_polygons(tmp_path / "map.geojson", transform=transform, crs="EPSG:32633")
    for polygon, (y, x) in zip(polygons, drawn.offsets[0].tolist(), strict=True):
        assert polygon[0].min(0).tolist() == [y, x]
        assert polygon[0].max(0).tolist() == [y + 64, x + 64]


def test_rasterio_knows_the_map(tmp_path):
    features_of = pytest.importorskip("rasterio.features", reason="rasterio is not installed")
    from affine import Affine

    transform = Affine(10, 0, 500_000, 0, -10, 5_200_000)
    drawn = drawing([[3, 5], [20, 11]])

    save_geojson(tmp_path / "map.geojson", patch_features(drawn, (4, 6)), transform=transform, crs="EPSG:32633")

    content = json.loads((tmp_path / "map.geojson").read_text())
    shapes = [f["geometry"] for f in content["features"]]
    burnt = features_of.rasterize(shapes, out_shape=(40, 30), transform=transform)
    expected = np.zeros((40, 30), dtype=bool)
    expected[3:7, 5:11] = expected[20:24, 11:17] = True
    assert np.array_equal(burnt.astype(bool), expected)
    mask = polygon_mask(tmp_path / "map.geojson", (40, 30), (40, 30), transform=transform, crs="EPSG:32633")
    assert np.array_equal(mask.numpy(), expected)


def test_the_levels_own_downsample_may_differ_along_the_sides():
    ring = patch_features(drawing([[10, 10]]), 4, downsample=(4.0, 4.5))[0]["geometry"]["coordinates"][0]

    assert (ring[0], ring[2]) == ([45, 40], [63, 56])


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    file = tmp_path / "drawn.geojson"
    file.write_text("before")
    broken = patch_features(drawing([[0, 0]]), 4)
    broken[0]["properties"]["weight"] = float("nan")

    with pytest.raises(ValueError, match="JSON"):
        save_geojson(file, broken)

    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"row": 1}, ValueError, "row must be between 0 and 0"),
        ({"stage": 0}, ValueError, "stage must be"),
        ({"extent": 0}, ValueError, "extent"),
        ({"downsample": 0}, ValueError, "downsample must be positive"),
        ({"object_type": "cell"}, ValueError, "object_type must be one of"),
        ({"drawn": zoomkern.sample(torch.zeros(1, 4), 2)}, TypeError, "drawn.offsets must be"),
        ({"drawn": 3}, TypeError, "drawn must be a Sample or SampledPatches"),
    ],
)
def test_bad_arguments_are_answered(options, error, message):
    with pytest.raises(error, match=message):
        patch_features(**{"drawn": drawing([[0, 0]]), "extent": 4, **options})


def test_an_image_with_a_system_but_no_transform_has_pixels(tmp_path):
    save_geojson(tmp_path / "a.geojson", patch_features(drawing([[0, 0]]), 4), crs="EPSG:4326")

    content = json.loads((tmp_path / "a.geojson").read_text())
    assert "crs" not in content
    assert content["coordinate_space"] == "pixels of level 0"
