"""Pages that `photomend train-detector --pages-only` and `train-refiner --pages-only` wrote, kept where they are trained on."""

import random
import threading
import time
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

CHANNELS = 7  # clean, shown, mask
WITNESSES = 5  # what is known of a page's pixels already, where the example `witnesses` has added it
POINTS = 256  # damaged pixels of a page that crops are cut around


class Pages:
    """The last `capacity` pages of a folder and those inside it, as u8 on the device, taken in as they are written there.

    A page is taken in once, and its file deleted then if `consume` says so. Once the folder has no new ones, the pages that are
    there are used again and again.
    """

    def __init__(self, folder: Path, capacity: int, side: int, device: torch.device, consume: bool, witnessed: bool) -> None:
        self.folder, self.capacity, self.consume, self.device = folder, capacity, consume, device
        self.witnessed = witnessed
        channels = CHANNELS + (WITNESSES if witnessed else 0)
        self.pixels = torch.zeros(capacity, side, side, channels, dtype=torch.uint8, device=device)
        self.sizes = torch.zeros(capacity, 2, dtype=torch.long, device=device)
        self.points = torch.full((capacity, POINTS, 2), -1, dtype=torch.long, device=device)
        self.count = 0  # taken in so far
        self.seen: set[Path] = set()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self) -> None:
        # A stream of its own, so that taking in pages does not wait for the training's kernels.
        stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        with torch.cuda.stream(stream):
            while True:
                fresh = sorted(set(self.folder.rglob("*.safetensors")) - self.seen)
                for path in fresh:
                    self.take_in(path)
                # Listing thousands of pages takes the time of a step on a CPU: seldom, once nothing new comes.
                time.sleep(0.2 if fresh else 5.0)

    def take_in(self, path: Path) -> None:
        try:
            page = load_file(path)
        except (OSError, SafetensorError):
            return
        if self.witnessed and "witnesses" not in page:
            return  # They may come yet.
        self.seen.add(path)
        height, width = page["mask"].shape
        parts = [page["clean"], page["shown"], page["mask"][..., None]]
        if self.witnessed:
            parts.append(page["witnesses"])
        pixels = torch.cat(parts, dim=-1)
        damaged = page["mask"].nonzero()
        slot = self.count % self.capacity
        self.pixels[slot, :height, :width].copy_(pixels)
        self.sizes[slot] = torch.tensor([height, width])
        if len(damaged):
            self.points[slot] = damaged[torch.randint(len(damaged), (POINTS,))].to(self.device)
        else:
            self.points[slot] = -1
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        self.count += 1
        if self.consume:
            path.unlink(missing_ok=True)

    def wait_for(self, count: int) -> None:
        while self.count < count:
            time.sleep(0.5)

    def crops(self, number: int, side: int, near: float) -> tuple[torch.Tensor, ...]:
        """Crops, mirrored or turned or not: clean and shown `(b, 3, side, side)` in [-1, 1], mask `(b, 1, side, side)`, and of
        witnessed pages what is known of them, `(b, 5, side, side)` in [0, 255].

        A share `near` of them is cut around a damaged pixel, if the page has any.
        """
        device, uniform = self.device, lambda: torch.rand(number, device=self.device)
        page = torch.randint(min(self.count, self.capacity), (number,), device=device)
        most = self.sizes[page] - side
        point = self.points[page, torch.randint(POINTS, (number,), device=device)]
        around = point - (torch.rand(number, 2, device=device) * side).long()
        anywhere = (torch.rand(number, 2, device=device) * (most + 1)).long()
        is_near = (uniform() < near) & (point[:, 0] >= 0)
        corner = torch.minimum(torch.where(is_near[:, None], around, anywhere).clamp_min(0), most)

        steps = torch.arange(side, device=device)
        ys, xs = (
            corner[:, axis, None] + torch.where((uniform() < 0.5)[:, None], steps, side - 1 - steps) for axis in (0, 1)
        )
        crops = self.pixels[page[:, None, None], ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)
        if random.random() < 0.5:
            crops = crops.transpose(2, 3)
        pictures = crops[:, :6].float() / 127.5 - 1.0
        layout = torch.channels_last
        clean, shown = (picture.contiguous(memory_format=layout) for picture in pictures.split(3, dim=1))
        known = (crops[:, CHANNELS:].float(),) if self.witnessed else ()
        return clean, shown, crops[:, 6:CHANNELS].float(), *known
