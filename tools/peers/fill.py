"""Times the fill against OpenCV and scikit-image, alternating in one run.

    cargo build --release -p photomend-imaging --example time_fill
    python tools/peers/fill.py [--size 4000x3000] [--repeat 3] [--threads 1] [--method telea biharmonic]

A synthetic scan (smooth shapes, texture, grain) gets a mask of cracks and losses; both programs fill the same files.
Times exclude reading and writing. OpenCV runs on one thread, as inpaint does in any case. Prints one table; the ratio
is the peer's time over ours, more than 1 means that we are faster. "ours MiB" is what the fill held beside the pictures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def scan(width, height, rng):
    """A picture with large shapes, texture and grain."""
    coarse = rng.integers(40, 215, (height // 200 + 2, width // 200 + 2, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    fine = rng.normal(0, 18, (height // 6 + 2, width // 6 + 2)).astype(np.float32)
    picture += cv2.resize(fine, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    picture += rng.normal(0, 3, picture.shape).astype(np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


def damage(width, height, rng, share):
    """Wandering cracks 1 to 6 pixels wide and a few wide losses, until `share` of the pixels is masked."""
    mask = np.zeros((height, width), np.uint8)
    scale = np.sqrt(width * height / 12e6)
    for _ in range(max(1, int(8 * scale))):
        centre = rng.uniform([0, 0], [width, height])
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radii = rng.uniform(15, 70) * rng.uniform(0.6, 1.3, 24)
        points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        cv2.fillPoly(mask, [points.astype(np.int32)], 255)
    while np.count_nonzero(mask) < share * width * height:
        point = rng.uniform([0, 0], [width, height])
        angle = rng.uniform(0, 2 * np.pi)
        points = [point]
        for _ in range(int(rng.integers(20, 160))):
            angle += rng.normal(0, 0.25)
            point = point + 8 * np.array([np.cos(angle), np.sin(angle)])
            points.append(point)
        thickness = int(rng.integers(1, 7))
        cv2.polylines(mask, [np.array(points).astype(np.int32)], False, 255, thickness)
    return mask


def peer(method, picture, mask):
    started = time.perf_counter()
    if method == "telea":
        filled = cv2.inpaint(picture, mask, 3, cv2.INPAINT_TELEA)
    else:
        from skimage.restoration import inpaint_biharmonic

        filled = inpaint_biharmonic(picture, mask > 0, channel_axis=-1)
        filled = np.round(filled * 255).astype(np.uint8)
    return time.perf_counter() - started, filled


def ours(method, folder, threads):
    program = ROOT / "target" / "release" / "examples" / "time_fill"
    command = [program, folder / "scan.png", folder / "mask.png", method, "1", folder / "filled.png"]
    environment = dict(os.environ)
    if threads:
        environment["RAYON_NUM_THREADS"] = str(threads)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program} failed: {done.stderr}")
    report = json.loads(done.stdout)
    extra = (report["peak_mib"] or 0) - (report["before_mib"] or 0)
    return min(report["seconds"]), extra, cv2.imread(str(folder / "filled.png"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--share", type=float, default=0.02, help="share of the pixels that is masked")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="threads of ours; 0 for all cores")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--method", nargs="+", default=["telea", "biharmonic"])
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    rng = np.random.default_rng(arguments.seed)
    cv2.setNumThreads(1)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        picture, mask = scan(width, height, rng), damage(width, height, rng, arguments.share)
        cv2.imwrite(str(folder / "scan.png"), picture)
        cv2.imwrite(str(folder / "mask.png"), mask)
        print(f"{width}x{height}, {np.count_nonzero(mask) / mask.size:.2%} masked")
        print("method      peer s   ours s   ratio   ours MiB   largest difference in 8-bit levels (mean)")
        for method in arguments.method:
            times = []
            for _ in range(arguments.repeat):
                theirs, expected = peer(method, picture, mask)
                mine, extra, found = ours(method, folder, arguments.threads)
                times.append((theirs, mine))
            theirs, mine = np.median(np.array(times), axis=0)
            difference = np.abs(expected.astype(int) - found.astype(int))[mask > 0]
            print(
                f"{method:10s} {theirs:7.2f}  {mine:7.3f}  {theirs / mine:6.1f}   {extra:8d}   "
                f"{difference.max()} ({difference.mean():.4f})"
            )


if __name__ == "__main__":
    main()
