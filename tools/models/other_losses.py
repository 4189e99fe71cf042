#!/usr/bin/env python3
"""Paints wide losses of a style of their own on photographs: none of the shapes and colours of `photomend damage`.

    python3 tools/models/other_losses.py PHOTOGRAPHS --out set --seed 1      # needs numpy, Pillow and scipy

Polygons, strips torn from the border, smears, holes eaten by insects and thresholded noise, in paper, ground and grey, grained and
shaded. For fitting and judging what should hold for damage that a network has not learned from; writes set/damaged/NAME.png
and set/mask/NAME.png.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

COLOURS = (
    *((240, 232, 215), (252, 252, 250), (205, 190, 160), (140, 130, 115), (95, 80, 62)),
    *((45, 38, 32), (15, 15, 17), (60, 62, 66), (180, 180, 182)),
)
FINER = 2  # shapes are drawn at this many times the size


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of PNG files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


class Shape:
    """A shape that is drawn finer than the photograph."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("L", (width * FINER, height * FINER))
        self.draw = ImageDraw.Draw(self.image)

    def polygon(self, points: list[tuple[float, float]]) -> None:
        self.draw.polygon([(FINER * x, FINER * y) for x, y in points], fill=255)

    def disc(self, x: float, y: float, radius: float, fill: int = 255) -> None:
        self.draw.ellipse([FINER * value for value in (x - radius, y - radius, x + radius, y + radius)], fill=fill)


def polygon(shape: Shape, random: np.random.Generator, size, center, radius) -> None:
    corners = random.integers(5, 40)
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    reach = radius * random.uniform(0.55, 1.3, corners)
    flat = random.uniform(0.9, 1.1)
    shape.polygon([(center[0] + r * np.cos(a), center[1] + flat * r * np.sin(a)) for a, r in zip(angles, reach)])


def strip(shape: Shape, random: np.random.Generator, size, center, radius) -> None:
    width, height = size
    side, points = random.integers(4), 12
    along = random.uniform() * (width if side < 2 else height)
    along = along + (np.linspace(0, 1, points) - 0.5) * random.uniform(0.2, 0.8) * min(size)
    depth = radius * (0.4 + 0.6 * np.abs(random.normal(0, 1, points)))
    depth[[0, -1]] = 0
    outline = [*((a, 0.0) for a in along), *zip(along[::-1], depth[::-1])]
    place = (
        lambda a, d: (a, d),
        lambda a, d: (a, height - d),
        lambda a, d: (d, a),
        lambda a, d: (width - d, a),
    )[side]
    shape.polygon([place(a, d) for a, d in outline])


def smear(shape: Shape, random: np.random.Generator, size, center, radius) -> None:
    (x, y), heading = center, random.uniform(0, 2 * np.pi)
    for _ in range(random.integers(4, 14)):
        disc = radius * random.uniform(0.2, 0.5)
        shape.disc(x, y, disc)
        heading += random.normal(0, 0.5)
        x, y = x + disc * np.cos(heading), y + disc * np.sin(heading)


def eaten(shape: Shape, random: np.random.Generator, size, center, radius) -> None:
    for _ in range(random.integers(3, 9)):
        x, y = (value + random.normal(0, 0.6 * radius) for value in center)
        shape.disc(x, y, radius * random.uniform(0.3, 0.8), 255 if random.random() < 0.75 else 0)


def noise(shape: Shape, random: np.random.Generator, size, center, radius) -> None:
    width, height = (FINER * side for side in size)
    rough = np.zeros((height, width))
    for cells in (3, 9, 19):
        lattice = Image.fromarray(random.normal(0, 1, (cells, cells)).astype(np.float32))
        rough += np.asarray(lattice.resize((width, height), Image.BILINEAR)) * 3 / cells
    y, x = np.mgrid[:height, :width] / FINER
    near = np.exp(-(((x - center[0]) ** 2 + (y - center[1]) ** 2) / (1.2 * radius) ** 2))
    shape.image = Image.fromarray((((near + 0.22 * rough) > 0.55) & (near > 0.1)).astype(np.uint8) * 255)


SHAPES = (polygon, strip, smear, eaten, noise)


def damaged(photograph: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The photograph with two to five losses, and the mask of pixels that a quarter or more is lost of."""
    height, width = photograph.shape[:2]
    picture, lost = photograph.astype(np.float32), np.zeros((height, width), np.float32)
    for _ in range(random.integers(2, 6)):
        shape = Shape(width, height)
        center = (random.uniform(0, width), random.uniform(0, height))
        radius = random.uniform(0.03, 0.14) * min(width, height)
        SHAPES[random.integers(len(SHAPES))](shape, random, (width, height), center, radius)
        cover = np.asarray(shape.image.resize((width, height), Image.BOX), np.float32) / 255
        cover = ndimage.gaussian_filter(cover, random.choice([0.0, 0.4, 0.8]))
        grain = ndimage.gaussian_filter(random.normal(0, 1, (height, width)), random.choice([0.0, 0.7, 2.0]))
        grain *= random.uniform(0, 7) / grain.std()
        shade = np.linspace(-1, 1, width) * random.normal(0, 8)
        colour = np.float32(COLOURS[random.integers(len(COLOURS))]) + (grain + shade)[..., None]
        picture += cover[..., None] * (colour - picture)
        lost = np.maximum(lost, cover)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8), (lost >= 0.25).astype(np.uint8) * 255


def main() -> None:
    args = arguments()
    for folder in ("damaged", "mask"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(sorted(args.photographs.glob("*.png"))):
        photograph = np.asarray(Image.open(path).convert("RGB"))
        for folder, image in zip(("damaged", "mask"), damaged(photograph, np.random.default_rng([args.seed, index]))):
            Image.fromarray(image).save(args.out / folder / path.name)


if __name__ == "__main__":
    main()
