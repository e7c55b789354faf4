"""Images where they live: page memory, pyramids, banks of many, and places to look at."""

from zoomkern.images.bank import ImageBank
from zoomkern.images.memory import host_module
from zoomkern.images.pinned import PinnedImage
from zoomkern.images.places import (
    Places,
    cell_share,
    cells_with,
    data_mask,
    for_rank,
    grid_places,
    patch_features,
    polygon_mask,
    random_places,
    read_coordinates,
    read_polygons,
    save_geojson,
    share_at,
    tissue_mask,
    user_mask,
)
from zoomkern.images.pyramid import Pyramid
from zoomkern.images.readers import open_image
from zoomkern.images.resolve import resolve_images
from zoomkern.images.scaling import scaled
from zoomkern.images.tiles import TileCache

__all__ = [
    "ImageBank",
    "PinnedImage",
    "Places",
    "Pyramid",
    "TileCache",
    "cell_share",
    "cells_with",
    "data_mask",
    "for_rank",
    "grid_places",
    "host_module",
    "open_image",
    "patch_features",
    "polygon_mask",
    "random_places",
    "read_coordinates",
    "read_polygons",
    "resolve_images",
    "save_geojson",
    "scaled",
    "share_at",
    "tissue_mask",
    "user_mask",
]
