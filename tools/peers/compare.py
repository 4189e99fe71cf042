#!/usr/bin/env python3
"""Times the networks in other programs and in photomend, in turn on the same machine, and writes the ratios down.

    bash tools/peers/setup.sh /tmp/peers
    cargo build --release
    python3 tools/peers/compare.py --peers /tmp/peers/bin/python [--rounds 5] [--only 'unet/f32/*'] [--threads 2]

A case is STAGE/DTYPE/PEER; `--list` shows them. In every round the peer runs, then photomend: the median of a few runs each,
after one that is not timed. What counts is the ratio of the two, as the speed of a shared machine drifts from round to round.
The peer waits in its process while photomend runs, so that it loads and compiles once. Memory is the most that a process held
while its network ran, weights included (Linux).

Writes a JSON file with every figure, after each case, and a table between two marks in `docs/benchmarks.md`.
This program needs the standard library only; the peers need the Python that `--peers` names.
"""

import argparse
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- compare.py: begin -->", "<!-- compare.py: end -->"

# Each stage of `photomend bench`, and the key of its seconds there.
NETWORKS = {
    "unet": "unet_forward_s",
    "unet-batch2": "unet_forward_batch2_s",
    "vae-encode": "vae_encode_s",
    "vae-decode": "vae_decode_s",
    "text": "text_encode_s",
}
STEPS = {
    "lora-step": "lora_train_step_s",
    "lora-step-checkpointed": "lora_train_step_checkpointed_s",
}
KEYS = NETWORKS | STEPS
# Time for the threads of one program to fall asleep before the other one starts.
REST = 1.0


class Failure(Exception):
    """A program that did not do what it was asked; the message says which."""


@dataclass
class Side:
    """What one program needed, round by round."""

    seconds: list[float] = field(default_factory=list)
    # The least of all runs: on a shared machine, the one that was disturbed least.
    fastest: float = math.inf
    peak_bytes: int | None = None

    def add(self, seconds: float, fastest: float, peak_bytes: int | None) -> None:
        self.seconds.append(seconds)
        self.fastest = min(self.fastest, fastest)
        self.peak_bytes = max(filter(None, [self.peak_bytes, peak_bytes]), default=None)


@dataclass
class Result:
    """A case that was run."""

    case: str
    versions: dict[str, str]
    isa: str
    threads: int
    theirs: Side
    ours: Side

    def ratios(self) -> list[float]:
        return [theirs / ours for theirs, ours in zip(self.theirs.seconds, self.ours.seconds, strict=True)]


