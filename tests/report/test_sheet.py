import numpy as np

from plsc.visualize.sheet import heat, mark, overlay, sheet


def test_heat_goes_from_dark_to_bright():
    colours = heat(np.linspace(0, 1, 9)[None])
    brightness = colours[0].astype(int).sum(axis=1)
    assert colours.dtype == np.uint8 and (np.diff(brightness) > 0).all()


def test_the_largest_weight_is_the_brightest_place():
    weights = np.zeros((4, 4))
    weights[1, 2] = 0.3
    shown = overlay(np.full((32, 32, 3), 100, dtype=np.uint8), weights)
    brightest = np.unravel_index(shown.sum(axis=2).argmax(), (32, 32))
    assert (brightest[0] // 8, brightest[1] // 8) == (1, 2)
    assert overlay(np.zeros((8, 8, 3), dtype=np.uint8), np.ones((2, 2))).shape == (8, 8, 3)


def test_a_mark_changes_a_copy():
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    assert mark(image, (4, 4, 7, 7)).any() and not image.any()


def test_a_sheet_holds_every_picture_and_caption():
    pictures = [np.full((8, 8, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    rows = [("first", pictures), ("second", pictures[:1])]
    image = np.asarray(sheet(rows, "Title", ["a", "b", "c" * 80], "note " * 60))
    values = set(image[..., 0].ravel().tolist())
    assert {10, 20, 30} <= values
    assert image.shape[1] > 3 * 112 and image.shape[0] > 2 * 112
