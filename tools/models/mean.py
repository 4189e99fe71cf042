#!/usr/bin/env python3
"""Writes the mean of networks of the same shape that `train.py` or photomend trained: python3 mean.py OUT FILE FILE..."""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def main(out: str, *paths: str) -> None:
    networks = [load_file(path) for path in paths]
    for path, network in zip(paths, networks, strict=True):
        if {name: weight.shape for name, weight in network.items()} != {name: weight.shape for name, weight in networks[0].items()}:
            raise SystemExit(f"{path}: expected the weights that {paths[0]} has")
    with safe_open(paths[0], "pt") as file:
        notes = file.metadata()
    mean = {name: torch.stack([network[name].float() for network in networks]).mean(0).half() for name in networks[0]}
    save_file(mean, out, metadata=notes)


if __name__ == "__main__":
    if len(sys.argv) < 3 or Path(sys.argv[1]).exists():
        raise SystemExit("expected OUT, which is not there yet, and the networks whose mean it becomes")
    main(*sys.argv[1:])
