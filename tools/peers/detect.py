#!/usr/bin/env python3
"""The thin-damage chain of `imaging::detect` written with OpenCV, to compare with and to time against.

    python tools/peers/detect.py [IMAGE] [--megapixels 12] [--threads 2] [--repeat 3]

Without an image, a synthetic one is timed. Needs numpy and opencv-python-headless.
"""

import argparse
import math
import time

import cv2
import numpy as np

LENGTH, DIRECTIONS, NEAR, FAR = 11, 12, 2, 3
LOW, HIGH, NOISE, MIN_LENGTH = 6.0, 20.0, 1.5, 0.08
WINDOW, CAP, OTHER, SAME, OWN = 61, 25.0, 4.2, 1.6, 0.4


def halfway_up(value):
    return math.floor(value + 0.5) if value >= 0 else -math.floor(-value + 0.5)


def line_response(plane, bright):
    """Contrast of the line through each pixel, float32, 0 where there is none."""
    source = (255 - plane if bright else plane).astype(np.float32)
    height, width = plane.shape
    best = np.zeros((height, width), np.float32)
    half = LENGTH // 2
    for index in range(DIRECTIONS):
        angle = math.pi * index / DIRECTIONS
        sin, cos = math.sin(angle), math.cos(angle)
        longer = max(abs(sin), abs(cos))
        reach = halfway_up(half * longer)
        kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
        for t in range(-reach, reach + 1):
            kernel[half + halfway_up(t * sin / longer), half + halfway_up(t * cos / longer)] = 1
        # The flanks of a pixel at the edge lie outside: average there too.
        padded = cv2.copyMakeBorder(source, FAR, FAR, FAR, FAR, cv2.BORDER_REPLICATE)
        mean = cv2.filter2D(padded, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
        middle = mean[FAR:FAR + height, FAR:FAR + width]
        for distance in (NEAR, FAR):
            dy, dx = halfway_up(cos * distance), halfway_up(-sin * distance)
            one = mean[FAR + dy:FAR + dy + height, FAR + dx:FAR + dx + width]
            other = mean[FAR - dy:FAR - dy + height, FAR - dx:FAR - dx + width]
            best = cv2.max(best, cv2.min(one, other) - middle)
    return best


def activity(response):
    return cv2.blur(np.minimum(response, np.float32(CAP)), (WINDOW, WINDOW))


def noise_sigma(grey):
    height, width = grey.shape
    block = grey[:height // 2 * 2, :width // 2 * 2].astype(np.int32)
    a, b, c, d = block[::2, ::2], block[::2, 1::2], block[1::2, ::2], block[1::2, 1::2]
    kept = [(v >= 1) & (v <= 254) for v in (a, b, c, d)]
    values = np.abs(a - b - c + d)[kept[0] & kept[1] & kept[2] & kept[3]]
    return float(np.median(values)) / 2 / 0.6745 if values.size else 0.0


def thin_mask(image):
    """255 where thin damage is, dark or bright, before dilation; `image` is BGR or grey."""
    colours = image if image.ndim == 3 else image[:, :, None]
    brightest = np.ascontiguousarray(colours.max(2))
    darkest = np.ascontiguousarray(colours.min(2))
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    floor = max(NOISE * noise_sigma(grey), 1.0)
    dark, bright = line_response(brightest, False), line_response(darkest, True)
    active = {"dark": activity(dark), "bright": activity(bright)}
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * FAR + 3,) * 2)
    length = min(max(MIN_LENGTH * math.sqrt(grey.size), 12.0), 80.0)
    out = np.zeros(grey.shape, np.uint8)
    for response, hat, other, same in (
        (dark, cv2.morphologyEx(brightest, cv2.MORPH_BLACKHAT, element), "bright", "dark"),
        (bright, cv2.morphologyEx(darkest, cv2.MORPH_TOPHAT, element), "dark", "bright"),
    ):
        own = cv2.GaussianBlur(hat, (0, 0), 0.7)
        excess = response - OTHER * active[other] - SAME * active[same]
        possible = (excess > LOW) & (response > floor) & (own > OWN * response)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(
            possible.astype(np.uint8), connectivity=8)
        keep = np.zeros(count, bool)
        keep[labels[possible & (excess > HIGH)]] = True
        keep &= np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) >= length
        keep[0] = False
        out[keep[labels]] = 255
    return out


def synthetic(megapixels, seed=1):
    """A smooth scene with grain and a few cracks."""
    width = int(math.sqrt(megapixels * 1.5e6))
    height = int(width / 1.5)
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(30, 220, (height // 64 + 2, width // 64 + 2, 3)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image += rng.normal(0, 4, (height, width, 1)).astype(np.float32)
    image = image.clip(0, 255).astype(np.uint8)
    for value in (20, 240):
        points = np.cumsum(rng.normal(0, 40, (60, 2)), 0) + (width / 2, height / 2)
        cv2.polylines(image, [points.astype(np.int32)], False, (value,) * 3, 3, cv2.LINE_AA)
    return image


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="?")
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--save", help="write the timed image here, to time photomend on the same")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    image = cv2.imread(args.image) if args.image else synthetic(args.megapixels)
    if args.save:
        cv2.imwrite(args.save, image)
    seconds = []
    for _ in range(args.repeat):
        start = time.perf_counter()
        thin_mask(image)
        seconds.append(time.perf_counter() - start)
    print(f"{image.shape[1]}x{image.shape[0]}: {min(seconds):.3f} s")


if __name__ == "__main__":
    main()
