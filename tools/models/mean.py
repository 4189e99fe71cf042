#!/usr/bin/env python3
"""Writes the mean of the weights of detectors: python3 mean.py OUT FILE FILE...

The mean of a network and of what it became in further training often does better on pictures unlike those of either training than
both do (Wortsman et al. 2022). The first FILE may have fewer blocks than the others: those that it lacks add nothing to it, as they
did when the others' training began.
"""

import sys
from pathlib import Path

import torch

import pixel_unet


def mean_of(name: str, networks: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """What a block that adds nothing ends with is 0; how it starts makes no difference to it, and is left to the others."""
    weights = [network[name] for network in networks if name in network]
    if ".conv2." in name:
        weights += [torch.zeros_like(weights[0])] * (len(networks) - len(weights))
    return torch.stack(weights).mean(0)


def main(out: Path, *paths: Path) -> None:
    configs, networks = zip(*(pixel_unet.read(path, "detector") for path in paths), strict=True)
    for path, config in zip(paths, configs, strict=True):
        if config["widths"] != configs[-1]["widths"] or any(map(int.__gt__, config["blocks"], configs[-1]["blocks"])):
            raise SystemExit(f"{path}: expected widths of {configs[-1]['widths']} and no more blocks than {configs[-1]['blocks']}")
    pixel_unet.save(out, "detector", configs[-1], {name: mean_of(name, networks) for name in networks[-1]})


if __name__ == "__main__":
    if len(sys.argv) < 4 or Path(sys.argv[1]).exists():
        raise SystemExit("expected OUT, which is not there yet, and two networks or more, whose mean it becomes")
    main(*map(Path, sys.argv[1:]))
