"""Packs CLIP's byte-pair merges into `clip_merges.bin`.

Usage: python clip_vocabulary.py bpe_simple_vocab_16e6.txt.gz clip_merges.bin

The vocabulary of CLIP is 256 bytes, the same 256 ending a word, one token a merge, and the two special tokens. So a
merge is two ids below its own, and the vocabulary is 48,894 pairs of little-endian 16-bit numbers.
"""

import argparse
import gzip
import struct

MERGES = 49152 - 256 - 2


def bytes_in_order() -> list[int]:
    """Bytes in the order of their ids: the printable ones, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return printable + [byte for byte in range(256) if byte not in printable]


def characters() -> list[str]:
    """The character that stands for each byte, in the same order."""
    order = bytes_in_order()
    return [chr(byte) for byte in order[:188]] + [chr(256 + i) for i in range(68)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("output")
    args = parser.parse_args()
    with gzip.open(args.source, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : MERGES + 1]
    ids: dict[str, int] = {}
    for token in [*characters(), *(c + "</w>" for c in characters())]:
        ids[token] = len(ids)
    packed = bytearray()
    for line in lines:
        left, right = line.split()
        packed += struct.pack("<HH", ids[left], ids[right])
        ids[left + right] = len(ids)
    assert len(ids) == 512 + MERGES, "a token that two merges make"
    with open(args.output, "wb") as file:
        file.write(packed)


if __name__ == "__main__":
    main()
