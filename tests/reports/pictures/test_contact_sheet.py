"""A contact sheet: every image is on it."""

import numpy as np

from foldbench.reports.pictures.contact_sheet import Caption, draw_contact_sheet


def test_a_contact_sheet_holds_every_image() -> None:
    images = np.zeros((9, 3, 8, 8), np.uint8)
    images[:, 0] = 255
    sheet = draw_contact_sheet(images, [Caption("cat", "cat", "a very long name " * 3)] * 9, "x")
    red = (np.asarray(sheet) == (255, 0, 0)).all(2)
    assert red.sum() == 9 * 112 * 112
    assert draw_contact_sheet(images[:0], [], "none").size[0] > 0