class Peer:
    """`networks.py`, or the program for candle-transformers, with one network loaded."""

    def __init__(self, args: argparse.Namespace, case: str) -> None:
        stage, dtype, peer = case.split("/")
        command = [args.peers, str(HERE / "networks.py"), peer, stage, dtype, str(args.threads)]
        if peer == "candle":
            command = [str(args.candle)]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command,
            env=environment(args.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        try:
            self.versions: dict[str, str] = self.answer()["versions"]
        except BaseException:
            self.close()
            raise

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if line:
            return json.loads(line)
        status = self.process.wait()
        self.log.seek(0)
        last = self.log.read().strip().splitlines()[-1:]
        raise Failure(f"the peer ended with status {status}: {' '.join(last)}")

    def run(self, runs: int) -> tuple[float, float, int | None]:
        try:
            print(runs, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # Then there is no answer either, and that says why.
        answer = self.answer()
        return answer["seconds"], answer["fastest"], answer["peak_bytes"]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()


def environment(threads: int) -> dict[str, str]:
    """The number of threads for every pool: OpenMP's, rayon's, and candle's own beside rayon's."""
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"]
    return dict(os.environ) | dict.fromkeys(names, str(threads))


def ours(args: argparse.Namespace, case: str) -> tuple[float, float, int | None, str]:
    """Seconds, the fewest of them, bytes and instruction set of photomend."""
    stage, dtype, _ = case.split("/")
    command = [str(args.photomend), "bench", "--only", stage, "--dtype", dtype, "--device", "cpu", "--json"]
    command += ["--repeat", str(args.runs), "--threads", str(args.threads)]
    done = subprocess.run(command, env=environment(args.threads), capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"photomend ended with status {done.returncode}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    fastest = report["fastest_s_by_stage"][stage]
    return report[KEYS[stage]], fastest, report["peak_rss_bytes_by_stage"].get(stage), report["isa"]


def compare(args: argparse.Namespace, case: str) -> Result:
    peer = Peer(args, case)
    result = Result(case, peer.versions, "", args.threads, Side(), Side())
    try:
        for _ in range(args.rounds):
            result.theirs.add(*peer.run(args.runs))
            time.sleep(REST)
            seconds, fastest, peak_bytes, result.isa = ours(args, case)
            result.ours.add(seconds, fastest, peak_bytes)
            time.sleep(REST)
    finally:
        peer.close()
    return result


def cases() -> list[str]:
    names = []
    for dtype in ("f32", "bf16"):
        for stage in NETWORKS:
            names += [f"{stage}/{dtype}/{peer}" for peer in ("torch-eager", "torch-compile", "openvino")]
            # Its convolution has no bf16 on the CPU.
            names += [f"{stage}/{dtype}/candle"] if (stage, dtype) == ("unet", "f32") else []
        names += [f"{stage}/{dtype}/peft" for stage in STEPS]
    return names


def processor() -> tuple[str, set[str]]:
    """Its name and what Linux says that it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return known.get("model name", platform.machine()), set(known.get("flags", "").split())


def why_not(args: argparse.Namespace, case: str, flags: set[str]) -> str | None:
    """Why a case has nothing to say on this machine."""
    _, dtype, peer = case.split("/")
    if dtype == "bf16" and not flags & {"amx_bf16", "avx512_bf16"}:
        return "the processor has neither AMX nor AVX512_BF16, and the peers are at their best in f32"
    if peer == "candle" and not args.candle.is_file():
        return f"{args.candle} is not built (tools/peers/candle)"
    return None


def megabytes(side: Side) -> str:
    return "–" if side.peak_bytes is None else f"{side.peak_bytes / 1e6:.0f}"


def table(results: list[Result], args: argparse.Namespace) -> str:
    name, flags = processor()
    versions = {package: version for result in results for package, version in result.versions.items()}
    known = ", ".join(sorted(flags & {"amx_bf16", "avx512_bf16", "avx512f", "avx2"})) or "no flags known"
    packages = ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
    lines = [
        f"{name} ({known}); photomend on {', '.join(sorted({result.isa for result in results}))}; {packages}.",
        f"{args.threads} threads; medians of {args.rounds} rounds; in brackets the lowest and the highest ratio; "
        f"then the fastest of all {args.rounds * args.runs} runs of each.",
        "",
        "| stage | dtype | peer | peer s | ours s | peer ÷ ours | fastest runs | ratio | peer MB | ours MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        ratios = result.ratios()
        cells = [
            *result.case.split("/"),
            f"{statistics.median(result.theirs.seconds):.3f}",
            f"{statistics.median(result.ours.seconds):.3f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            f"{result.theirs.fastest:.3f}, {result.ours.fastest:.3f}",
            f"{result.theirs.fastest / result.ours.fastest:.2f}",
            megabytes(result.theirs),
            megabytes(result.ours),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_whole(path: Path, text: str) -> None:
    """The old file or the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def write(results: list[Result], args: argparse.Namespace) -> None:
    name, flags = processor()
    report = {
        "processor": name,
        "flags": sorted(flags),
        "threads": args.threads,
        "rounds": args.rounds,
        "runs": args.runs,
        "cases": [asdict(result) | {"ratios": result.ratios()} for result in results],
    }
    write_whole(args.json, json.dumps(report, indent=2) + "\n")
    text = args.docs.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise Failure(f"{args.docs}: expected the marks {BEGIN} and {END}, found none")
    write_whole(args.docs, f"{head}{BEGIN}\n{table(results, args)}\n{END}{tail}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="a Python with the packages of requirements.txt")
    parser.add_argument("--photomend", type=Path, default=ROOT / "target/release/photomend")
    parser.add_argument("--candle", type=Path, default=HERE / "candle/target/release/candle-unet")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=1, help="timed runs of each program in a round")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="CASE", help="cases, or patterns of cases with *")
    parser.add_argument("--list", action="store_true", help="show the cases and stop")
    parser.add_argument("--json", type=Path, default=ROOT / "target/compare.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/benchmarks.md")
    args = parser.parse_args()
    if min(args.threads, args.rounds, args.runs) < 1:
        parser.error("--threads, --rounds and --runs are at least 1")
    for pattern in args.only:
        if not any(fnmatch(case, pattern) for case in cases()):
            parser.error(f"--only: expected cases as --list shows them, found {pattern!r}")
    return args


def main() -> int:
    # Ends the peer too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    args = arguments()
    wanted = [case for case in cases() if any(fnmatch(case, pattern) for pattern in args.only)]
    if args.list:
        print("\n".join(wanted))
        return 0
    _, flags = processor()
    results: list[Result] = []
    failed = False
    for case in wanted:
        if reason := why_not(args, case, flags):
            print(f"{case}: skipped, as {reason}", flush=True)
            continue
        print(f"{case}: ", end="", flush=True)
        try:
            result = compare(args, case)
        except (Failure, OSError) as error:
            print(f"failed: {error}", flush=True)
            failed = True
            continue
        results.append(result)
        write(results, args)
        theirs, mine = (statistics.median(side.seconds) for side in (result.theirs, result.ours))
        print(f"{theirs:.3f} s, ours {mine:.3f} s, ratio {statistics.median(result.ratios()):.2f}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
