"""photomend's network on pixels (crates/diffusion/src/models/pixel_unet) in PyTorch, and its file."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import interpolate, silu

KEY = "photomend_pixel_unet"


def norm(groups: int | None, channels: int) -> nn.Module:
    return nn.GroupNorm(groups, channels, eps=1e-5) if groups else nn.Identity()


def conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1)


class Block(nn.Module):
    def __init__(self, width: int, groups: int | None) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(groups, width), conv(width, width)
        self.norm2, self.conv2 = norm(groups, width), conv(width, width)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return xs + self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(xs))))))


class Level(nn.Module):
    def __init__(self, width: int, depth: int, following: int | None, groups: int | None) -> None:
        super().__init__()
        self.down = nn.Sequential(*(Block(width, groups) for _ in range(depth)))
        if following:
            self.downsample, self.upsample = conv(width, following, stride=2), conv(following, width)
            self.up = nn.Sequential(*(Block(width, groups) for _ in range(depth)))


class PixelUnet(nn.Module):
    """Takes `(b, in_channels, h, w)`, sides that it can halve at every level, and gives `(b, out_channels, h, w)`."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        widths, groups = config["widths"], config.get("norm_num_groups")
        self.config = config
        self.conv_in = conv(config["in_channels"], widths[0])
        self.levels = nn.ModuleList(
            Level(width, depth, following, groups)
            for width, depth, following in zip(widths, config["blocks"], [*widths[1:], None], strict=True)
        )
        self.norm_out, self.conv_out = norm(groups, widths[0]), conv(widths[0], config["out_channels"])
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.bias)
                if name.endswith(("conv2", "conv_out")):
                    nn.init.zeros_(module.weight)
                else:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        xs, kept = self.conv_in(xs), []
        *larger, smallest = self.levels
        for level in larger:
            xs = level.down(xs)
            kept.append(xs)
            xs = level.downsample(silu(xs))
        xs = smallest.down(xs)
        for level in reversed(larger):
            xs = level.up(level.upsample(interpolate(silu(xs), scale_factor=2.0)) + kept.pop())
        return self.conv_out(silu(self.norm_out(xs)))


def save(path: Path, task: str, config: dict, weights: dict[str, torch.Tensor]) -> None:
    """Writes a network as `photomend train-detector` and `train-refiner` do, in f16."""
    part = path.with_name(f"{path.name}.part")
    halves = {name: weight.detach().cpu().half().contiguous() for name, weight in weights.items()}
    save_file(halves, part, metadata={KEY: json.dumps({"task": task, **config})})
    os.replace(part, path)


def load(path: Path, task: str) -> PixelUnet:
    with safe_open(path, "pt") as file:
        notes = json.loads((file.metadata() or {}).get(KEY, "{}"))
    if notes.pop("task", None) != task:
        raise SystemExit(f"{path}: expected a {task} that photomend trained")
    network = PixelUnet(notes)
    network.load_state_dict({name: weight.float() for name, weight in load_file(path).items()})
    return network
