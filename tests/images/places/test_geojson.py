"""read_polygons: what QuPath and GIS programs write, and sentences for what nobody should."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomkern.images import read_polygons

RING = [[0, 0], [8, 0], [8, 4], [0, 4], [0, 0]]
SQUARE = {"type": "Polygon", "coordinates": [RING]}
TURNED = [[0, 0], [0, 8], [4, 8], [4, 0]]


def feature(geometry, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def corners(polygons):
    return [[ring.tolist() for ring in polygon] for polygon in polygons]


@pytest.mark.parametrize(
    "content",
    [
        SQUARE,
        feature(SQUARE),
        [feature(SQUARE)],
        {"type": "FeatureCollection", "features": [feature(SQUARE)]},
        {"type": "FeatureCollection", "features": [feature(None), feature(SQUARE)]},
        {"type": "FeatureCollection", "features": [feature({"type": "Point", "coordinates": [1, 2]}), feature(SQUARE)]},
        {"type": "MultiPolygon", "coordinates": [[RING]]},
        {"type": "GeometryCollection", "geometries": [{"type": "LineString", "coordinates": RING}, SQUARE]},
        {"type": "Polygon", "coordinates": [RING[:-1]]},
        {"type": "Polygon", "coordinates": [[[*position, 7.5] for position in RING]]},
    ],
)
def test_every_wrapping_gives_the_polygon(content, tmp_path):
    file = tmp_path / "drawn.geojson"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())

    for source in (content, file, str(file)):
        polygons = read_polygons(source)
        assert corners(polygons) == [[TURNED]]
        assert polygons[0][0].dtype == np.float64


def test_classes_choose_by_quapths_names():
    other = {"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2]]]}
    content = [
        feature(SQUARE, classification={"name": "Tumor", "color": [200, 0, 0]}),
        feature(other, classification={"names": ["Artifact", "Pen"]}),
        feature(other, classification="Stroma"),
        feature(other),
    ]

    assert corners(read_polygons(content, classes=["Tumor"])) == [[TURNED]]
    assert len(read_polygons(content, classes=["Artifact: Pen", "Stroma"])) == 2
    assert len(read_polygons(content)) == 4
    with pytest.raises(ValueError, match=r"of the classes \['Tumour'\]; its classes are \['Artifact: Pen', 'Stroma'"):
        read_polygons(content, classes=["Tumour"])


@pytest.mark.parametrize("more", [(), (0.0, 0.0, 1.0)])  # rasterio's Affine iterates over nine numbers
def test_map_coordinates_become_pixels(more):
    transform = (10.0, 0.5, 500_000.0, 0.25, -10.0, 5_200_000.0)
    a, b, c, d, e, f = transform
    mapped = [[a * x + b * y + c, d * x + e * y + f] for x, y in RING]

    polygons = read_polygons({"type": "Polygon", "coordinates": [mapped]}, transform=transform + more)

    assert polygons[0][0] == pytest.approx(np.array(TURNED, dtype=float), abs=1e-9)


def in_system(name, **members):
    crs = {"type": "name", "properties": {"name": name}}
    return {"type": "FeatureCollection", "crs": crs, "features": [feature(SQUARE)], **members}


def test_map_coordinates_are_not_taken_for_pixels_nor_the_other_way():
    identity = (1, 0, 0, 0, 1, 0)
    with pytest.raises(ValueError, match=r"holds map coordinates \(urn:ogc:def:crs:EPSG::32633\). Pass the raster's"):
        read_polygons(in_system("urn:ogc:def:crs:EPSG::32633"))
    pixels = {"type": "FeatureCollection", "coordinate_space": "pixels of level 0", "features": [feature(SQUARE)]}
    with pytest.raises(ValueError, match="holds pixels of level 0, which need no transform"):
        read_polygons(pixels, transform=identity)
    assert len(read_polygons(pixels)) == 1


@pytest.mark.parametrize(
    ("file", "raster", "same"),
    [
        ("urn:ogc:def:crs:EPSG::32633", "EPSG:32633", True),
        ("urn:ogc:def:crs:EPSG:6.9:32633", "epsg:32633", True),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", True),
        ("EPSG:32633", 'PROJCS["WGS 84 / UTM zone 33N"]', True),
        ("urn:ogc:def:crs:EPSG::32633", "EPSG:32632", False),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:32632", False),
    ],
)
def test_another_system_than_the_rasters_is_an_error(file, raster, same):
    transform = (1, 0, 0, 0, -1, 0)
    if same:
        assert len(read_polygons(in_system(file), transform=transform, crs=raster)) == 1
        return
    with pytest.raises(ValueError, match="Reproject the file"):
        read_polygons(in_system(file), transform=transform, crs=raster)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (7, "must be GeoJSON, an object with a type; got int"),
        ({}, "of a type that GeoJSON knows; got None"),
        ({"type": "Polygon"}, "must have coordinates, rings of positions; got None"),
        ({"type": "Polygon", "coordinates": []}, r"rings of positions; got \[\]"),
        ({"type": "Polygon", "coordinates": [[]]}, r"rings of positions; got \[\]"),
        ({"type": "Polygon", "coordinates": RING}, "positions of two finite numbers"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1], [2, 2]]]}, "positions of two finite numbers"),
        ({"type": "Polygon", "coordinates": [[["0", "0"], ["1", "1"], ["2", "0"]]]}, "positions of two finite numbers"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, float("nan")], [2, 2]]]}, "positions of two finite numbers"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, None], [2, 2]]]}, "positions of two finite numbers"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [10**400, 1], [2, 2]]]}, "positions of two finite numbers"),
        ({"type": "Polygon", "coordinates": [[[True, False]] * 3]}, "positions of two finite numbers"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, "three corners or more"),
        ({"type": "MultiPolygon", "coordinates": [RING]}, "rings of positions|two finite numbers"),
        ({"type": "FeatureCollection"}, "must have a list of features; got NoneType"),
        ([SQUARE], r"features\[0\], must be a Feature"),
        ([feature(SQUARE), feature({"type": "Polygone"})], r"features\[1\], must be of a type .* 'Polygone'"),
        ([feature("POLYGON (0 0)")], r"features\[0\], must have a geometry"),
        ({"type": "GeometryCollection", "geometries": [3]}, "must have a list of geometries"),
        ({"type": "FeatureCollection", "features": []}, "must hold a polygon; there is none"),
        ({"type": "Point", "coordinates": [1, 2]}, "must hold a polygon; there is none"),
        ({"type": ["Polygon"]}, "of a type that GeoJSON knows"),
    ],
)
def test_what_is_no_geojson_is_answered(content, message):
    with pytest.raises(ValueError, match=message):
        read_polygons(content)


def nested(depth):
    geometry = SQUARE
    for _ in range(depth):
        geometry = {"type": "GeometryCollection", "geometries": [geometry]}
    return geometry


def test_collections_may_be_nested_but_not_without_end():
    assert len(read_polygons(nested(20))) == 1
    with pytest.raises(ValueError, match="nested"):
        read_polygons(nested(5000))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["Polygon", "Feature", "name", "é"])
KEYS = st.sampled_from(
    ["type", "features", "geometry", "geometries", "coordinates", "properties", "classification", "crs"]
)
TYPES = st.sampled_from(["FeatureCollection", "Feature", "GeometryCollection", "Polygon", "MultiPolygon", "Point"])
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.builds(lambda kind, rest: {**rest, "type": kind}, TYPES, st.dictionaries(KEYS, inner, max_size=4))
    ),
    max_leaves=30,
)


@settings(max_examples=500)
@given(JSON)
def test_whatever_json_holds_is_polygons_or_a_sentence(content):
    try:
        polygons = read_polygons(content)
    except ValueError as error:
        assert str(error).endswith((".", "..."))  # noqa: PT017
    except FileNotFoundError:
        assert isinstance(content, str)
    else:
        assert all(len(ring) >= 3 for polygon in polygons for ring in polygon)


def test_one_class_must_be_in_a_list():
    with pytest.raises(TypeError, match=r"classes must be a list of names; got 'Tumor'. Pass \['Tumor'\]"):
        read_polygons(SQUARE, classes="Tumor")


def test_bad_files_are_answered(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.geojson"):
        read_polygons(tmp_path / "nothing.geojson")
    with pytest.raises(FileNotFoundError, match="which is none"):
        read_polygons(tmp_path)
    file = tmp_path / "bad.geojson"
    for content in (b"", b"{", b"\xff\xfe\xfa", b"[" * 100_000, json.dumps(SQUARE).encode()[:-9]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.geojson' must be GeoJSON; it is no JSON"):
            read_polygons(file)


@pytest.mark.parametrize(
    "transform", [(1, 0, 0, 0, 0, 0), (1, 2, 0, 2, 4, 0), (1, 0, 0, 0, 1), (1, 0, float("nan"), 0, 1, 0)]
)
def test_bad_transforms_are_answered(transform):
    with pytest.raises(ValueError, match="transform must be"):
        read_polygons(SQUARE, transform=transform)
