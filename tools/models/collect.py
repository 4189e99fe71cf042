#!/usr/bin/env python3
"""Collects the photographs that the carried models were trained on, from Debian packages.

    python3 tools/models/collect.py --out photographs        # needs Pillow, apt-get and dpkg-deb

OUT/train gets those to train on and OUT/heldout those to judge by, reduced to at most 1600 pixels. Which they are, whose, and
under which licence is in photographs.csv beside this file: all are in the public domain, CC0 or CC-BY.
"""

import argparse
import csv
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

LONGEST = 1600


def unpack(package: str, folder: Path) -> Path:
    """Downloads a package and unpacks it without installing it."""
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    archive = next(folder.glob(f"{package}_*.deb"))
    root = folder / package
    subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
    return root


def reduce(source: Path, target: Path) -> None:
    """Writes a copy of at most LONGEST pixels."""
    image = Image.open(source).convert("RGB")
    scale = LONGEST / max(image.size)
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    image.save(target, quality=95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    with open(Path(__file__).with_name("photographs.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with tempfile.TemporaryDirectory() as temporary:
        roots = {name: unpack(name, Path(temporary)) for name in sorted({row["package"] for row in rows})}
        for row in rows:
            folder = out / row["use"]
            folder.mkdir(parents=True, exist_ok=True)
            reduce(roots[row["package"]] / row["path"], folder / f"{row['name']}.jpg")
    print(f"{len(rows)} photographs → {out}")


if __name__ == "__main__":
    main()
