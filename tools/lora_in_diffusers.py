#!/usr/bin/env python3
"""Compares what LoRA files make of a UNet in diffusers and in photomend.

    python tools/lora_in_diffusers.py --model FOLDER --lora FILE [--lora FILE2 ...] --photomend target/release/photomend

FOLDER is a checkpoint in diffusers' layout, or the folder of its UNet alone; the files are in diffusers' or kohya's form.
Both programs run the UNet in f32 on the CPU on the same random tensors, without a LoRA and with each of the files.
Exit status: 0 if every output differs by at most 1e-4 and every LoRA changes it, 1 if not, 2 for wrong usage.

Needs torch, diffusers, peft and safetensors.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4


def inputs_for(config, seed):
    generator = torch.Generator().manual_seed(seed)
    side = min(config.sample_size, 32) if isinstance(config.sample_size, int) else 32
    return {
        "sample": torch.randn((2, config.in_channels, side, side), generator=generator),
        "timestep": torch.randint(0, 1000, (2,), generator=generator).float(),
        "encoder_hidden_states": torch.randn((2, 77, config.cross_attention_dim), generator=generator),
    }


def unet_in_diffusers(folder, lora=None):
    """The UNet, with the LoRA as `load_lora_weights` loads it into a pipeline.

    Beside a lone UNet there is no pipeline, and only the UNet's half of `load_lora_weights` is called.
    """
    if lora is not None and (folder.parent / "model_index.json").is_file():
        pipeline = StableDiffusionInpaintPipeline.from_pretrained(
            folder.parent, torch_dtype=torch.float32, safety_checker=None, local_files_only=True
        )
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name, local_files_only=True)
        return pipeline.unet.eval()
    unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)
    if lora is not None:
        pipeline = StableDiffusionInpaintPipeline
        state, alphas, metadata = pipeline.lora_state_dict(
            str(lora.parent),
            weight_name=lora.name,
            unet_config=unet.config,
            return_lora_metadata=True,
            local_files_only=True,
        )
        if not any(key.startswith("unet.") for key in state):
            raise ValueError("it has nothing for a UNet")
        pipeline.load_lora_into_unet(state, network_alphas=alphas, unet=unet, adapter_name="lora", metadata=metadata)
    return unet.eval()


@torch.no_grad()
def in_diffusers(folder, inputs, lora=None):
    return unet_in_diffusers(folder, lora)(**inputs).sample


def in_photomend(program, model, inputs, lora=None):
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "inputs.safetensors", Path(folder) / "outputs.safetensors"
        save_file(inputs, given)
        command = [program, "model", "run", "unet", "--quiet", "--device", "cpu", "--dtype", "f32"]
        command += ["--model", model, "--inputs", given, "--output", made]
        if lora is not None:
            command += ["--lora", lora]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise ValueError(f"photomend failed with status {done.returncode}: {done.stderr.strip()}")
        return load_file(made)["noise_pred"]


def tensors_in(file):
    with safe_open(file, "pt") as tensors:
        return len(tensors.keys())


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--lora", type=Path, required=True, action="append", metavar="FILE", help="may be repeated")
    parser.add_argument("--photomend", type=Path, required=True, metavar="PROGRAM", help="the built program")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs")
    arguments = parser.parse_args()
    arguments.model, arguments.photomend = arguments.model.resolve(), arguments.photomend.resolve()
    arguments.lora = [lora.resolve() for lora in arguments.lora]
    nested = arguments.model / "unet"
    arguments.unet = nested if nested.is_dir() else arguments.model
    if not arguments.model.is_dir():
        parser.error(f"--model {arguments.model}: no such folder")
    if not (arguments.unet / "config.json").is_file():
        parser.error(f"--model {arguments.model}: neither unet/config.json nor config.json in it")
    for lora in arguments.lora:
        if not lora.is_file():
            parser.error(f"--lora {lora}: no such file")
        try:
            tensors_in(lora)
        except (OSError, SafetensorError) as error:
            parser.error(f"--lora {lora}: not a safetensors file ({error})")
    if not arguments.photomend.is_file():
        parser.error(f"--photomend {arguments.photomend}: no such file (cargo build --release builds it)")
    return arguments


def main():
    arguments = parse_arguments()
    unet, program = arguments.unet, arguments.photomend
    inputs = inputs_for(unet_in_diffusers(unet).config, arguments.seed)
    print(f"{unet}: sample {tuple(inputs['sample'].shape)}, timesteps {inputs['timestep'].tolist()}")
    base, failed = None, False
    for lora in [None, *arguments.lora]:
        name = "no LoRA" if lora is None else str(lora)
        try:
            theirs = in_diffusers(unet, inputs, lora)
            ours = in_photomend(program, arguments.model, inputs, lora)
        except Exception as error:
            print(f"{name}: FAILED: {error}", file=sys.stderr)
            failed = True
            continue
        difference = (ours - theirs).abs().max().item()
        line = f"{name}: max |output| {theirs.abs().max().item():.4g}, max difference {difference:.2e}"
        bad = not difference <= TOLERANCE
        if lora is None:
            base = ours, theirs
        elif base is not None:
            changes = [(with_lora - without).abs().max().item() for with_lora, without in zip((ours, theirs), base)]
            line += f", the LoRA changes it by {changes[0]:.4g} in photomend, {changes[1]:.4g} in diffusers"
            bad = bad or min(changes) == 0
        print(line + (": FAILED" if bad else ""), flush=True)
        failed = failed or bad
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
