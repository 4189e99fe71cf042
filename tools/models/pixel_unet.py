"""photomend's network on pixels (crates/diffusion/src/models/pixel_unet) in PyTorch, and its file."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import conv2d, interpolate, silu

KEY = "photomend_pixel_unet"
SCALE = "_scale"  # what the name of a tensor in 8 bits is followed by in that of its scale


def norm(groups: int | None, channels: int) -> nn.Module:
    return nn.GroupNorm(groups, channels, eps=1e-5) if groups else nn.Identity()


class StandardConv2d(nn.Conv2d):
    """A convolution whose weights are standardised for each output, times a gain that is learnt (Brock et al. 2021).

    In a network without norms it keeps activations in range at any learning rate: with plain weights they grew to 10⁷ within
    twenty thousand steps, and the network died. The file holds the product, which is what photomend computes with.
    """

    def __init__(self, *args: int, **options: int) -> None:
        super().__init__(*args, **options)
        self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return conv2d(xs, standardised(self.weight) * self.gain, self.bias, self.stride, self.padding)


def standardised(weight: torch.Tensor) -> torch.Tensor:
    """With mean 0 for each output, and variance 1 / fan-in."""
    variance, mean = torch.var_mean(weight, (1, 2, 3), correction=0, keepdim=True)
    return (weight - mean) * torch.rsqrt(variance * weight[0].numel() + 1e-8)


def conv(channels_in: int, channels_out: int, stride: int = 1, groups: int | None = None) -> nn.Conv2d:
    kind = nn.Conv2d if groups else StandardConv2d
    return kind(channels_in, channels_out, 3, stride=stride, padding=1)


def plain(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the network as it is used: those of its convolutions whole."""
    whole = {name: weight for name, weight in weights.items() if not name.endswith(".gain")}
    for name, gain in weights.items():
        if name.endswith(".gain"):
            weight = name.replace(".gain", ".weight")
            whole[weight] = standardised(whole[weight]) * gain
    return whole


class NormSilu(torch.autograd.Function):
    """silu(group_norm(x)) of channels-last bf16 on a CPU, where PyTorch's own backward pass of group norms takes half of a step.

    Sums over pixels are products with ones, which the matrix units do, and accumulate in f32.
    """

    @staticmethod
    def forward(ctx, xs, weight, bias, groups, eps):
        batch, channels, height, width = xs.shape
        ctx.shape, ctx.groups = xs.shape, groups
        rows = xs.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        count = height * width * channels // groups

        def per_channel(values):  # of each group's, for each of its channels
            return values[..., None].expand(-1, -1, channels // groups).reshape(batch, channels)

        mean = grouped(sums(rows), groups) / count
        variance = grouped(sums(rows * rows), groups) / count - mean * mean
        mean, scale = per_channel(mean), per_channel((variance.clamp_min(0.0) + eps).rsqrt())
        normed = affine(rows, scale * weight, bias - mean * scale * weight)
        ctx.save_for_backward(rows, normed, mean, scale, weight)
        ctx.per_channel, ctx.count = per_channel, count
        return silu(normed).view(batch, height, width, channels).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient):
        rows, normed, mean, scale, weight = ctx.saved_tensors
        batch, channels, height, width = ctx.shape
        inner = torch.ops.aten.silu_backward(gradient.permute(0, 2, 3, 1).reshape(rows.shape), normed)
        to_bias = sums(inner)
        to_weight = (sums(inner * rows) - mean * to_bias) * scale
        offset = ctx.per_channel(grouped(to_bias * weight, ctx.groups) / ctx.count)
        slope = ctx.per_channel(grouped(to_weight * weight, ctx.groups) / ctx.count) * scale * scale
        rest = affine(rows, -slope, slope * mean - scale * offset)
        to_rows = affine(inner, scale * weight, rest)
        to_xs = to_rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return to_xs, to_weight.sum(0), to_bias.sum(0), None, None


def sums(rows: torch.Tensor) -> torch.Tensor:
    """The sums `(b, channels)` over all pixels of `(b, pixels, channels)`."""
    return torch.bmm(rows.new_ones(rows.shape[0], 1, rows.shape[1]), rows)[:, 0].float()


def grouped(values: torch.Tensor, groups: int) -> torch.Tensor:
    return values.view(values.shape[0], groups, -1).sum(2)


