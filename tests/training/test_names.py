import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomkern.training.names import legible, output_key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("slide_1.svs", "slide_1.svs"),
        ("tumor/slide 1.tif", "tumor+slide%201.tif"),
        ("tumor+slide 1.tif", "tumor%2Bslide%201.tif"),
        ("../../etc/passwd", "%2E.+..+etc+passwd"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("Größe/組織.png", "Größe+組織.png"),
        ("a%20b", "a%2520b"),
        ("a\nb\0c", "a%0Ab%00c"),
        ("\udcff.tif", "%FF.tif"),
    ],
)
def test_keys(name, key):
    assert output_key(name) == key


def test_composed_and_decomposed_letters_differ_on_any_file_system():
    composed, decomposed = "é.tif", unicodedata.normalize("NFD", "é.tif")
    assert unicodedata.normalize("NFC", output_key(composed)) != unicodedata.normalize("NFC", output_key(decomposed))


def test_long_names_stay_different_and_short_enough():
    names = [f"{'組' * 200}{end}" for end in ("a", "b", "")] + ["x" * 300, "x" * 301]
    keys = [output_key(name) for name in names]
    assert len(set(keys)) == len(names)
    assert max(len(os.fsencode(key)) for key in keys) <= 180


def test_a_name_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must have a name"):
        output_key("")


#: What may stand in a path: no NUL; letters that look like escapes are likely.
NAMES = st.text(st.sampled_from("aA.+%~2EFB/ \\:-é組\n\udc80") | st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(NAMES, NAMES)
def test_different_names_have_different_keys_that_stay_in_their_folder(one, other):
    keys = output_key(one), output_key(other)
    assert (one == other) == (keys[0] == keys[1])
    for key in keys:
        assert "/" not in key
        assert "\\" not in key
        assert not key.startswith(".")
        assert os.fsencode(key)


def test_legible_names():
    assert legible("a\nb\udc80 é.tif") == "a\\nb\\udc80 é.tif"
