"""Where to look: masks of an image, candidate places, and both from and to other programs.

Every mask is True where one may look, ``[h, w]`` of the whole image at any size; places are int64 ``(y, x)``.
"""

from zoomkern.images.places.coordinates import Places, read_coordinates
from zoomkern.images.places.export import patch_features, save_geojson
from zoomkern.images.places.geojson import read_polygons
from zoomkern.images.places.grid import grid_places
from zoomkern.images.places.masks import data_mask, user_mask
from zoomkern.images.places.polygons import polygon_mask
from zoomkern.images.places.ranks import for_rank
from zoomkern.images.places.scattered import random_places
from zoomkern.images.places.shares import cell_share, cells_with, share_at
from zoomkern.images.places.tissue import tissue_mask

__all__ = [
    "Places",
    "cell_share",
    "cells_with",
    "data_mask",
    "for_rank",
    "grid_places",
    "patch_features",
    "polygon_mask",
    "random_places",
    "read_coordinates",
    "read_polygons",
    "save_geojson",
    "share_at",
    "tissue_mask",
    "user_mask",
]
