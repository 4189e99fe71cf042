#!/usr/bin/env python3
"""Repaints a sample photograph with the carried checkpoint and LoRA in diffusers and in photomend, and compares.

    python tools/models/in_diffusers.py --photomend target/release/photomend

The checkpoint goes to diffusers as `photomend model convert compact` writes it, the LoRA as the file that the program carries.
Both run the whole inpainting pipeline in f32 on the CPU with the same words, steps and noise, without the LoRA and with it.
Exit status: 0 if no repainted sample differs by more than one grey level and the LoRA changes the picture, 1 if not, 2 for wrong usage.

Needs torch, diffusers, transformers, peft, numpy and pillow.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.utils import logging
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
SIDE = 256
WORDS = {"prompt": "a well preserved photograph, sharp, natural, intact", "negative_prompt": "cracks, scratches"}
TOLERANCE = 1


def photograph():
    image = Image.open(ROOT / "samples/photos/astronaut.jpg").convert("RGB")
    left, top = (image.width - SIDE) // 2, 0
    return image.crop((left, top, left + SIDE, top + SIDE))


def damage():
    mask = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(mask)
    draw.line((10, 30, 240, 200), fill=255, width=5)
    draw.ellipse((130, 40, 190, 90), fill=255)
    return mask


def in_diffusers(folder, lora, arguments, image, mask):
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, safety_checker=None, local_files_only=True
    )
    if lora is not None:
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        **WORDS,
        image=image,
        mask_image=mask,
        height=SIDE,
        width=SIDE,
        num_inference_steps=arguments.steps,
        guidance_scale=arguments.guidance,
        generator=torch.Generator().manual_seed(arguments.seed),
    )
    return made.images[0]


def in_photomend(lora, arguments, folder):
    output = folder / "restored.png"
    command = [arguments.photomend, "restore", folder / "image.png", "--mask", folder / "mask.png", "--output", output]
    command += ["--quiet", "--force", "--pipeline", "diffusers", "--model", "compact", "--window-size", SIDE]
    command += ["--prompt", WORDS["prompt"], "--negative-prompt", WORDS["negative_prompt"], "--strength", "1"]
    command += ["--steps", arguments.steps, "--guidance", arguments.guidance, "--seed", arguments.seed]
    command += ["--device", "cpu", "--dtype", "f32", "--draws", 1]
    if lora is not None:
        command += ["--lora", lora]
    subprocess.run([str(word) for word in command], check=True)
    return Image.open(output)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photomend", type=Path, required=True, metavar="PROGRAM", help="the built program")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    arguments = parser.parse_args()
    arguments.photomend = arguments.photomend.resolve()
    if not arguments.photomend.is_file():
        parser.error(f"--photomend {arguments.photomend}: no such file (cargo build --release builds it)")
    return arguments


def main():
    arguments = parse_arguments()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    image, mask = photograph(), damage()
    hole = numpy.asarray(mask) > 0
    made, failed = [], False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image.save(folder / "image.png")
        mask.save(folder / "mask.png")
        model = folder / "compact"
        subprocess.run([arguments.photomend, "model", "convert", "compact", "--output", model], check=True)
        for lora, ours in [(None, None), (ROOT / "crates/diffusion/models/restoration.safetensors", "restoration")]:
            theirs = numpy.asarray(in_diffusers(model, lora, arguments, image, mask)).astype(int)[hole]
            restored = numpy.asarray(in_photomend(ours, arguments, folder)).astype(int)[hole]
            difference = numpy.abs(theirs - restored)
            bad = difference.max() > TOLERANCE
            made.append(restored)
            print(
                f"{ours or 'no LoRA'}: {hole.sum()} pixels repainted, largest difference {difference.max()} of 255, "
                f"mean {difference.mean():.4f}{': FAILED' if bad else ''}"
            )
            failed = failed or bad
    changed = numpy.abs(made[0] - made[1])
    print(f"the LoRA changes them by up to {changed.max()}, mean {changed.mean():.2f}")
    return 1 if failed or changed.max() == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
