#!/usr/bin/env python3
"""Trains photomend's carried networks with PyTorch, on a GPU where there is one.

    photomend train-detector PHOTOGRAPHS -o d --crop 256 --pages-only 100000 &      # the pages to train on, made meanwhile
    python3 tools/models/train.py detector --pages d/pages --out run --seconds 600

The networks, what they see and what is minimised are those of `photomend train-detector`, `train-refiner`,
`train-autoencoder` and `train --full`, which need no GPU and no Python. Needs torch, safetensors and, for `autoencoder` and `unet`,
diffusers and transformers, which load the checkpoint that `--model` names (`photomend model new` makes one).

OUT gets NAME.safetensors for photomend, or model/, the checkpoint with the trained part, and log.jsonl; both also while it trains.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch

import students
from pages import Pages


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(students.TASKS))
    parser.add_argument("--pages", type=Path, required=True, help="folder of pages, which may still be growing")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to train, from the start of the program")
    parser.add_argument("--model", type=Path, help="the checkpoint whose part is trained, a diffusers folder")
    parser.add_argument("--start-from", type=Path, help="a detector or refiner to go on from")
    parser.add_argument("--luma", action="store_true", help="a detector that sees luma alone, for pictures without colour")
    parser.add_argument("--batch", type=int, help="crops of a step")
    parser.add_argument("--crop", type=int, help="their side in pixels")
    parser.add_argument("--lr", type=float, help="the learning rate at its highest")
    parser.add_argument("--capacity", type=int, default=2000, help="pages that are kept on the device (4 MB each)")
    parser.add_argument("--page-side", type=int, default=768)
    parser.add_argument("--first", type=int, default=200, help="pages to wait for before the first step")
    parser.add_argument("--consume", action="store_true", help="delete the files of pages once they are on the device")
    parser.add_argument("--bf16", action="store_true", help="in bf16 on a CPU too: with AMX a detector learns twice as fast")
    parser.add_argument("--no-compile", action="store_true", help="do without torch.compile")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class Average:
    """The exponential average of weights that is saved, with a short memory at first."""

    DECAY = 0.999

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network
        self.weights = {name: weight.detach().clone() for name, weight in network.state_dict().items()}

    @torch.no_grad()
    def follow(self, step: int) -> None:
        share = 1.0 - min(self.DECAY, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), list(self.network.state_dict().values()), share)


def loss_and_gradients(student, loss_of, crops: tuple[torch.Tensor, ...], device: torch.device, bf16: bool) -> torch.Tensor:
    inputs = student.inputs(*crops)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        loss = loss_of(*inputs)
    loss.backward()
    return loss.detach()


def train(args: argparse.Namespace) -> None:
    started = time.monotonic()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    student = students.TASKS[args.task](args, device)
    batch, crop = args.batch or student.batch, args.crop or student.crop
    pages = Pages(args.pages, args.capacity, args.page_side, device, args.consume, student.witnessed)
    parameters = [weight for weight in student.network.parameters() if weight.requires_grad]
    rate = args.lr or student.lr
    lr = torch.tensor(rate, device=device)
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=1e-4, fused=device.type == "cuda")
    average = Average(student.network)
    loss_of = student.loss if args.no_compile else torch.compile(student.loss)
    bf16 = args.bf16 or device.type == "cuda"

    args.out.mkdir(parents=True, exist_ok=True)
    log = open(args.out / "log.jsonl", "w", encoding="utf-8")
    pages.wait_for(args.first)
    # Compiles now, so that the learning rate does not rise before.
    loss_and_gradients(student, loss_of, pages.crops(batch, crop, student.near), device, bf16)
    saved = told = time.monotonic()
    step, total, warmup = 0, torch.zeros((), device=device), 100
    while (fraction := (time.monotonic() - started) / args.seconds) < 1.0:
        lr.fill_(rate * min(1.0, (step + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * fraction)))
        optimizer.zero_grad(set_to_none=True)
        loss = loss_and_gradients(student, loss_of, pages.crops(batch, crop, student.near), device, bf16)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        average.follow(step)
        total += loss
        step += 1
        if step % 50 == 0:
            now = time.monotonic()
            entry = {"step": step, "loss": total.item() / 50, "learning_rate": lr.item(), "pages": pages.count}
            entry |= {"seconds": now - started, "step_s": (now - told) / 50}
            print(json.dumps(entry), file=log, flush=True)
            total.zero_()
            told = now
            if now - saved > 60:
                student.save(args.out, average.weights)
                saved = now
    student.save(args.out, average.weights)
    print(f"{args.task}: {step} steps of {batch} crops of {crop} pixels, {pages.count} pages → {args.out}")


if __name__ == "__main__":
    train(arguments())
