"""How the time and the memory of a training step grow with the model, the sequence and the micro-batch, beside the peer.

Each axis varies one thing and holds the others. What is fitted is y = c x^e over the measured points, by least squares of the
logarithms: where a fixed cost is a large part of the smallest points, e is below what the largest alone would give.
"""

import json
import os
from pathlib import Path

from common import ROOT
from training import case

PLOT = ROOT / "docs/images/growth.png"
LAYERS, VOCABULARY = 4, 2048
# name: (what is on the axis, points: (x or None for the parameters, shape, batch))
AXES = {
    "size": ("parameters", [
        (None, (hidden, LAYERS, VOCABULARY), (4, 128)) for hidden in (64, 128, 192, 256, 384, 512)
    ]),
    "length": ("positions of a sequence", [
        (positions, (128, LAYERS, VOCABULARY), (2, positions)) for positions in (128, 256, 512, 1024, 2048)
    ]),
    "rows": ("sequences of a micro-batch", [
        (rows, (256, LAYERS, VOCABULARY), (rows, 128)) for rows in (1, 2, 4, 8, 16, 32)
    ]),
}
SUITES = {"growth": tuple(AXES), **{f"growth-{axis}": (axis,) for axis in AXES}}
QUANTITIES = {"seconds": "step time", "peak": "peak memory"}
SIDES = {"ours": "palimpsest", "theirs": "transformers, PyTorch"}


def exponent(points, side, quantity):
    """The exponent of the fit, and its factor."""
    import numpy

    x = numpy.log([point["x"] for point in points])
    y = numpy.log([point[side][quantity] for point in points])
    slope, offset = numpy.polyfit(x, y, 1)
    return float(slope), float(numpy.exp(offset))


def measure(axis):
    title, cases = AXES[axis]
    print(f"growth with the {title}")
    print(f"{title:>28} {'shape':>12} {'batch':>8} {'speed':>6} {'ours ms':>10} {'theirs ms':>10} {'peak MB':>8} {'theirs':>8}")
    points = []
    for x, shape, batch in cases:
        result = case("train", shape, batch, threads=os.cpu_count(), rounds=3, repetitions=3)
        point = {"x": x or result["parameters"], "shape": shape, "batch": batch, **result}
        points.append(point)
        ours, theirs = point["ours"], point["theirs"]
        print(f"{point['x']:28,} {'x'.join(map(str, shape)):>12} {'x'.join(map(str, batch)):>8} {point['speed']:6.2f} "
              f"{ours['seconds'] * 1e3:10.2f} {theirs['seconds'] * 1e3:10.2f} "
              f"{ours['peak'] / 1e6:8.0f} {theirs['peak'] / 1e6:8.0f}", flush=True)
    fits = {
        quantity: {side: exponent(points, side, quantity)[0] for side in SIDES} for quantity in QUANTITIES
    }
    for quantity, name in QUANTITIES.items():
        ours, theirs = fits[quantity]["ours"], fits[quantity]["theirs"]
        print(f"{name:>28} grows with the power {ours:.2f}, the peer's {theirs:.2f}")
    ours, theirs = increase(points, "ours"), increase(points, "theirs")
    print(f"{'it':>28} grows by {ours:,.0f} bytes for one more of the {title}, the peer's by {theirs:,.0f}")
    return {"axis": axis, "title": title, "exponents": fits, "points": points}


def increase(points, side):
    """What the peak grows by, from the first point to the last, for each unit of the axis. A program's own size is not in it."""
    first, last = points[0], points[-1]
    return (last[side]["peak"] - first[side]["peak"]) / (last["x"] - first["x"])


def suite(name, results, machine):
    """Measures axes, and draws all three once each has been measured."""
    for axis in SUITES[name]:
        measured = {"cpu": machine, **measure(axis)}
        (results / f"growth-{axis}.json").write_text(json.dumps(measured, indent=1))
    if all((results / f"growth-{axis}.json").exists() for axis in AXES):
        draw(results, PLOT)
        print(PLOT.relative_to(ROOT))


def draw(results, path):
    """Draws what was measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes = [json.loads((results / f"growth-{axis}.json").read_text()) for axis in AXES]
    figure, grid = pyplot.subplots(len(QUANTITIES), len(axes), figsize=(10, 5.6), constrained_layout=True)
    for column, axis in enumerate(axes):
        for row, (quantity, name) in enumerate(QUANTITIES.items()):
            panel, powers = grid[row][column], []
            for (side, label), colour in zip(SIDES.items(), ("#1f5fa8", "#c05020")):
                scale = 1e3 if quantity == "seconds" else 1e-6
                x = [point["x"] for point in axis["points"]]
                slope, factor = exponent(axis["points"], side, quantity)
                panel.plot(x, [point[side][quantity] * scale for point in axis["points"]], "o", color=colour, markersize=4)
                panel.plot(x, [factor * value**slope * scale for value in x], color=colour, linewidth=1, label=label)
                powers.append(f"{slope:.2f}")
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.yaxis.set_minor_formatter(NullFormatter())
            if axis["axis"] != "size":
                panel.set_xticks(x, [f"{value:,}" for value in x])
                panel.xaxis.set_minor_formatter(NullFormatter())
            panel.set_xlabel(axis["title"])
            panel.set_ylabel(f"{name}, {'ms' if quantity == 'seconds' else 'MB'}")
            panel.grid(True, which="major", linewidth=0.4, alpha=0.5)
            panel.set_title(f"powers {' and '.join(powers)}", fontsize=9)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(SIDES), fontsize=9)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    draw(Path(__file__).with_name("results"), PLOT)
