"""What each network sees, what is minimised, and how it is written; as in crates/diffusion/src/train."""

import argparse
import json
import math
import os
import shutil
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d

import pixel_unet

FLOOR = 1e-4  # added to mean squared errors, of values in [0, 1], before the logarithm
Crops = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
THIN, THIN_WEIGHT = 7, 2.0  # damage that is narrower than so many pixels counts so much more
SMOOTH = 5e-4  # added to both sides of the Dice coefficient for each pixel
# How log-odds are joined without a judge (crates/diffusion/src/pipelines/pixelwise): the least that the network that sees colours counts, and
# what is added where the classical detector found something, and where not.
LEAST, SEEN, UNSEEN = -6.0, 2.944, -0.65


def decibels(errors: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Minus the PSNR of each crop over the weighted pixels, of errors `(b, 3, h, w)` of values in [-1, 1]."""
    squares = (0.5 * errors.float()).square() * weights
    means = squares.sum((1, 2, 3)) / (3.0 * weights.sum((1, 2, 3))).clamp_min(1.0)
    return 10.0 * torch.log10(means + FLOOR)


def luma(pictures: torch.Tensor) -> torch.Tensor:
    """BT.601 luma `(b, 1, h, w)` of RGB `(b, 3, h, w)`, of 256 levels as that of 8-bit pictures."""
    shares = pictures.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    levels = (127.5 * ((shares * pictures).sum(1, keepdim=True) + 1.0)).round()
    return levels / 127.5 - 1.0


def damage_weights(clean: torch.Tensor, shown: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """How much each pixel counts when damage is to be found, `(b, 1, h, w)`."""
    # Masked pixels count by how visible their damage is: from a change of 1 % of the range on, fully from 6 %.
    change = (clean - shown).abs().amax(1, keepdim=True)
    visibility = torch.where(mask > 0, ((change - 0.02) / 0.1).clamp(0.0, 1.0), 1.0)
    wide = max_pool2d(-max_pool2d(-mask, THIN, 1, THIN // 2), THIN, 1, THIN // 2)
    return torch.where(mask > wide, THIN_WEIGHT, 1.0) * visibility


def detection_loss(logits: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of all pixels, plus the mean over crops of one minus their Dice coefficient."""
    entropies = weights * binary_cross_entropy_with_logits(logits, mask, reduction="none")
    found = logits.sigmoid()
    smooth = SMOOTH * mask[0].numel()
    both, either = (weights * found * mask).sum((1, 2, 3)), (weights * (found + mask)).sum((1, 2, 3))
    dice = (2.0 * both + smooth) / (either + smooth)
    return entropies.sum() / weights.sum().clamp_min(1.0) + 1.0 - dice.mean()


class Pixelwise:
    """A network on pixels."""

    task: str
    config: dict
    witnessed = False

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        if args.start_from:
            network = pixel_unet.load(args.start_from, self.task, self.config)
        else:
            network = pixel_unet.PixelUnet(self.config)
        self.network = network.to(device, memory_format=torch.channels_last)

    def save(self, out: Path, weights: dict[str, torch.Tensor]) -> None:
        pixel_unet.save(out / f"{self.task}.safetensors", self.task, self.network.config, weights)


class Detector(Pixelwise):
    task = "detector"
    config = {
        "in_channels": 3,
        "out_channels": 1,
        "widths": [16, 32, 64, 96, 160],
        "blocks": [1, 2, 2, 3, 3],
        "norm_num_groups": 8,
    }
    batch, crop, lr, near = 20, 384, 2e-3, 0.6

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        self.config = self.config | {"in_channels": 1 if args.luma else 3}
        super().__init__(args, device)

    def inputs(self, clean: torch.Tensor, shown: torch.Tensor, mask: torch.Tensor) -> Crops:
        if self.config["in_channels"] == 1:
            clean, shown = luma(clean), luma(shown)
        return shown, mask, damage_weights(clean, shown, mask)

    def loss(self, shown: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return detection_loss(self.network(shown).float(), mask, weights)


class Judge(Pixelwise):
    """Decides by what the networks and the classical detector say of a pixel and all around it. What it says is added to what
    they come to by themselves."""

    task = "judge"
    config = {"in_channels": 6, "out_channels": 1, "widths": [16, 24, 32, 48, 64], "blocks": [1, 1, 1, 1, 1]}
    batch, crop, lr, near = 8, 192, 1e-3, 0.5
    witnessed = True
    ALONE = 0.15  # the share of crops where the network that sees colours was not asked

    def inputs(self, clean: torch.Tensor, shown: torch.Tensor, mask: torch.Tensor, witnesses: torch.Tensor) -> tuple[torch.Tensor, ...]:
        color, by_luma, seen, regions, evidence = witnesses.split(1, dim=1)
        color, by_luma, evidence = (color - 128.0) / 16.0, (by_luma - 128.0) / 16.0, (evidence - 128.0) / 24.0
        seen = (seen > 0).float()
        alone = torch.rand(len(mask), 1, 1, 1, device=mask.device) < self.ALONE
        color = torch.where(alone, by_luma, color)
        joined = torch.where((color == by_luma).all((1, 2, 3), keepdim=True), by_luma, 0.5 * (by_luma + color.clamp_min(LEAST)))
        joined = joined + torch.where(seen > 0, SEEN, UNSEEN)
        known = torch.cat([color / 4.0, by_luma / 4.0, seen, regions / 255.0, evidence / 3.0, luma(shown)], dim=1)
        return known, joined, mask, damage_weights(clean, shown, mask)

    def loss(self, known: torch.Tensor, joined: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return detection_loss(joined + self.network(known).float(), mask, weights)


class Refiner(Pixelwise):
    task = "refiner"
    config = {"in_channels": 4, "out_channels": 3, "widths": [32, 48, 64, 96, 128], "blocks": [1, 1, 1, 1, 2]}
    batch, crop, lr, near = 24, 224, 8e-4, 1.0

    def inputs(self, clean: torch.Tensor, shown: torch.Tensor, mask: torch.Tensor) -> Crops:
        return clean, shown, mask

    def loss(self, clean: torch.Tensor, shown: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        added = self.network(torch.cat([shown, mask], dim=1))
        counted = (mask.sum((1, 2, 3)) > 0).float()
        return (counted * decibels(shown + added.float() - clean, mask)).sum() / counted.sum().clamp_min(1.0)


def strokes(number: int, side: int, device: torch.device) -> torch.Tensor:
    """Masks `(b, 1, side, side)` of a few strokes of any width, and now and then a box: what any inpainting model is asked for."""
    count = 5
    ends = torch.rand(number, count, 2, 2, device=device) * side
    widths = 1.0 + torch.exp(torch.rand(number, count, device=device) * math.log(0.12 * side))
    widths *= torch.rand(number, count, device=device) < 0.7
    line = torch.arange(side, device=device, dtype=torch.float32)
    points = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1)
    start, along = ends[:, :, 0, None, None], (ends[:, :, 1] - ends[:, :, 0])[:, :, None, None]
    place = ((points - start) * along).sum(-1) / along.square().sum(-1).clamp_min(1.0)
    distance = (points - start - place.clamp(0.0, 1.0)[..., None] * along).square().sum(-1).sqrt()
    masks = (distance < 0.5 * widths[..., None, None]).any(1, keepdim=True)
    corners = torch.rand(number, 1, 1, 1, 2, device=device) * side
    sizes = torch.rand(number, 1, 1, 1, 2, device=device) * 0.4 * side
    boxes = (((points - corners) > 0) & ((points - corners) < sizes)).all(-1)
    boxes &= torch.rand(number, 1, 1, 1, device=device) < 0.4
    return (masks | boxes).float()


def checkpoint(args: argparse.Namespace) -> Path:
    if args.model is None:
        raise SystemExit("--model: expected a checkpoint, a diffusers folder, found none")
    return args.model


def save_part(model: Path, out: Path, part: str, network: torch.nn.Module, weights: dict[str, torch.Tensor], **config) -> None:
    """Writes the checkpoint with other weights of one part into OUT/model."""
    target, fresh = out / "model", out / "model.part"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(model, fresh)
    current = {name: weight.clone() for name, weight in network.state_dict().items()}
    network.load_state_dict(weights)
    network.save_pretrained(fresh / part)
    network.load_state_dict(current)
    path = fresh / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config, indent=2) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(fresh, target)


class Autoencoder:
    """A checkpoint's AutoencoderKL on clean crops, some of them with grey holes, as networks are shown what is to be repainted."""

    batch, crop, lr, near = 32, 128, 1e-3, 0.3
    witnessed = False
    DIVERGENCE = 0.02  # dB for a nat of divergence from the standard normal, for each number of the latents
    HOLES = 0.3  # the share of crops with holes

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        import diffusers  # The networks on pixels do without.

        self.model = checkpoint(args)
        network = diffusers.AutoencoderKL.from_pretrained(self.model, subfolder="vae").float()
        self.network = network.to(device, memory_format=torch.channels_last)
        self.seen: torch.Tensor | None = None

    def inputs(self, clean: torch.Tensor, shown: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        has_holes = torch.rand(len(clean), 1, 1, 1, device=clean.device) < self.HOLES
        self.seen = torch.where((mask > 0) & has_holes, 0.0, clean)
        return (self.seen,)

    def loss(self, seen: torch.Tensor) -> torch.Tensor:
        moments = self.network.encode(seen).latent_dist.parameters.float()
        mean, logvar = moments.chunk(2, dim=1)
        logvar = logvar.clamp(-15.0, 5.0)
        drawn = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        divergence = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        errors = self.network.decode(drawn).sample - seen
        return decibels(errors, torch.ones_like(seen[:, :1])).mean() + self.DIVERGENCE * divergence

    @torch.no_grad()
    def save(self, out: Path, weights: dict[str, torch.Tensor]) -> None:
        moments = self.network.encode(self.seen).latent_dist
        spread = (moments.mean.var() + moments.var.mean()).sqrt().item()
        save_part(self.model, out, "vae", self.network, weights, scaling_factor=round(1.0 / spread, 5))


class Unet:
    """A checkpoint's inpainting UNet on masks of any kind: v-prediction with min-SNR weights, masked latents above all."""

    batch, crop, lr, near = 32, 256, 6e-4, 0.0
    witnessed = False
    PROMPT = "a well preserved photograph, sharp, natural, intact"
    DROPOUT, UNMASKED, GAMMA = 0.1, 0.1, 5.0

    def __init__(self, args: argparse.Namespace, device: torch.device) -> None:
        import diffusers
        from transformers import CLIPTextModel, CLIPTokenizer

        self.model = checkpoint(args)
        self.network = diffusers.UNet2DConditionModel.from_pretrained(self.model, subfolder="unet").float()
        self.network.to(device, memory_format=torch.channels_last)
        vae = diffusers.AutoencoderKL.from_pretrained(self.model, subfolder="vae").to(device)
        self.vae = vae.requires_grad_(False).to(memory_format=torch.channels_last)
        scheduler = diffusers.DDIMScheduler.from_pretrained(self.model, subfolder="scheduler")
        self.alphas = scheduler.alphas_cumprod.to(device)
        tokenizer = CLIPTokenizer.from_pretrained(self.model, subfolder="tokenizer")
        tokens = tokenizer([self.PROMPT, ""], padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        text_encoder = CLIPTextModel.from_pretrained(self.model, subfolder="text_encoder")
        with torch.no_grad():
            self.states = text_encoder(tokens.input_ids)[0].to(device)

    @torch.no_grad()
    def inputs(self, clean: torch.Tensor, shown: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        number, device = len(clean), clean.device
        holes = strokes(number, clean.shape[-1], device)
        with torch.autocast(device.type, torch.bfloat16):
            both = self.vae.encode(torch.cat([clean, clean * (1.0 - holes)])).latent_dist.mean
        latents, masked = (both.float() * self.vae.config.scaling_factor).chunk(2)
        factor = clean.shape[-1] // latents.shape[-1]
        timesteps = torch.randint(len(self.alphas), (number,), device=device)
        dropped = (torch.rand(number, device=device) < self.DROPOUT).long()
        return latents, masked, max_pool2d(holes, factor), torch.randn_like(latents), timesteps, self.states[dropped]

    def loss(self, latents, masked, mask, noise, timesteps, states) -> torch.Tensor:
        alpha = self.alphas[timesteps][:, None, None, None]
        noisy = alpha.sqrt() * latents + (1.0 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1.0 - alpha).sqrt() * latents
        found = self.network(torch.cat([noisy, mask, masked], dim=1), timesteps, states).sample.float()
        weights = mask.clamp(self.UNMASKED, 1.0)
        errors = ((found - velocity).square() * weights).sum((1, 2, 3)) / (found.shape[1] * weights.sum((1, 2, 3)))
        snr = (alpha / (1.0 - alpha))[:, 0, 0, 0]
        return (errors * snr.clamp_max(self.GAMMA) / (snr + 1.0)).mean()

    def save(self, out: Path, weights: dict[str, torch.Tensor]) -> None:
        save_part(self.model, out, "unet", self.network, weights)


TASKS = {"detector": Detector, "judge": Judge, "refiner": Refiner, "autoencoder": Autoencoder, "unet": Unet}
