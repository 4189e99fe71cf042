#!/usr/bin/env python3
"""A checkpoint of the size of Stable Diffusion 1.5 inpainting with random weights, in diffusers' layout.

random_sd15.py OUT [--dtype float16] [--seed 0]: writes model_index.json, unet, vae, text_encoder and scheduler (2.1 GB in
float16). For speed, memory and loaders; what it paints is noise. Needs torch, diffusers and transformers.
"""

import argparse
import json
import pathlib

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float16")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

torch.manual_seed(args.seed)
dtype = getattr(torch, args.dtype)
widths = (320, 640, 1280, 1280)
unet = UNet2DConditionModel(
    sample_size=64,
    in_channels=9,
    out_channels=4,
    block_out_channels=widths,
    layers_per_block=2,
    cross_attention_dim=768,
    attention_head_dim=8,
)
unet.to(dtype).save_pretrained(args.out / "unet")
del unet
vae = AutoencoderKL(
    block_out_channels=(128, 256, 512, 512),
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    layers_per_block=2,
    latent_channels=4,
    sample_size=512,
)
vae.to(dtype).save_pretrained(args.out / "vae")
text = CLIPTextConfig(
    vocab_size=49408,
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    projection_dim=768,
)
CLIPTextModel(text).to(dtype).save_pretrained(args.out / "text_encoder")
PNDMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    steps_offset=1,
    set_alpha_to_one=False,
    skip_prk_steps=True,
).save_pretrained(args.out / "scheduler")
index = {
    "_class_name": "StableDiffusionInpaintPipeline",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
(args.out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
