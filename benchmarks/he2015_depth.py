"""What depth does to Xavier's and to Kaiming's initialization: figures 2 and 3 of He et al., 2015, in small.

    python benchmarks/he2015_depth.py [--quick] [--output docs/he2015_depth.png]

The paper ("Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852) trains ReLU networks of 22 and of 30 layers
from both. At 22 both learn, Kaiming's earlier; at 30 Xavier's stalls, and Kaiming's learns. Here the layers are fully
connected, without any normalization, and read the 8 x 8 digits that scikit-learn ships. Biases start at zero, the
weights come from `fastkaiming.torch`, and training is SGD with the paper's momentum and weight decay, with one setting
of everything for both initializations and both depths. Only the training error is looked at: the claim is about
learning at all.

Why Xavier's falls behind: its variance is half of what keeps the size of a signal through a ReLU, so activations shrink
by sqrt(1/2) in every layer, gradients on the way back do too, and the gradients of the weights of L layers start some
2 ** (-L / 2) as large as Kaiming's. At 22 layers they outgrow the weight decay, at 30 they do not.

Why these numbers: Kaiming's bounds the learning rate, 0.02 diverged. At a constant 0.005 it learned, but at 30 layers
some seeds jumped back to large errors later, so the rate falls linearly to zero. Without the weight decay, 30 layers of
Xavier's leave their plateau after some 15 to more than 100 epochs.

Exits with 1 if the claim does not come out. Training takes one thread, and the whole some six minutes.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from sklearn.datasets import load_digits
from torch import nn

import fastkaiming.torch as init

if TYPE_CHECKING:
    from collections.abc import Callable

DEPTHS = SHALLOW, DEEP = 22, 30
SEEDS = range(10)
WIDTH = 64
CLASSES = 10
EPOCHS = 70
BATCH = 64
LEARNING_RATE = 0.005
MOMENTUM = 0.9
WEIGHT_DECAY = 0.0005

# Shares of wrong answers; guesses are wrong in 0.9.
LEARNED = 0.1
STALLED = 0.7

CLAIM = (
    f"As in the paper: {SHALLOW} layers learn from both, Kaiming's earlier; {DEEP} layers learn from Kaiming's alone."
)

INITIALIZATIONS = {
    "Xavier": init.xavier_normal_,
    "Kaiming": lambda weight, generator: init.kaiming_normal_(weight, nonlinearity="relu", generator=generator),
}
COLORS = {"Xavier": "tab:red", "Kaiming": "tab:blue"}


@dataclass(frozen=True)
class Run:
    """The training of one network: the share of wrong answers before the first epoch and after each, the last loss."""

    depth: int
    name: str
    seed: int
    errors: list[float]
    loss: float

    def learned(self) -> float:
        """Return the epoch after which the error stays below LEARNED; infinity where it ends above."""
        last = max(epoch for epoch, error in enumerate(self.errors) if error >= LEARNED)
        return last + 1 if last + 1 < len(self.errors) else float("inf")

    def row(self) -> str:
        numbers = f"{self.loss:.4f} | {self.errors[-1]:.3f} | {min(self.errors):.3f} | {self.learned()}"
        return f"| {self.depth} | {self.name} | {self.seed} | {numbers} |"


def digits() -> tuple[Any, Any]:
    """Return all images, with mean zero and a mean square of one, and their labels."""
    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32)
    images -= images.mean(0)
    return images / images.square().mean().sqrt(), torch.tensor(data.target)


def network(inputs: int, depth: int, name: str, generator: Any) -> Any:
    """Return so many linear layers with ReLUs between them, initialized by name."""
    modules: list[Any] = []
    for fan_in, fan_out in itertools.pairwise([inputs, *[WIDTH] * (depth - 1), CLASSES]):
        layer = nn.Linear(fan_in, fan_out)
        INITIALIZATIONS[name](layer.weight, generator=generator)
        init.zeros_(layer.bias)
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def train(depth: int, name: str, seed: int) -> Run:
    """Train one network from the start; its weights and the order of the images come from the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = digits()
    model = network(images.shape[1], depth, name, generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=EPOCHS)
    cross_entropy = nn.CrossEntropyLoss()

    def measured() -> tuple[float, float]:
        with torch.no_grad():
            scores = model(images)
        return (scores.argmax(1) != labels).float().mean().item(), cross_entropy(scores, labels).item()

    measures = [measured()]
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
        measures.append(measured())
    return Run(depth, name, seed, [error for error, _ in measures], measures[-1][1])


def failures(runs: list[Run]) -> list[str]:
    """Return in which points the runs are not what the paper claims; each is asked of the median over the seeds."""

    def of(depth: int, name: str, value: Callable[[Run], float]) -> float:
        return median(value(run) for run in runs if (run.depth, run.name) == (depth, name))

    found = []
    xavier, kaiming = (of(SHALLOW, name, Run.learned) for name in INITIALIZATIONS)
    if not kaiming < xavier < float("inf"):
        found.append(f"{SHALLOW} layers: learned after epoch {kaiming} (Kaiming) and {xavier} (Xavier)")
    if of(DEEP, "Kaiming", Run.learned) == float("inf"):
        found.append(f"{DEEP} layers: Kaiming's did not learn")
    if of(DEEP, "Xavier", lambda run: run.errors[-1]) < STALLED:
        found.append(f"{DEEP} layers: Xavier's did not stall")
    return found


def draw(runs: list[Run], output: Path) -> None:
    """Write the picture: a panel for each depth, the median and the range of the seeds for each initialization."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), dpi=120, layout="constrained")
    for axes, depth in zip(figure.subplots(1, 2, sharey=True), DEPTHS, strict=True):
        for name, color in COLORS.items():
            epochs = list(zip(*(run.errors for run in runs if (run.depth, run.name) == (depth, name)), strict=True))
            low, high = ([bound(errors) for errors in epochs] for bound in (min, max))
            axes.fill_between(range(len(epochs)), low, high, color=color, alpha=0.2, linewidth=0)
            axes.plot([median(errors) for errors in epochs], color=color, label=name)
        axes.set(title=f"{depth} layers", xlabel="epoch", xlim=(0, len(epochs) - 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("training error")
    figure.axes[0].legend(loc="upper right")
    figure.savefig(output)


def main() -> int:
    """Train all, print a row for each run as it ends, and write the picture where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed alone, which proves nothing: no verdict")
    parser.add_argument("--output", type=Path, metavar="PNG", help="draw the errors over the epochs (needs matplotlib)")
    options = parser.parse_args()
    # Sums split between threads round differently, and so many steps make another curve of that.
    torch.set_num_threads(1)
    print("| layers | initialization | seed | last loss | last error | lowest error | learned after epoch |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    runs = []
    for depth, name, seed in itertools.product(DEPTHS, INITIALIZATIONS, SEEDS[: 1 if options.quick else None]):
        runs.append(train(depth, name, seed))
        print(runs[-1].row(), flush=True)
    if options.output is not None:
        draw(runs, options.output)
    if options.quick:
        return 0
    found = failures(runs)
    print("\n" + ("\n".join(found) or CLAIM))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
