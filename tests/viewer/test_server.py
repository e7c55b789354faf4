import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib import resources

import numpy as np
import pytest

from zoomkern.viewer import Picture, ViewServer
from zoomkern.viewer.overlays import read_look
from zoomkern.viewer.server import HOST, MOST_CONNECTIONS, STATIC

HUGE = [(100_000, 100_000), (25_000, 25_000), (6250, 6250)]
#: Seconds for any tile of the huge image while four clients ask, and for an answer beside connections that are silent;
#: of a machine with two cores that others share.
MOST_SECONDS = 5.0


def request(running, path):
    return f"GET /{running.server.secret}/{path} HTTP/1.1\r\nHost: {HOST}:{running.server.server_port}\r\n\r\n".encode()


@pytest.fixture
def running(ramp, serve, look_arrays):
    look = read_look(look_arrays, {"predicted": "a", "classes": [], "probability": []}, (3000, 2000))
    with serve(ramp([(3000, 2000)], mpp=0.5), look) as running:
        yield running


def test_the_page_and_its_files_are_served_with_their_headers(running):
    for path, (_, media) in STATIC.items():
        answer = running.ask(path)
        assert (answer.status, answer.headers["Content-Type"]) == (200, media)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Python" not in answer.headers["Server"]


def test_the_page_is_told_of_image_and_look(running):
    view = json.loads(running.ask("view.json").body)
    assert (view["width"], view["height"], view["mpp"], view["stretch"]) == (3000, 2000, 0.5, None)
    assert [stage["boxes"][0] for stage in view["look"]["stages"]] == [[0, 0, 3000, 2000], [1000, 0, 1000, 1000]]
    assert view["look"]["patches"][0] == {"box": [1400, 200, 200, 200], "probability": 0.008, "weight": 0.5, "tile": 0}
    cells = np.frombuffer(running.ask("attention/0").body, "<f4")
    assert cells.tolist() == pytest.approx([0.1, 0.2, 0.1, 0.3, 0.2, 0.1])


def test_tiles(running):
    answer = running.ask("tiles/12/0_0")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    assert answer.body[:2] == b"\xff\xd8"
    assert running.ask("tiles/12/0_0").body == answer.body


@pytest.mark.parametrize(
    "path",
    [
        "../server.py", "%2e%2e/server.py", "..%2fserver.py", "static/viewer.js", "/etc/passwd", "//etc/passwd",
        "%2fetc%2fpasswd", "viewer.js/", "viewer.js?x=1", "viewer.js%00", "..\\server.py", "tiles/12/0_0.jpg",
        "tiles/12/../12/0_0", "tiles/99/0_0", "tiles/12/99_0", "tiles/12/-1_0", "tiles/12/9999999999_0", "attention/2",
    ],
)  # fmt: skip
def test_nothing_else_is_served(running, path):
    assert running.ask(path).status == 404


def test_silent_connections_keep_nobody_out(running):
    held = [socket.create_connection((HOST, running.server.server_port)) for _ in range(MOST_CONNECTIONS + 16)]
    for path in ("", "view.json", "tiles/12/0_0"):
        start = time.monotonic()
        assert running.ask(path).status == 200
        assert time.monotonic() - start < MOST_SECONDS
    for connection in held:
        connection.close()


@pytest.mark.parametrize("kind", ["silent", "slow", "idle"])
def test_a_request_must_come_in_time(running, monkeypatch, kind):
    monkeypatch.setattr("zoomkern.viewer.server.MOST_WAITING", 1.0)
    with socket.create_connection((HOST, running.server.server_port)) as connection:
        if kind == "idle":
            connection.sendall(request(running, "tiles/12/0_0"))
            assert connection.recv(1 << 20).startswith(b"HTTP/1.1 200 ")
        connection.settimeout(0.1)
        end = time.monotonic() + MOST_SECONDS
        while time.monotonic() < end:
            try:
                if kind == "slow":
                    connection.send(b"G")
                if not connection.recv(1 << 20):
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("it is still open")


