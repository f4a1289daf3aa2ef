"""Fidelity and coherence against k, as in the paper's figure 3: COMP at several lambdas, NNOMP and top-k.

    pip install 'headscan[coherence,figures]'
    python benchmarks/paper/figure3.py          # the demo model's last four layers, write side, both poles
    python benchmarks/paper/figure3.py --model ViT-L-14 --pretrained openai --dictionary wordnet --layers 20-23

Coherence is the mean pairwise similarity of an explanation's concepts in a sentence encoder that knows nothing of the
model; the model's own space stands beside it. Writes benchmarks/results/figure3.md and docs/figure3.png.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import headscan as hs

ROOT = Path(__file__).resolve().parents[2]
RESULTS, FIGURE = ROOT / "benchmarks" / "results" / "figure3.md", ROOT / "docs" / "figure3.png"
SIZES = (5, 10, 20, 50)
METHODS = {
    **{f"COMP, lambda {weight}": {"coherence": weight} for weight in (0.1, 0.2, 0.3, 0.4)},
    "NNOMP": {"method": "nnomp"},
    "top-k": {"method": "top_k"},
}
MEASURES = {
    "joint_fidelity": "fidelity in joint space",
    "fidelity": "fidelity in the residual stream",
    "independent": "coherence in a sentence encoder",
    "own": "coherence in the model's own space",
}


def directions(model, layers):
    """Write directions of all heads, both poles, (n, width)."""
    parts = []
    for layer in hs.vo_factors(model, layers=layers).layers:
        factors = hs.vo_factors(model, layers=[layer])
        parts.append(hs.svd_factored(factors.left[0], factors.right[0])[2].reshape(-1, model.width))
    written = np.concatenate(parts)
    return np.concatenate([written, -written])


def measure(model, dictionary, vectors, sentences):
    """Mean and standard error of each measure, by method and k."""
    joint, found = hs.joint_map(model), {}
    for name, options in METHODS.items():
        for k in SIZES:
            said = hs.explain_directions(vectors, dictionary, joint=joint, k=k, **options)
            values = {
                "joint_fidelity": said.joint_fidelity,
                "fidelity": said.fidelity,
                "independent": hs.code_coherence(said.indices, said.coefficients, sentences),
                "own": hs.code_coherence(said.indices, said.coefficients, dictionary.atoms),
            }
            kept = {key: row[np.isfinite(row)] for key, row in values.items()}
            found[name, k] = {key: (row.mean(), row.std() / np.sqrt(len(row))) for key, row in kept.items()}
            sys.stderr.write(f"{name}, k = {k}: {found[name, k]}\n")
    return found


def verdict(found):
    """Say, for every k, whether COMP at 0.3 beats NNOMP in independent coherence and top-k in joint fidelity."""
    ours, lines = "COMP, lambda 0.3", []
    for measure_name, other in (("independent", "NNOMP"), ("joint_fidelity", "top-k"), ("fidelity", "top-k")):
        gaps = []
        for k in SIZES:
            (a, a_error), (b, b_error) = found[ours, k][measure_name], found[other, k][measure_name]
            gaps.append(f"{a - b:+.3f} ± {np.hypot(a_error, b_error):.3f} at k = {k}")
        lines.append(f"* {ours} less {other}, {MEASURES[measure_name]}: {', '.join(gaps)}")
    return lines


def report(options, model, dictionary, vectors, found):
    lines = [
        "# Fidelity and coherence against k",
        "",
        f"`python benchmarks/paper/figure3.py`; model `{model.name}` with weights {model.weights_hash[:12]},",
        f"dictionary `{dictionary.source}` of {len(dictionary):,} concepts, layers {options.layers},",
        f"{len(vectors):,} write directions, both poles. Means ± standard errors over directions; coherence over the",
        "concepts with a positive coefficient.",
        "",
        "| method | k | " + " | ".join(MEASURES.values()) + " |",
        "| --- | ---: |" + " ---: |" * len(MEASURES),
    ]
    for (name, k), values in found.items():
        cells = (f"{mean:.3f} ± {error:.3f}" for mean, error in (values[key] for key in MEASURES))
        lines.append(f"| {name} | {k} | {' | '.join(cells)} |")
    RESULTS.write_text("\n".join([*lines, "", *verdict(found)]) + "\n", encoding="utf-8")


def draw(found):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(MEASURES) + 1.6, 3.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, len(MEASURES)), MEASURES.items(), strict=True):
        for name in METHODS:
            means = [found[name, k][key][0] for k in SIZES]
            axes.plot(SIZES, means, marker="o", linestyle="-" if name.startswith("COMP") else "--", label=name)
        axes.set(title=title, xlabel="k", xscale="log")
        axes.set_xticks(SIZES, SIZES)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="demo")
    add("--pretrained")
    add("--dictionary", default="demo")
    add("--layers", default="-4,-3,-2,-1")
    options = parser.parse_args()
    model = hs.load_model(options.model, pretrained=options.pretrained)
    dictionary = hs.load_dictionary(options.dictionary, model=model)
    vectors = directions(model, options.layers)
    found = measure(model, dictionary, vectors, hs.encode_sentences(dictionary.texts))
    report(options, model, dictionary, vectors, found)
    draw(found)


if __name__ == "__main__":
    main()
