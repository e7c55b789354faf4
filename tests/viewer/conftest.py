"""Images of which every pixel is known, and servers of them."""

import http.client
import itertools
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from zoomkern.images.readers import Header, Reader
from zoomkern.viewer import Picture, ViewServer


class Ramp(Reader):
    """Pixels that are computed from their places: level 0's (y, x) holds (x // 16, y // 16, 7) modulo 256."""

    def __init__(self, path, sizes, dtype=torch.uint8, channels=3, mpp=None):
        path.touch()
        self.given = Header(tuple(sizes), channels, dtype, ((256, 256),) * len(sizes), mpp=mpp)
        self.windows = []
        super().__init__(path)

    def _open(self):
        return None

    def _read_header(self, handle):
        return self.given

    def _read_window(self, handle, level, y, x, height, width):
        self.windows.append((level, height, width))
        scale = self.dimensions[0] / self.level_dimensions[level][0]
        columns = ((np.arange(x, x + width) + 0.5) * scale / 16).astype(int)
        rows = ((np.arange(y, y + height) + 0.5) * scale / 16).astype(int)
        kind = str(self.header.dtype).removeprefix("torch.")
        pixels = np.full((height, width, self.header.channels), 7, kind)
        limit = 256 if kind == "uint8" else 1 << 15
        for band, values in enumerate((columns, rows[:, None])[: self.header.channels]):
            pixels[..., band] = (values % limit).astype(kind)
        return pixels


@pytest.fixture
def ramp(tmp_path):
    numbers = itertools.count()
    return lambda *args, **options: Ramp(tmp_path / f"ramp {next(numbers)}.tif", *args, **options)


@contextmanager
def serving(reader, look=None, port=0):
    """A server in a thread, and ``get(path, method, host)`` below its secret: status, headers and body."""
    with ViewServer(Picture(reader), look, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()

        def ask(path, method="GET", host=None, whole=False):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
            connection.putrequest(method, path if whole else f"/{server.secret}/{path}", skip_host=True)
            for name in [f"127.0.0.1:{server.server_port}"] if host is None else host:
                connection.putheader("Host", name)
            connection.endheaders()
            response = connection.getresponse()
            answer = SimpleNamespace(status=response.status, headers=response.headers, body=response.read())
            connection.close()
            return answer

        try:
            yield SimpleNamespace(server=server, url=server.url, ask=ask)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def serve():
    return serving


@pytest.fixture
def look_arrays():
    """Of an image of 3000 x 2000 pixels: two stages, three patches in two tiles."""
    return {
        "image_size": np.array([2000, 3000]),
        "attention": np.array([[0.1, 0.2, 0.1], [0.3, 0.2, 0.1]], np.float32),
        "tile_offsets": np.array([[0, 1000], [1000, 0]]),
        "tile_size": np.array([1000, 1000]),
        "tile_probability": np.array([0.2, 0.3]),
        "tile_attention": np.full((2, 5, 5), 0.04, np.float32),
        "patch_offsets": np.array([[200, 1400], [1200, 600], [1600, 200]]),
        "patch_size": np.array([200, 200]),
        "patch_probability": np.array([0.008, 0.012, 0.012]),
        "patch_weight": np.array([0.5, 0.3, 0.2]),
        "patch_tile": np.array([0, 1, 1]),
    }
