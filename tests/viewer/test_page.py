"""The page in a browser: it loads from this machine only, shows tiles, attention and boxes, and obeys."""

import pytest

from tests.viewer.browser import Browser, find_browser
from zoomkern.viewer.overlays import read_look

LOADED = "window.page && page.osd.world.getItemCount() === 1 && page.osd.world.getItemAt(0).getFullyLoaded()"
RESTED = f"{LOADED} && !page.osd.isAnimating()"
PIXEL = "Array.from(page.canvas.getContext('2d').getImageData({}, {}, 1, 1).data)"


@pytest.fixture
def tab(tmp_path):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    with Browser(tmp_path / "profile", program) as browser:
        yield browser


@pytest.fixture
def page(tab, ramp, serve, look_arrays):
    look = read_look(look_arrays, {"predicted": "b", "classes": ["a", "b"], "probability": [0.2, 0.8]}, (3000, 2000))
    with serve(ramp([(3000, 2000)], mpp=0.5), look) as running:
        tab.open(running.url)
        tab.wait(RESTED)
        yield tab
        tab.open("about:blank")


def at(page, x, y):
    """Where a place of the image is in the window."""
    left, top, scale, ox, oy = page.run(
        "(() => {const f = page.canvas.getBoundingClientRect(), t = page.transform();"
        "return [f.left, f.top, t.scale, t.x, t.y]})()"
    )
    return left + ox + x * scale, top + oy + y * scale


def test_the_page(page, tmp_path):
    assert page.run("document.title") == "ramp 0.tif – zoomkern"
    assert page.run("byId('length').textContent").endswith("µm")
    assert page.run("document.querySelectorAll('#patches button').length") == 3

    # the attention lies over its cells: the heaviest is the brightest
    def opacity(x, y):
        scale, ox, oy = page.run("(() => {const t = page.transform(); return [t.scale, t.x, t.y]})()")
        return page.run(PIXEL.format(round(ox + x * scale), round(oy + y * scale)))[3]

    page.run("page.stages[1].shown = false; page.draw()")
    assert opacity(500, 1900) > opacity(2900, 1900) > 0

    # the bar says its values and how it is scaled
    said = "page.stages[0].ticks.map((tick) => tick.textContent)"
    assert page.run(said) == ["0 %", "25 %", "100 %"]
    assert page.run("page.stages[0].kind.textContent") == "Probability of a cell, square-root scale; uniform: 16.7 %"
    page.run("byId('curve').value = '1'; byId('curve').dispatchEvent(new Event('change'))")
    assert page.run(said) == ["0 %", "50 %", "100 %"]
    assert "linear scale" in page.run("page.stages[0].kind.textContent")

    page.click(*at(page, 1500, 300))  # the middle of the first patch
    page.wait(f"page.chosen === 0 && {RESTED}")
    assert "0.8 %" in page.run("byId('chosen').textContent")
    assert "0.5" in page.run("byId('chosen').textContent")
    assert page.run("document.querySelector('#patches button').ariaPressed") == "true"
    page.wait("page.transform().scale > 0.5")  # it zooms

    page.press("n")
    page.wait("page.chosen === 1")
    page.press("Escape")
    page.wait("page.chosen === null")
    page.run("document.querySelectorAll('.stage input[type=checkbox]')[0].click()")
    assert page.run("page.stages[0].shown") is False
    page.run("byId('home').click()")
    page.wait(RESTED)
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000

    page.resize(400, 700)
    page.wait("document.documentElement.scrollWidth <= 400 && page.canvas.clientHeight > 300")
    unnamed = "[...document.querySelectorAll('button, input, select')].filter((e) => !(e.labels && e.labels.length)"
    assert page.run(f"{unnamed} && !e.ariaLabel && !e.textContent.trim()).length") == 0
    origin = page.run("location.origin")
    assert all(url.startswith((f"{origin}/", "data:")) for url in page.requests() if url != "about:blank")
    assert page.complaints() == []
