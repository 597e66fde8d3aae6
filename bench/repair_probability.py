"""How likely a package can be repaired when chunks are lost at random: exact, and cross-checked by simulation.

    python bench/repair_probability.py [--trials 2000]

Each stored part, data or parity, is lost with probability p, independently. A stripe comes back if at most m of its
parts are lost, so its probability is a binomial tail; stripes are independent, so a package's is their product.
"""

from __future__ import annotations

import argparse
import math
import random

from libreseed.repair.grid import ChunkGrid

_SIZES = {"1 MB": 10**6, "10 MB": 10**7, "100 MB": 10**8, "1 GB": 10**9, "10 GB": 10**10}
_SHARES = [0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.046, 0.05, 0.06]


def failure_of_stripe(parts: int, m: int, p: float) -> float:
    """The probability that more than ``m`` of ``parts`` parts are lost."""
    return math.fsum(math.comb(parts, lost) * p**lost * (1 - p) ** (parts - lost) for lost in range(m + 1, parts + 1))


def log_success(grid: ChunkGrid, m: int, p: float) -> float:
    """The natural logarithm of the probability that every stripe comes back."""
    with_virtual = grid.k * grid.s - grid.n  # these stripes store one part less
    return sum(
        count * math.log1p(-min(failure_of_stripe(parts, m, p), 1 - 1e-16))
        for parts, count in ((grid.k + m, grid.s - with_virtual), (grid.k + m - 1, with_virtual))
        if count
    )


def largest_share(grid: ChunkGrid, m: int, wanted: float) -> float:
    """The largest p at which the package comes back with probability ``wanted``."""
    low, high = 0.0, 0.5
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if log_success(grid, m, middle) >= math.log(wanted) else (low, middle)
    return low


def simulate(grid: ChunkGrid, m: int, p: float, trials: int, chance: random.Random) -> float:
    """The share of ``trials`` in which every stripe came back."""
    parts = grid.n + grid.parity_chunks(m)
    scale = 1 / math.log1p(-p)
    good = 0
    for _ in range(trials):
        lost = [0] * grid.s
        at = int(math.log(1 - chance.random()) * scale)  # how many parts are kept before the next lost one
        while at < parts and lost[stripe := at % grid.s if at < grid.n else (at - grid.n) // m] < m:
            lost[stripe] += 1
            at += 1 + int(math.log(1 - chance.random()) * scale)
        good += at >= parts
    return good / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="per cell, fewer for large packages; 0: none")
    trials = parser.parse_args().trials
    chance = random.Random(954)
    grids = {name: ChunkGrid(size) for name, size in _SIZES.items()}
    print(
        "| lost at random | "
        + " | ".join(f"{name} ({grid.s} x {grid.k}+{grid.least_m})" for name, grid in grids.items())
        + " |"
    )
    print("|---|" + "---|" * len(grids))
    worst, simulated = 0.0, 0
    for p in _SHARES:
        cells = []
        for grid in grids.values():
            exact = math.exp(log_success(grid, grid.least_m, p))
            cells.append(_percent(exact))
            runs = min(trials, trials * 50 // grid.s)
            if runs >= 100:
                spread = math.sqrt(max(exact * (1 - exact), 1 / runs) / runs)
                simulated += 1
                worst = max(worst, abs(simulate(grid, grid.least_m, p, runs, chance) - exact) / spread)
        print(f"| {100 * p:.1f} % | " + " | ".join(cells) + " |")
    for wanted in (0.5, 0.99, 0.999999):
        shares = [f"{100 * largest_share(grid, grid.least_m, wanted):.2f} %" for grid in grids.values()]
        print(f"| *share lost for {100 * wanted:g} %* | " + " | ".join(shares) + " |")
    if trials:
        print(
            f"\nSimulated {simulated} cells; largest deviation from the exact value: {worst:.1f} standard deviations."
        )


def _percent(value: float) -> str:
    if value < 0.0001:
        return "< 0.01 %"
    failure = 1 - value
    return f"{100 * value:.2f} %" if failure > 0.0001 else f"100 % - {failure:.0e}"


if __name__ == "__main__":
    main()