def affine(rows: torch.Tensor, factor: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """`rows * factor + added`, with a factor for each channel and what is added for each channel or value; 16 pixels are one row in
    it, as innermost loops over few channels are slow."""
    batch, pixels, channels = rows.shape
    wide = (batch, pixels // 16, 16 * channels)

    def spread(values):
        return values.to(rows.dtype)[:, None].repeat(1, 1, 16) if values.dim() == 2 else values.view(wide)

    return torch.addcmul(spread(added), rows.view(wide), spread(factor)).view(rows.shape)


def norm_silu(norm: nn.Module, xs: torch.Tensor) -> torch.Tensor:
    if isinstance(norm, nn.GroupNorm) and xs.device.type == "cpu" and xs.dtype == torch.bfloat16 and xs[0, 0].numel() % 16 == 0:
        xs = xs.contiguous(memory_format=torch.channels_last)
        return NormSilu.apply(xs, norm.weight, norm.bias, norm.num_groups, norm.eps)
    return silu(norm(xs))


class Block(nn.Module):
    def __init__(self, width: int, groups: int | None) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(groups, width), conv(width, width, groups=groups)
        self.norm2, self.conv2 = norm(groups, width), conv(width, width, groups=groups)

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return xs + self.conv2(norm_silu(self.norm2, self.conv1(norm_silu(self.norm1, xs))))


class Level(nn.Module):
    def __init__(self, width: int, depth: int, following: int | None, groups: int | None) -> None:
        super().__init__()
        self.down = nn.Sequential(*(Block(width, groups) for _ in range(depth)))
        if following:
            self.downsample = conv(width, following, stride=2, groups=groups)
            self.upsample = conv(following, width, groups=groups)
            self.up = nn.Sequential(*(Block(width, groups) for _ in range(depth)))


class PixelUnet(nn.Module):
    """Takes `(b, in_channels, h, w)`, sides that it can halve at every level, and gives `(b, out_channels, h, w)`."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        widths, groups = config["widths"], config.get("norm_num_groups")
        self.config = config
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            Level(width, depth, following, groups)
            for width, depth, following in zip(widths, config["blocks"], [*widths[1:], None], strict=True)
        )
        self.norm_out = norm(groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], config["out_channels"], 3, padding=1)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.bias)
                scale = 0.0 if name.endswith(("conv2", "conv_out")) else 2.0**0.5
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                with torch.no_grad():
                    (module.gain if isinstance(module, StandardConv2d) else module.weight).mul_(scale)

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
        return self.conv_out(norm_silu(self.norm_out, xs))


def save(path: Path, task: str, config: dict, weights: dict[str, torch.Tensor]) -> None:
    """Writes a network as `photomend train-detector` and `train-refiner` do, in f16."""
    part = path.with_name(f"{path.name}.part")
    halves = {name: weight.detach().cpu().half().contiguous() for name, weight in plain(weights).items()}
    save_file(halves, part, metadata={KEY: json.dumps({"task": task, **config})})
    os.replace(part, path)


def read(path: Path, task: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """The config and the weights, in f32, of a network that `save` or photomend wrote."""
    with safe_open(path, "pt") as file:
        config = json.loads((file.metadata() or {}).get(KEY, "{}"))
    if config.pop("task", None) != task:
        raise SystemExit(f"{path}: expected a {task} that photomend trained")
    stored = load_file(path)
    whole = {name: weight.float() for name, weight in stored.items()}
    for name, weight in stored.items():
        if weight.dtype == torch.int8:
            whole[name] = rescaled(weight, whole.pop(f"{name}{SCALE}"))
    return config, whole


def rescaled(levels: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The weight that levels and the scale of each output channel stand for."""
    return levels.float() * scale.view(-1, 1, 1, 1)


def load(path: Path, task: str, wanted: dict) -> PixelUnet:
    """A network with at least so many blocks: those that the file lacks start by adding nothing. One that is to see luma alone
    starts as what the file's sees in grey pictures."""
    config, weights = read(path, task)
    blocks = wanted["blocks"]
    if len(config["blocks"]) != len(blocks):
        raise SystemExit(f"{path}: expected {len(blocks)} resolutions, found {len(config['blocks'])}")
    if wanted["in_channels"] == 1:
        config["in_channels"] = 1
        weights["conv_in.weight"] = weights["conv_in.weight"].sum(1, keepdim=True)
    network = PixelUnet(config | {"blocks": [max(pair) for pair in zip(config["blocks"], blocks, strict=True)]})
    for name, module in network.named_modules():
        if isinstance(module, StandardConv2d) and (weight := weights.get(f"{name}.weight")) is not None:
            weights[f"{name}.gain"] = (weight.var((1, 2, 3), correction=0, keepdim=True) * weight[0].numel()).sqrt()
    network.load_state_dict(network.state_dict() | weights)
    return network
