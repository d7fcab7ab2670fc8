"""The rows of training.py in; lines on the terminal and a figure out."""


def label(row):
    return f"{row['lanes']} x {row['envs']}"


def show(row):
    rate, roof = row["rows_per_second"], row["roofline"]
    print(
        f"{row['program']:10s} {row['lanes']:5d} x {row['envs']:4d}: {rate['median']:10.4g} rows/s "
        f"({rate['min']:.4g} to {rate['max']:.4g}), {row['env_steps_per_second']['median']:.4g} env steps/s, "
        f"{row['flops_per_row']['compiled'] / 1e3:.1f} kFLOP and {row['bytes_per_row'] / 1e3:.1f} kB a row, "
        f"{100 * roof['share_of_flops']:.0f} % of the product rate, {100 * roof['share_of_bytes']:.0f} % of the "
        f"bandwidth, peak {row['peak_bytes_of_process'] / 1e9:.2f} GB",
        flush=True,
    )


def draw(rows, peak, path):
    """Rates by program and shape, and the roofline: FLOP/s against FLOPs for each byte."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    shapes = list(dict.fromkeys(label(row) for row in rows))
    programs = list(dict.fromkeys(row["program"] for row in rows))
    for c, name in enumerate(programs):
        mine = [row for row in rows if row["program"] == name]
        x = [shapes.index(label(row)) for row in mine]
        rates = [row["env_steps_per_second"] for row in mine]
        y = [rate["median"] for rate in rates]
        ends = [[r["median"] - r["min"] for r in rates], [r["max"] - r["median"] for r in rates]]
        left.errorbar(x, y, ends, marker="o", ms=4, color=f"C{c}", label=name, capsize=3)
        flops = [row["flops_per_row"]["compiled"] for row in mine]
        density = [f / row["bytes_per_row"] for f, row in zip(flops, mine, strict=True)]
        right.plot(density, [f * r for f, r in zip(flops, y, strict=True)], "o", ms=5, color=f"C{c}", label=name)
    left.set(yscale="log", ylabel="environment steps per second", xlabel="lanes x environments")
    left.set_xticks(range(len(shapes)), shapes)
    knee = peak["flops_per_second"] / peak["bytes_per_second"]
    line = [knee / 100, knee, knee * 100]
    roof = [min(peak["flops_per_second"], density * peak["bytes_per_second"]) for density in line]
    right.plot(line, roof, "k-", lw=1, label="product rate, bandwidth")
    right.set(xscale="log", yscale="log", xlabel="FLOPs for each byte that XLA counts", ylabel="FLOP/s of the products")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
