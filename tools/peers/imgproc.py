#!/usr/bin/env python3
"""Speed of `imgproc` against OpenCV, as ratios from one alternating run.

Builds and runs the example time_imgproc with as many threads as OpenCV gets, turn by turn with OpenCV,
on the same picture and mask, and prints a Markdown table of the least times. Below 1 is faster than
OpenCV.

Needs numpy and opencv-python-headless.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import cv2
import numpy as np

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--picture", help="an image file; by default a synthetic one")
parser.add_argument("--megapixels", type=float, default=12.0)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--repetitions", type=int, default=5, help="of each operation in each round")
parser.add_argument("--example", help="the built example; by default cargo builds it")
args = parser.parse_args()

root = pathlib.Path(__file__).resolve().parents[2]
cv2.setNumThreads(args.threads)
width = int((args.megapixels * 1e6 * 4 / 3) ** 0.5)
height = width * 3 // 4

if args.picture:
    picture = cv2.resize(cv2.imread(args.picture, cv2.IMREAD_GRAYSCALE), (width, height))
else:
    rng = np.random.default_rng(1)
    coarse = rng.normal(0, 1, (height // 40, width // 40)).astype(np.float32)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 45 + 128
    picture += rng.normal(0, 4, picture.shape)
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    for _ in range(400):
        a = rng.integers(0, (width, height))
        b = a + rng.integers(-300, 301, 2)
        tone, thick = int(rng.integers(0, 60)), int(rng.integers(1, 5))
        cv2.line(picture, a.tolist(), b.tolist(), tone, thick)
mask = cv2.adaptiveThreshold(
    picture, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, 51, 8
)
real = picture.astype(np.float32)


def line(length, angle):
    """The same as StructuringElement::line."""

    def away(value):
        return int(np.sign(value) * np.floor(np.abs(value) + 0.5 + 1e-9))

    reach = (length - 1) / 2
    x = away(reach * np.cos(np.radians(angle)))
    y = away(-reach * np.sin(np.radians(angle)))
    steps = max(abs(x), abs(y))
    kernel = np.zeros((2 * abs(y) + 1, 2 * abs(x) + 1), np.uint8)
    for step in range(-steps, steps + 1):
        kernel[abs(y) + away(step * y / steps), abs(x) + away(step * x / steps)] = 1
    return kernel


rect = cv2.getStructuringElement(cv2.MORPH_RECT, (25, 25))
disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
lines = [line(21, 22.5 * i) for i in range(8)]


def adaptive(method):
    return cv2.adaptiveThreshold(picture, 255, method, cv2.THRESH_BINARY_INV, 51, 8)


def components():
    return cv2.connectedComponentsWithStats(mask, connectivity=8)


half = (width // 2, height // 2)
theirs = {
    "gaussian σ=2": lambda: cv2.GaussianBlur(picture, (0, 0), 2),
    "gaussian f32 σ=2": lambda: cv2.GaussianBlur(real, (0, 0), 2),
    "box 51": lambda: cv2.blur(picture, (51, 51)),
    "black-hat rect 25×25": lambda: cv2.morphologyEx(picture, cv2.MORPH_BLACKHAT, rect),
    "closing ellipse 9×9": lambda: cv2.morphologyEx(picture, cv2.MORPH_CLOSE, disc),
    "closing lines 21, 8 angles": lambda: [
        cv2.morphologyEx(picture, cv2.MORPH_CLOSE, kernel) for kernel in lines
    ],
    "adaptive threshold mean 51": lambda: adaptive(cv2.ADAPTIVE_THRESH_MEAN_C),
    "adaptive threshold gaussian 51": lambda: adaptive(cv2.ADAPTIVE_THRESH_GAUSSIAN_C),
    "components": components,
    "components as runs": components,
    "distance": lambda: cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE),
    "otsu": lambda: cv2.threshold(picture, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU),
    "sobel x": lambda: cv2.Sobel(picture, cv2.CV_16S, 1, 0),
    "resize half area": lambda: cv2.resize(picture, half, interpolation=cv2.INTER_AREA),
}

if args.example:
    example = [args.example]
else:
    example = "cargo run --quiet --release -p photomend-imaging --example time_imgproc --".split()

ours_best, theirs_best = {}, {}
with tempfile.TemporaryDirectory() as folder:
    files = []
    for name, array in (("picture", picture), ("mask", mask)):
        array.tofile(f"{folder}/{name}")
        files.append(f"{folder}/{name}")
    for _ in range(args.rounds):
        out = subprocess.run(
            [*example, str(width), str(height), *files, str(args.repetitions)],
            cwd=root,
            env={**os.environ, "RAYON_NUM_THREADS": str(args.threads)},
            check=True,
            stdout=subprocess.PIPE,
        )
        for name, seconds in json.loads(out.stdout).items():
            ours_best[name] = min(seconds, ours_best.get(name, seconds))
        for name, work in theirs.items():
            for _ in range(args.repetitions):
                start = time.perf_counter()
                work()
                seconds = time.perf_counter() - start
                theirs_best[name] = min(seconds, theirs_best.get(name, seconds))

print(f"{width}×{height}, {args.threads} threads, OpenCV {cv2.__version__}\n")
print("| operation | ours, ms | OpenCV, ms | ratio |\n| --- | --- | --- | --- |")
for name, seconds in ours_best.items():
    peer = theirs_best.get(name)
    rest = f"{peer * 1e3:.1f} | {seconds / peer:.2f}" if peer else "– | –"
    print(f"| {name} | {seconds * 1e3:.1f} | {rest} |")
