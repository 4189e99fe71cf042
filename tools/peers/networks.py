"""One peer with one network, in a process of its own: what `compare.py` starts and asks for times.

    python tools/peers/networks.py PEER STAGE DTYPE THREADS

The networks have the size of Stable Diffusion 1.5 for inpainting at 512x512 and random weights, as in `photomend bench`.
Once one is loaded, compiled and has run, a line of JSON says so. Each line with a number N on standard input is then answered
with a line of JSON: the median seconds of N runs after one that is not timed, the fewest, and the most memory held since it was
loaded.
Needs torch, diffusers, transformers, peft and openvino (`setup.sh`).
"""

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

Work = Callable[[], object]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
WIDTHS = (320, 640, 1280, 1280)


def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=64, in_channels=9, block_out_channels=WIDTHS, cross_attention_dim=768, attention_head_dim=8
    )


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = unet()

    def forward(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return self.model(sample, timestep, context, return_dict=False)[0]


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=768,
        )
        self.model = CLIPTextModel(config)

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids).last_hidden_state


class Vae(nn.Module):
    """The encoder or the decoder; the other half is let go of."""

    def __init__(self, encodes: bool) -> None:
        super().__init__()
        self.model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        self.encodes = encodes
        if encodes:
            del self.model.decoder
        else:
            del self.model.encoder

    def forward(self, image: Tensor) -> Tensor:
        if self.encodes:
            return self.model.quant_conv(self.model.encoder(image))
        return self.model.decode(image, return_dict=False)[0]


def network(stage: str) -> tuple[nn.Module, list[Tensor]]:
    """A network and inputs for it, in f32."""
    if stage == "text":
        return Text(), [torch.arange(77)[None]]
    if stage == "vae-encode":
        return Vae(encodes=True), [torch.randn(1, 3, 512, 512)]
    if stage == "vae-decode":
        return Vae(encodes=False), [torch.randn(1, 4, 64, 64)]
    batch = {"unet": 1, "unet-batch2": 2}[stage]
    return Unet(), [torch.randn(batch, 9, 64, 64), torch.tensor(501), torch.randn(batch, 77, 768)]


def placed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in the dtype, pictures with their channels last; tokens and timesteps as they are."""
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(dtype)
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def in_torch(stage: str, dtype: torch.dtype, compiled: bool) -> Work:
    module, inputs = network(stage)
    module = module.eval().requires_grad_(False).to(dtype).to(memory_format=torch.channels_last)
    inputs = [placed(tensor, dtype) for tensor in inputs]
    run = module
    if compiled:
        import torch._inductor.config as inductor

        # Weights become constants, which are packed once for the kernels that use them.
        inductor.freezing = True
        run = torch.compile(module)

    def work() -> object:
        # A decorator would hold for the first call only: `torch.compile` compiles when it is called.
        with torch.no_grad():
            return run(*inputs)

    return work


def in_openvino(stage: str, dtype: str, threads: int) -> Work:
    import openvino

    module, inputs = network(stage)
    module.eval().requires_grad_(False)
    with torch.no_grad():
        model = openvino.convert_model(module, example_input=tuple(inputs))
    # Fixed shapes, as the plugin plans its memory by them.
    model.reshape({port: list(tensor.shape) for port, tensor in zip(model.inputs, inputs, strict=True)})
    feed = [tensor.numpy() for tensor in inputs]
    settings = {"INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": threads}

    def compiled(hint: dict[str, str]) -> Work:
        request = openvino.Core().compile_model(model, "CPU", settings | hint).create_infer_request()
        return lambda: request.infer(feed, share_inputs=True, share_outputs=True)

    # Which of its settings is the faster one depends on the machine.
    hints: list[dict[str, str]] = [{}, {"PERFORMANCE_HINT": "LATENCY"}]
    return compiled(min(hints, key=lambda hint: min(timed(compiled(hint), 3))))


def in_peft(dtype: torch.dtype, checkpointing: bool) -> Work:
    """A training step of a LoRA: forward, loss weighted by the mask, backward, limit on the norm, AdamW."""
    from peft import LoraConfig

    model = unet().requires_grad_(False).to(dtype).to(memory_format=torch.channels_last)
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    model.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", target_modules=targets))
    lora = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in lora:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(lora, lr=1e-4)
    model.train()
    if checkpointing:
        model.enable_gradient_checkpointing()
    sample = placed(torch.randn(1, 9, 64, 64), dtype)
    context = torch.randn(1, 77, 768, dtype=dtype)
    noise = torch.randn(1, 4, 64, 64)
    weights = torch.full((1, 1, 64, 64), 0.1)
    weights[..., 16:48, 16:48] = 1.0

    def work() -> object:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
            prediction = model(sample, torch.tensor([500]), context, return_dict=False)[0]
        error = (prediction.float() - noise).square()
        loss = (error * weights).sum() / (4 * weights.sum())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lora, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return work


def load(peer: str, stage: str, dtype: str, threads: int) -> Work:
    if peer == "peft":
        return in_peft(DTYPES[dtype], checkpointing=stage == "lora-step-checkpointed")
    if peer == "openvino":
        return in_openvino(stage, dtype, threads)
    return in_torch(stage, DTYPES[dtype], compiled=peer == "torch-compile")


def timed(work: Work, runs: int) -> list[float]:
    """The seconds of some runs after one that is not timed."""
    work()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def reset_peak() -> None:
    """Counts the most memory from now on, where the system can (Linux, proc(5))."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_bytes() -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def main() -> None:
    peer, stage, dtype, threads = sys.argv[1:]
    # Answers only: what libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    work = load(peer, stage, dtype, int(threads))
    # The first run compiles; the second one may find that it has to again.
    work()
    work()
    packages = {"openvino": ["openvino"], "peft": ["torch", "diffusers", "peft"]}
    # What only loading needed.
    gc.collect()
    answer(versions={name: version(name) for name in packages.get(peer, ["torch", "diffusers"])})
    reset_peak()
    for line in sys.stdin:
        seconds = timed(work, int(line))
        answer(seconds=statistics.median(seconds), fastest=min(seconds), peak_bytes=peak_bytes())


if __name__ == "__main__":
    main()
