"""Many small images on one picture, each with what it is and what two networks take it for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_TILE = 112
_LINE = 13
_GAP = 10
_COLUMNS = 8
_FONT_SIZE = 11
_RIGHT, _WRONG, _PLAIN = "#1b7837", "#b2182b", "#222222"


@dataclass(frozen=True)
class Caption:
    """What is written under one image."""

    truth: str
    a: str
    b: str


def draw_contact_sheet(
    images: npt.NDArray[np.uint8], captions: Sequence[Caption], title: str
) -> Image.Image:
    """Return an RGB picture of `images` (N, 3, H, W) uint8 in rows of eight.

    Under each: its class, then the answers of A and B, green where right and red where wrong.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    columns = max(1, min(_COLUMNS, len(captions)))
    rows = -(-len(captions) // columns)
    step_x, step_y = _TILE + _GAP, _TILE + 3 * _LINE + _GAP
    top = 2 * _GAP + _LINE
    needed = int(font.getlength(title)) + 2 * _GAP
    size = (max(columns * step_x + _GAP, needed), top + rows * step_y + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, _PLAIN, font)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = _GAP + index % columns * step_x
        y = top + index // columns * step_y
        sheet.paste(_tile(image), (x, y))
        answers = (("A", caption.a), ("B", caption.b))
        lines = [(caption.truth, _PLAIN)]
        lines += [(f"{n}: {c}", _RIGHT if c == caption.truth else _WRONG) for n, c in answers]
        for number, (text, colour) in enumerate(lines):
            draw.text((x, y + _TILE + number * _LINE), _shortened(text, font), colour, font)
    return sheet


def _tile(image: npt.NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    small = max(picture.size) < _TILE
    smooth = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    return picture.resize((_TILE, _TILE), smooth)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return `text`, cut so that it fits under one image."""
    if font.getlength(text) <= _TILE:
        return text
    while text and font.getlength(f"{text}…") > _TILE:
        text = text[:-1]
    return f"{text}…"
