"""Random flips and crops of whole batches, as one gather on the device that holds the images."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def flip_and_crop(
    images: Tensor, *, flip: bool, crop_padding: int, generator: torch.Generator
) -> Tensor:
    """Return each image mirrored with probability 1/2 and cropped at a random place.

    `images` is (N, C, H, W) of any dtype, on any device; so is the result. The crop is taken out of
    the image with `crop_padding` zeros (black) added on each side, so it keeps its size. Random
    numbers come from `generator`, a CPU generator, so that a device does not change them. This is
    torchvision's RandomHorizontalFlip and RandomCrop(size, padding) for a batch.
    """
    count, _, height, width = images.shape
    offsets = torch.randint(0, 2 * crop_padding + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    rows = torch.arange(height) + offsets[0]
    columns = torch.arange(width).expand(count, width)
    if flip:
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = columns + offsets[1]
    padded = pad(images, (crop_padding,) * 4)
    picture = torch.arange(count, device=images.device)[:, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    # One gather of whole pixels (channels last); permuting back is free, contiguous() one copy.
    gathered = padded.permute(0, 2, 3, 1)[picture, rows[:, :, None], columns[:, None, :]]
    return gathered.permute(0, 3, 1, 2).contiguous()


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return ``(images / 255 - mean) / std`` as float32.

    `images` is (N, C, H, W) uint8, `mean` and `std` are (C, 1, 1) float32 on the same device.
    """
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)
