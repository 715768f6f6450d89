"""Train deep networks from Xavier and Kaiming initialization: figures 2 and 3 of He et al., 2015, at a small scale.

    python benchmarks/he2015_depth.py [--quick] [--output docs/he2015_depth.png]

The paper ("Delving Deep into Rectifiers", https://arxiv.org/abs/1502.01852) trains ReLU networks with 22 and with 30
layers from both initializations. With 22 layers, both networks learn, and Kaiming initialization learns earlier. With
30 layers, training from Xavier initialization stalls, and training from Kaiming initialization succeeds. This script
uses fully connected layers without normalization and the 8 x 8 digits that are included in scikit-learn. Biases start
at zero, and `fastkaiming.torch` fills the weights. Training uses SGD with the momentum and the weight decay of the
paper; all settings are the same for both initializations and both depths. The script measures only the training error,
because the claim is about whether the networks learn at all.

Xavier initialization learns more slowly because its variance is half of the variance that preserves the mean square of
a signal through a ReLU. Activations shrink by sqrt(1/2) in every layer, and so do gradients in the backward pass. The
initial gradients of the weights of L layers are therefore about 2 ** (-L / 2) as large as with Kaiming initialization.
With 22 layers they become larger than the weight decay; with 30 layers they do not.

Kaiming initialization limits the learning rate: training diverged at 0.02. Training at a constant 0.005 succeeded, but
with 30 layers some seeds returned to large errors later, so the learning rate decreases linearly to zero. Without
weight decay, networks with 30 layers and Xavier initialization leave the plateau after about 15 to more than 100
epochs.

The script exits with status 1 if the results contradict the claim. It uses one thread and takes about six minutes.
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

# Training errors: the fractions of images that are classified incorrectly. Chance level is an error of 0.9.
LEARNED = 0.1
STALLED = 0.7

CLAIM = (
    f"As in the paper: with {SHALLOW} layers, both initializations learn, Kaiming earlier; "
    f"with {DEEP} layers, only Kaiming learns."
)

INITIALIZATIONS = {
    "Xavier": init.xavier_normal_,
    "Kaiming": lambda weight, generator: init.kaiming_normal_(weight, nonlinearity="relu", generator=generator),
}
# Colors of Okabe and Ito, which colour-blind readers can tell apart; line styles and markers differ as well.
STYLES: dict[str, dict[str, Any]] = {
    "Xavier": {"color": "#D55E00", "linestyle": "--", "marker": "s"},
    "Kaiming": {"color": "#0072B2", "linestyle": "-", "marker": "o"},
}


@dataclass(frozen=True)
class Run:
    """The training of one network: the errors before the first epoch and after each epoch, and the last loss."""

    depth: int
    name: str
    seed: int
    errors: list[float]
    loss: float

    def learned_after_epoch(self) -> float:
        """Return the epoch after which the error stays below LEARNED, or infinity if the last error is not below it."""
        last = max(epoch for epoch, error in enumerate(self.errors) if error >= LEARNED)
        return last + 1 if last + 1 < len(self.errors) else float("inf")

    def row(self) -> str:
        numbers = f"{self.loss:.4f} | {self.errors[-1]:.3f} | {min(self.errors):.3f} | {self.learned_after_epoch()}"
        return f"| {self.depth} | {self.name} | {self.seed} | {numbers} |"


def load_images() -> tuple[Any, Any]:
    """Return all images, normalized to a mean of zero and a mean square of one, and their labels."""
    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32)
    images -= images.mean(0)
    return images / images.square().mean().sqrt(), torch.tensor(data.target)


def make_network(inputs: int, depth: int, name: str, generator: Any) -> Any:
    """Return ``depth`` linear layers with ReLUs between them, filled by the initialization with the given name."""
    modules: list[Any] = []
    for fan_in, fan_out in itertools.pairwise([inputs, *[WIDTH] * (depth - 1), CLASSES]):
        layer = nn.Linear(fan_in, fan_out)
        INITIALIZATIONS[name](layer.weight, generator=generator)
        init.zeros_(layer.bias)
        modules += [layer, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def train(depth: int, name: str, seed: int) -> Run:
    """Train one network. The seed alone determines its weights and the order of the images."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = load_images()
    model = make_network(images.shape[1], depth, name, generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=EPOCHS)
    cross_entropy = nn.CrossEntropyLoss()

    def measure() -> tuple[float, float]:
        with torch.no_grad():
            scores = model(images)
        return (scores.argmax(1) != labels).float().mean().item(), cross_entropy(scores, labels).item()

    measures = [measure()]
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
        measures.append(measure())
    return Run(depth, name, seed, [error for error, _ in measures], measures[-1][1])


def failures(runs: list[Run]) -> list[str]:
    """Return the points in which the medians over the seeds contradict the claim of the paper."""

    def median_of(depth: int, name: str, value: Callable[[Run], float]) -> float:
        return median(value(run) for run in runs if (run.depth, run.name) == (depth, name))

    found = []
    xavier, kaiming = (median_of(SHALLOW, name, Run.learned_after_epoch) for name in INITIALIZATIONS)
    if not kaiming < xavier < float("inf"):
        found.append(f"{SHALLOW} layers: learned after epoch {kaiming} (Kaiming) and {xavier} (Xavier)")
    if median_of(DEEP, "Kaiming", Run.learned_after_epoch) == float("inf"):
        found.append(f"{DEEP} layers: Kaiming did not learn")
    if median_of(DEEP, "Xavier", lambda run: run.errors[-1]) < STALLED:
        found.append(f"{DEEP} layers: Xavier did not stall")
    return found


def draw(runs: list[Run], output: Path) -> None:
    """Draw a panel for each depth, with the median and the range over the seeds for each initialization."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=125, layout="constrained")
    seeds = len({run.seed for run in runs})
    figure.suptitle(f"Layers of {WIDTH} units, 8 x 8 digits\nmedian and range of {seeds} seeds", fontsize="large")
    for axes, depth in zip(figure.subplots(1, 2, sharey=True), DEPTHS, strict=True):
        for name, style in STYLES.items():
            epochs = list(zip(*(run.errors for run in runs if (run.depth, run.name) == (depth, name)), strict=True))
            low, high = ([bound(errors) for errors in epochs] for bound in (min, max))
            axes.fill_between(range(len(epochs)), low, high, color=style["color"], alpha=0.2, linewidth=0)
            axes.plot([median(errors) for errors in epochs], markevery=10, label=name, **style)
        axes.set(title=f"{depth} layers", xlim=(0, len(epochs) - 1), ylim=(0, 1))
        axes.set_xlabel("epoch", fontsize="large")
        axes.tick_params(labelsize="large")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("training error (fraction)", fontsize="large")
    figure.axes[0].legend(loc="upper right")
    figure.savefig(output)


def main() -> int:
    """Train all networks, print a row after each run, and write the figure if ``--output`` is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use only one seed, and do not check the claim")
    parser.add_argument("--output", type=Path, metavar="PNG", help="draw errors against epochs (needs matplotlib)")
    options = parser.parse_args()
    # Sums that are divided between threads round differently, and over many steps this changes the curves.
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
