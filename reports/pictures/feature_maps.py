"""Feature maps as a picture: some maps side by side, in one common scale of grey."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

_TILE = 224
_GAP = 12
_FONT_SIZE = 18
_TITLE = 30


def draw_feature_maps(maps: npt.NDArray[np.float32], title: str) -> Image.Image:
    """Return a grey picture of `maps` (K, H, W) side by side, under `title`.

    All of them share one scale from black, the smallest value, to white, the largest, as in the
    homework. Maps that are constant are black.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    width = max(len(maps) * (_TILE + _GAP) + _GAP, int(font.getlength(title)) + 2 * _GAP)
    picture = Image.new("L", (width, _TITLE + _TILE + 2 * _GAP), 255)
    ImageDraw.Draw(picture).text((_GAP, _GAP), title, 0, font)
    low, high = float(maps.min()), float(maps.max())
    scaled = (maps - low) / ((high - low) or 1.0)
    for index, one in enumerate(scaled):
        tile = Image.fromarray(np.rint(one * 255).astype(np.uint8))
        tile = tile.resize((_TILE, _TILE), Image.Resampling.NEAREST)
        picture.paste(tile, (_GAP + index * (_TILE + _GAP), _TITLE + _GAP))
    return picture