def test_beyond_its_connections_others_are_told(ramp, serve, monkeypatch):
    monkeypatch.setattr("zoomkern.viewer.server.MOST_CONNECTIONS", 2)
    begun, go_on = threading.Semaphore(0), threading.Event()
    with serve(ramp([(300, 200)])) as running:
        monkeypatch.setattr(running.server.picture, "tile", lambda *_: (begun.release(), go_on.wait(60), b"")[-1])
        held = [socket.create_connection((HOST, running.server.server_port)) for _ in range(2)]
        for connection in held:
            connection.sendall(request(running, "tiles/9/0_0"))
            assert begun.acquire(timeout=60)
        with socket.create_connection((HOST, running.server.server_port)) as another:
            assert another.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
        go_on.set()
        for connection in held:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        end = time.monotonic() + MOST_SECONDS
        while running.ask("").status != 200:  # in the place of one that is idle, a moment after its answer
            assert time.monotonic() < end
            time.sleep(0.01)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("path", ["/", "/view.json", "/wrong/", "/../etc/passwd", "http://evil.example/", "/é/"])
def test_nothing_without_the_secret(running, path):
    path = path.encode().decode("latin-1") if path.isascii() else "/%C3%A9/"
    assert running.ask(path, whole=True).status == 404


def test_another_host_is_refused(running):
    port = running.server.server_port
    for host in ([], ["evil.example"], [f"evil.example:{port}"], ["127.0.0.1"], [f"127.0.0.1:{port}", "evil.example"]):
        assert running.ask("", host=host).status == 403
    assert running.ask("", host=[f"LOCALHOST:{port}"]).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT"])
def test_only_get_is_answered(running, method):
    answer = running.ask("", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


def test_no_other_interface_answers(running):
    port = running.server.server_port
    assert running.server.server_address[0] == HOST
    found = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in {*found, "127.0.0.2"} - {HOST}:
        with pytest.raises(OSError, match="refused|unreachable|timed out"):
            socket.create_connection((address, port), 2).close()


def test_a_port_in_use(running, ramp):
    port = running.server.server_port
    with pytest.raises(OSError, match=f"--port {port} cannot be opened: it is in use"):
        ViewServer(Picture(ramp([(300, 200)])), None, port)


def test_a_damaged_place_is_told(running, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("no such block")

    monkeypatch.setattr(running.server.picture.reader, "_read_window", fail)
    assert running.ask("tiles/11/0_0").status == 500
    assert "no such block" in capsys.readouterr().err
    assert running.ask("").status == 200


def test_a_huge_image_answers_four_clients(ramp, serve):
    slowest = []
    with serve(ramp(HUGE)) as running:
        zoom = running.server.picture.zoom

        def client(seed):
            random = np.random.default_rng(seed)
            connection = http.client.HTTPConnection(HOST, running.server.server_port, timeout=60)
            for _ in range(12):
                level = int(random.integers(zoom.least, zoom.most + 1))
                column, row = (int(random.integers(-(-side // 256))) for side in zoom.size(level))
                start = time.monotonic()
                connection.request("GET", f"/{running.server.secret}/tiles/{level}/{column}_{row}")
                response = connection.getresponse()
                assert response.read()
                slowest.append(time.monotonic() - start)
                assert response.status == 200
            connection.close()

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(slowest) == 48
    assert max(slowest) < MOST_SECONDS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_cleanly(tmp_path, number):
    np.save(tmp_path / "image.npy", np.zeros((300, 400, 3), np.uint8))
    words = [sys.executable, "-m", "zoomkern.cli.main", "view", str(tmp_path / "image.npy"), "--no-browser"]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    assert "http://127.0.0.1:" in process.stdout.readline()
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_bad_input_is_one_sentence(tmp_path, capsys):
    from zoomkern.cli.main import main

    np.save(tmp_path / "image.npy", np.zeros((300, 400, 3), np.uint8))
    for words in (["absent.png"], [str(tmp_path / "image.npy"), "--port", "70000"],
                  [str(tmp_path / "image.npy"), "--run", str(tmp_path)]):  # fmt: skip
        assert main(["view", *words, "--no-browser"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("zoomkern view: ")
        assert said.count("\n") == 1


def test_the_files_of_the_page_are_in_the_package():
    folder = resources.files("zoomkern.viewer") / "static"
    for name, _ in STATIC.values():
        assert (folder / name).is_file()
    assert "Redistribution" in (folder / "LICENSE.openseadragon.txt").read_text()
