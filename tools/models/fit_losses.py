#!/usr/bin/env python3
"""Fits the weights by which the carried detector decides whether a region is a wide loss.

    target/release/examples/loss_regions SET … > regions.csv
    python3 tools/models/fit_losses.py regions.csv --network 0.42 --threshold 0.75     # needs numpy

A logistic model of LossRegion's terms. Each picture counts alike, regions that a mask has between a fifth and four fifths of not
at all. The network's weight is given: left to the fit it is too high for damage of kinds that the network has not learned
from. Printed are the weights and the bias, less the threshold in log-odds.
"""

import argparse
import csv
from collections import Counter

import numpy as np

RIDGE = 1e-3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", nargs="+", help="what the example loss_regions printed; a file named twice counts twice")
    parser.add_argument("--network", type=float, default=0.42, help="the weight of the network's log-odds")
    parser.add_argument("--threshold", type=float, default=0.75, help="the log-odds from which a region is one, before they are moved to 0")
    return parser.parse_args()


def read(path: str) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """The names of the terms, the terms, the share of damage, and how much each region counts."""
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    of_picture = Counter(row[0] for row in rows)
    values = np.array([[float(value) for value in row[1:]] for row in rows])
    return header[2:], values[:, 1:], values[:, 0], np.array([1.0 / of_picture[row[0]] for row in rows])


def fit(terms: np.ndarray, is_loss: np.ndarray, counts: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Bias and weights of a logistic model with `given` added to its log-odds, by Newton's method."""
    mean, deviation = terms.mean(0), terms.std(0)
    inputs = np.column_stack([np.ones(len(terms)), (terms - mean) / deviation])
    counts = counts / counts.sum()
    weights = np.zeros(inputs.shape[1])
    for _ in range(80):
        probable = 1.0 / (1.0 + np.exp(-(inputs @ weights + given)))
        slope = inputs.T @ (counts * (probable - is_loss)) + RIDGE * weights
        curvature = (inputs.T * (counts * probable * (1.0 - probable))) @ inputs + RIDGE * np.eye(len(weights))
        weights -= np.linalg.solve(curvature, slope)
    scaled = weights[1:] / deviation
    return np.concatenate([[weights[0] - scaled @ mean], scaled])


def main() -> None:
    args = arguments()
    parts = [read(path) for path in args.regions]
    names = parts[0][0]
    terms, truth, counts = (np.concatenate([part[at] for part in parts]) for at in (1, 2, 3))
    clear = (truth <= 0.2) | (truth >= 0.8)
    terms, truth, counts = terms[clear], truth[clear], counts[clear]
    assert names[-1] == "network", names
    bias, *weights = fit(terms[:, :-1], truth > 0.5, counts, args.network * terms[:, -1])
    print(f"{len(terms)} regions, of which {int((truth > 0.5).sum())} are losses")
    print(f"bias {bias - args.threshold:.2f}")
    for name, weight in zip(names, [*weights, args.network]):
        print(f"{name} {weight:.2f}")


if __name__ == "__main__":
    main()
