#!/usr/bin/env python3
"""Writes the mean of the weights of detectors: python3 mean.py OUT FILE FILE...

The mean of a network and of what it became in further training often does better on pictures unlike those of either training than
both do (Wortsman et al. 2022). The first FILE may have fewer blocks than the others: those that it lacks add nothing to it, as they
did when the others' training began.
"""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def mean_of(name: str, networks: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """What a block that adds nothing ends with is 0; how it starts makes no difference to it, and is left to the others."""
    weights = [network[name].float() for network in networks if name in network]
    if ".conv2." in name:
        weights += [torch.zeros_like(weights[0])] * (len(networks) - len(weights))
    return torch.stack(weights).mean(0)


def main(out: str, *paths: str) -> None:
    networks = [load_file(path) for path in paths]
    for path, network in zip(paths, networks, strict=True):
        wrong = [name for name, weight in network.items() if (other := networks[-1].get(name)) is None or other.shape != weight.shape]
        if wrong:
            raise SystemExit(f"{path}: expected weights that {paths[-1]} has, found {wrong[0]}")
    with safe_open(paths[-1], "pt") as file:
        notes = file.metadata()
    save_file({name: mean_of(name, networks).half().contiguous() for name in networks[-1]}, out, metadata=notes)


if __name__ == "__main__":
    if len(sys.argv) < 4 or Path(sys.argv[1]).exists():
        raise SystemExit("expected OUT, which is not there yet, and two networks or more, whose mean it becomes")
    main(*sys.argv[1:])
