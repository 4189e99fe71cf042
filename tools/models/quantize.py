#!/usr/bin/env python3
"""Stores the weights of a detector or refiner in 8 bits, with a scale for each output channel.

    python3 tools/models/quantize.py run/detector.safetensors detector.safetensors     # needs torch and safetensors

A convolution's weight NAME becomes i8 and NAME_scale, f32, of which photomend takes the product. Norms and biases stay f16.
Printed is the relative error of all weights together.
"""

import argparse
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import pixel_unet

LEVELS = 127  # of either sign


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels as `weight`, and the scale of each output channel."""
    scale = weight.abs().amax((1, 2, 3)) / LEVELS
    levels = (weight / scale.clamp_min(1e-12).view(-1, 1, 1, 1)).round()
    return levels.to(torch.int8), scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    with safe_open(args.network, "pt") as file:
        metadata = file.metadata()
    if pixel_unet.KEY not in (metadata or {}):
        raise SystemExit(f"{args.network}: expected a network that photomend trained")
    tensors, squares, errors = {}, 0.0, 0.0
    for name, weight in load_file(args.network).items():
        if weight.dim() != 4:
            tensors[name] = weight
            continue
        levels, scale = quantized(weight.float())
        tensors[name], tensors[f"{name}{pixel_unet.SCALE}"] = levels, scale
        squares += weight.float().square().sum().item()
        errors += (pixel_unet.rescaled(levels, scale) - weight).square().sum().item()
    part = args.out.with_name(f"{args.out.name}.part")
    save_file(tensors, part, metadata=metadata)
    os.replace(part, args.out)
    print(f"{args.out}: {args.out.stat().st_size} bytes, relative error {(errors / squares) ** 0.5:.5f}")


if __name__ == "__main__":
    main()
