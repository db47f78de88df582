"""Pretrained networks of torchvision and timm."""
