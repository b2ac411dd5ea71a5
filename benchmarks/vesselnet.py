"""How many frames of 512x512 a second the shipped network looks at, beside the ridge filter in the same run.

Subject: the vesselnet segmenter, from decoded frames to masks, on a drawn X-ray angiogram. Peer: the ridge segmenter on
the same frames, in turns; the ratio is the median over rounds. Goal on two CPU cores: at most 0.15 s a frame. Below it,
the network alone at its working size: each batch and precision that the device has, and on a GPU with torch.compile.

    python benchmarks/vesselnet.py [--device cpu] [--threads 2] [--frames 4] [--rounds 5] [--json]
"""

import sys
from pathlib import Path

# a script's own folder is the first on its path, where queue.py would hide the standard library's
sys.path[0] = str(Path(__file__).resolve().parents[1])


import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from training.synthetic.sampling import sample
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.segmenters import registry
from worker.segmenters.interface import Prompt
from worker.segmenters.vesselnet.network import CHANNELS
from worker.segmenters.vesselnet.preparing import WORKING_SIZES
from worker.segmenters.vesselnet.weights import SHIPPED, load_network

GOAL_SECONDS = 0.15
BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (1, 8, 32, 64)}
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "fp16", "bf16")}
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def main() -> None:
    """Measure and print; exit code 1 when two CPU cores miss the goal."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    segmenters = _segmenters(arguments.device, arguments.frames, arguments.rounds)
    if not arguments.json:
        for name in ("vesselnet", "ridge"):
            print(f"{name:10} {segmenters[name]:.3f} s a frame   {1 / segmenters[name]:6.1f} frames a second")
    network = []
    for row in _network(arguments.device):
        network.append(row)
        if not arguments.json:
            print("network    " + "  ".join(f"{key} {value}" for key, value in row.items()))
    seconds = segmenters["vesselnet"]
    said = {
        "stage": "vesselnet",
        "device": arguments.device,
        "threads": arguments.threads,
        "goal_seconds": GOAL_SECONDS,
        "seconds_a_frame": round(seconds, 4),
        "ridge_seconds_a_frame": round(segmenters["ridge"], 4),
        "ratio_to_ridge": round(segmenters["ratio"], 3),
        "network": network,
    }
    print(json.dumps(said))
    sys.exit(seconds > GOAL_SECONDS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--frames", type=int, default=4, help="of the run that both segmenters look at")
    parser.add_argument("--rounds", type=int, default=5, help="measured pairs, after one to warm up")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    return parser.parse_args()


def _segmenters(device: str, frames: int, rounds: int) -> dict[str, float]:
    """Return the median seconds a frame of both, and the median of their ratio."""
    picture = sample("xa", 1, 512).image.astype(np.float32)
    pixels = np.stack([picture + 0.1 * number for number in range(frames)])
    identities = tuple(FrameIdentity("2.25.1", number + 1) for number in range(frames))
    stack = ImageStack(pixels, Arrangement.RUN, Imaging.XRAY_ANGIOGRAPHY, identities)
    settings: dict[str, dict[str, object]] = {"vesselnet": {"gate": False}, "ridge": {}}
    loaded = {name: registry.load(name, settings, device) for name in settings}
    seconds: dict[str, list[float]] = {name: [] for name in loaded}
    for number in range(rounds + 1):
        for name in list(loaded)[:: 1 if number % 2 else -1]:
            passed = _seconds(lambda name=name: loaded[name].segment(stack, Prompt(), lambda _share: None))
            if number:
                seconds[name].append(passed / frames)
    ratio = statistics.median(own / peer for own, peer in zip(seconds["vesselnet"], seconds["ridge"], strict=True))
    return {name: statistics.median(values) for name, values in seconds.items()} | {"ratio": ratio}


@torch.inference_mode()
def _network(device: str) -> Iterator[dict[str, str | int | float]]:
    """Yield frames a second of the network alone for each batch and precision."""
    kind_of_device = torch.device(device).type
    side = int(WORKING_SIZES[Imaging.XRAY_ANGIOGRAPHY])
    plain = load_network(SHIPPED, device)
    ways = {"eager": plain} | ({"compiled": torch.compile(plain)} if kind_of_device == "cuda" else {})
    for way, network in ways.items():
        for precision in PRECISIONS[kind_of_device]:
            for batch in BATCHES[kind_of_device]:
                pictures = torch.randn(batch, CHANNELS, side, side, device=device)
                pictures = pictures.contiguous(memory_format=torch.channels_last)
                kinds = torch.zeros(batch, dtype=torch.long, device=device)

                def look(network=network, pictures=pictures, kinds=kinds, precision=precision) -> None:
                    with torch.autocast(kind_of_device, TYPES[precision], enabled=precision != "fp32"):
                        network(pictures, kinds)
                    if kind_of_device == "cuda":
                        torch.cuda.synchronize()

                look()
                passed = statistics.median(_seconds(look) for _ in range(5))
                rate = round(batch / passed, 1)
                yield {"way": way, "precision": precision, "batch": batch, "frames_a_second": rate}


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
