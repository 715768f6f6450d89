"""Train deep networks after Xavier and Kaiming initialization: figures 2 and 3 of He et al., 2015, at small scale.

    python benchmarks/he2015_depth.py [--quick] [--output docs/he2015_depth.png]

The paper ("Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852) trains ReLU networks of 22 and of 30 layers
from both. With 22 layers both networks learn, with Kaiming initialization earlier; with 30 layers, only the network
with Kaiming initialization learns. Here the layers are fully connected, without normalization, and the inputs are the
8 x 8 digits of scikit-learn. Biases start at zero, the weights come from `fastkaiming.torch`, and the optimizer is SGD
with the paper's momentum and weight decay. All settings are the same for both initializations and both depths. Only
the training error is measured, because the claim is about whether a network learns at all.

Xavier initialization is slower because its variance is half of the value that preserves the size of a signal through a
ReLU. Activations shrink by sqrt(1/2) in every layer, and so do gradients in the backward pass, so that with L layers
the gradients of the weights are initially about 2 ** (-L / 2) times those of Kaiming initialization. With 22 layers
they are larger than the weight decay, with 30 layers they are not.

The learning rate is limited by Kaiming initialization: 0.02 diverged. With a constant rate of 0.005 the networks
learned, but with 30 layers some seeds later jumped back to large errors, so the rate decreases linearly to zero.
Without weight decay, 30 layers with Xavier initialization leave their plateau after about 15 to more than 100 epochs.

The exit status is 1 if the results do not support the claim. Training uses one thread, and all runs take about six
minutes.
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

# Fractions of wrong answers; random guesses are wrong in 0.9 of all cases.
LEARNED = 0.1
STALLED = 0.7

CLAIM = (
    f"As in the paper: {SHALLOW} layers learn from both, with Kaiming earlier; {DEEP} layers learn only with Kaiming."
)

INITIALIZATIONS = {
    "Xavier": init.xavier_normal_,
    "Kaiming": lambda weight, generator: init.kaiming_normal_(weight, nonlinearity="relu", generator=generator),
}
COLORS = {"Xavier": "tab:red", "Kaiming": "tab:blue"}


@dataclass(frozen=True)
class Run:
    """The training of one network: the error before the first epoch and after each epoch, and the final loss."""

    depth: int
    name: str
    seed: int
    errors: list[float]
    loss: float

    def learned(self) -> float:
        """Return the epoch after which the error stays below LEARNED; infinity if the final error is above it."""
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
    """Return a network of linear layers with ReLUs between them, initialized by the named initializer."""
    modules: list[Any] = []
    for fan_in, fan_out in itertools.pairwise([inputs, *[WIDTH] * (depth - 1), CLASSES]):
        layer = nn.Linear(fan_in, fan_out)
        INITIALIZATIONS[name](layer.weight, generator=generator)
        init.zeros_(layer.bias)
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def train(depth: int, name: str, seed: int) -> Run:
    """Train one network from the start; its weights and the order of the images depend only on the seed."""
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
    """Return the parts of the claim that the runs do not support, judged by the median over the seeds."""

    def of(depth: int, name: str, value: Callable[[Run], float]) -> float:
        return median(value(run) for run in runs if (run.depth, run.name) == (depth, name))

    found = []
    xavier, kaiming = (of(SHALLOW, name, Run.learned) for name in INITIALIZATIONS)
    if not kaiming < xavier < float("inf"):
        found.append(f"{SHALLOW} layers: learned after epoch {kaiming} (Kaiming) and {xavier} (Xavier)")
    if of(DEEP, "Kaiming", Run.learned) == float("inf"):
        found.append(f"{DEEP} layers: Kaiming did not learn")
    if of(DEEP, "Xavier", lambda run: run.errors[-1]) < STALLED:
        found.append(f"{DEEP} layers: Xavier did not stall")
    return found


def draw(runs: list[Run], output: Path) -> None:
    """Write the plot: a panel for each depth, with the median and the range over the seeds for each initialization."""
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
    """Train all networks, print a row for each run, and write the plot if --output is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use only one seed, and do not check the claim")
    parser.add_argument("--output", type=Path, metavar="PNG", help="plot the errors over the epochs (needs matplotlib)")
    options = parser.parse_args()
    # Sums split between threads round differently, which changes the curve after many steps.
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
