"""Random changes to whole batches of images, on the device that holds them."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def flip_and_crop(
    images: Tensor,
    *,
    flip: bool,
    crop_padding: int,
    generator: torch.Generator,
    mirrored: Tensor | None = None,
    reflect: bool = False,
) -> Tensor:
    """Return each image mirrored with probability 1/2 and cropped at a random place.

    `images` is (N, C, H, W) of any dtype, on any device; so is the result. The crop is taken out of
    the image with `crop_padding` zeros (black) added on each side, so it keeps its size. Random
    numbers come from `generator`, a CPU generator, so that a device does not change them. This is
    torchvision's RandomHorizontalFlip and RandomCrop(size, padding) for a batch. Which images are
    mirrored can be given instead, as `mirrored` (N,) bool on the CPU. With `reflect`, the image
    goes on beyond its edge as its own mirror image instead of black.
    """
    count, _, height, width = images.shape
    offsets = torch.randint(0, 2 * crop_padding + 1, (2, count, 1), generator=generator)
    coins = torch.rand(count, 1, generator=generator) < 0.5
    rows = torch.arange(height) + offsets[0]
    columns = torch.arange(width).expand(count, width)
    if flip:
        chosen = coins if mirrored is None else mirrored[:, None]
        columns = torch.where(chosen, width - 1 - columns, columns)
    columns = columns + offsets[1]
    padded = images if reflect else pad(images, (crop_padding,) * 4)
    if reflect:
        rows = _reflected(rows - crop_padding, height)
        columns = _reflected(columns - crop_padding, width)
    picture = torch.arange(count, device=images.device)[:, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    # One gather of whole pixels (channels last); permuting back is free, contiguous() one copy.
    gathered = padded.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]]
    return gathered.permute(0, 3, 1, 2).contiguous()


def _reflected(indices: Tensor, size: int) -> Tensor:
    """Return `indices` mirrored at 0 and at `size` - 1, as often as it takes."""
    last = size - 1
    return last - (last - indices.remainder(max(1, 2 * last))).abs()


def toss_coins(count: int, seed: int) -> Tensor:
    """Return (count,) bool on the CPU: which images are mirrored in the first epoch.

    In the second epoch it is the others, and so on: after two epochs every image has been seen both
    ways, which chance alone does for half of them (K. Jordan, arXiv:2404.00498,
    2024).
    """
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.5


def cut_out(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return `images` with zeros in a square of `size` pixels at a random place within each.

    `images` is (N, C, H, W) float; the square is no larger than the image. Zero is the mean colour
    once images are normalised (T. DeVries, G. Taylor, Improved regularization of convolutional
    neural networks with cutout, 2017).
    """
    count, _, height, width = images.shape
    tall, wide = min(size, height), min(size, width)
    top = torch.randint(0, height - tall + 1, (count, 1), generator=generator)
    start = torch.randint(0, width - wide + 1, (count, 1), generator=generator)
    inside = _boxes(images.shape, top, top + tall, start, start + wide)
    return images.masked_fill(inside[:, None].to(images.device), 0)


def cut_mix(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return `images` with a box of the image before it pasted into each, and what each kept.

    `images` is (N, C, H, W) of any dtype; the image before the first is the last. An image gets a
    box with probability `share`; the box's place is uniform, so is its area before what lies beyond
    the edge is cut off. What is kept is (N,) float32 on the images' device: the share of its pixels
    that are an image's own, and so the weight of its label against that of the image before it
    (S. Yun and others, CutMix, 2019, with alpha 1).
    """
    count, _, height, width = images.shape
    area, row, column, coin = torch.rand(4, count, 1, generator=generator)
    half = area.sqrt() * (coin < share) / 2
    top, bottom = ((row + sign * half).clamp(0, 1) * height for sign in (-1, 1))
    start, end = ((column + sign * half).clamp(0, 1) * width for sign in (-1, 1))
    inside = _boxes(images.shape, top.round(), bottom.round(), start.round(), end.round())
    kept = 1 - inside.float().mean((1, 2))
    mixed = torch.where(inside[:, None].to(images.device), images.roll(1, 0), images)
    return mixed, kept.to(images.device)


def _boxes(shape: torch.Size, top: Tensor, bottom: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Return (N, H, W) bool: rows from `top` to before `bottom`, columns likewise; all (N, 1)."""
    rows, columns = torch.arange(shape[2]), torch.arange(shape[3])
    tall, wide = (rows >= top) & (rows < bottom), (columns >= start) & (columns < end)
    return tall[:, :, None] & wide[:, None, :]


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return ``(images / 255 - mean) / std`` as float32; what is float32 already, as it is.

    `images` is (N, C, H, W) uint8 or float32, `mean` and `std` are (C, 1, 1) float32 on the same
    device.
    """
    if images.is_floating_point():
        return images
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)
