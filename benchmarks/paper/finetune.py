"""Fine-tune the demo CLIP for real and compare: does tuning reweight a stable basis, do its concepts name the task?

    pip install peft matplotlib
    python benchmarks/paper/finetune.py --images FOLDER     # the pictures of tools/demo_model

Two small tasks of the demo world, each by a full fine-tune of the vision tower and by LoRA on its attention: `count`
(one, two or three things) and `birds` (waterbird or landbird, on sceneries that say nothing about it, where the demo
model has learnt in training that they do). Class texts stay as the text tower embeds them. Writes
benchmarks/results/finetune.md and docs/finetune.png.
"""

import argparse
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.nn.functional import cross_entropy, normalize

import headscan as hs

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "demo_model"))

import world  # noqa: E402
from towers import normalised  # noqa: E402
from words import COUNT_WORDS, MATCHING_SCENERIES, SCENERIES, load_objects  # noqa: E402

RESULTS, FIGURE = ROOT / "benchmarks" / "results" / "finetune.md", ROOT / "docs" / "finetune.png"
TOP = 16  # directions of the change whose words are counted, both poles
RATES = {"full": 2e-4, "lora": 2e-3}


@dataclass(frozen=True)
class Task:
    """A classification of pictures: class texts, the factor's values in their order, words that name the task."""

    texts: tuple
    factor: str
    values: tuple
    objects: tuple
    words: dict  # what a concept may name -> its words


def tasks():
    birds = tuple(n for n, entry in enumerate(load_objects()) if entry.special_kind in MATCHING_SCENERIES)
    names = {word for n in birds for word in (*load_objects()[n].names, *load_objects()[n].kinds)}
    numbers = {word for words in COUNT_WORDS.values() for word in words if word != "a"}
    places = {word for words in SCENERIES.values() for word in words}
    kinds = tuple(world.names("special_kind").index(kind) for kind in MATCHING_SCENERIES)
    count = Task(("a single thing", "two things", "three things"), "count", (1, 2, 3), (), {"number": numbers})
    bird = Task(tuple(MATCHING_SCENERIES), "special_kind", kinds, birds, {"bird": names, "scenery": places})
    return {"count": count, "birds": bird}


def pictures(task, seed, number, split):
    """Pictures whose scenery says nothing, and their classes."""
    drawn, factors = world.sample(seed, number, split=split, matching=None, objects=task.objects or None)
    classes = np.searchsorted(np.sort(task.values), getattr(factors, task.factor))
    return normalised(drawn), torch.from_numpy(np.argsort(task.values)[classes])


def accuracy(module, task, texts, number):
    images, classes = pictures(task, 9_100_001, number, "test")
    with torch.inference_mode():
        made = torch.cat([module.encode_image(part, normalize=True) for part in images.split(250)])
    return float(((made @ texts.T).argmax(1) == classes).float().mean())


def tune(module, images, classes, texts, *, how, steps, batch, seed):
    """Tune the vision tower on pictures against fixed class texts; returns the module to compare, or a peft model."""
    import peft

    torch.manual_seed(seed)
    for weight in module.parameters():
        weight.requires_grad_(False)
    if how == "lora":
        places = r"visual\.transformer\.resblocks\.\d+\.attn"
        module = peft.get_peft_model(module, peft.LoraConfig(r=4, lora_alpha=8, target_modules=places))
    else:
        module.visual.requires_grad_(True)
    wanted = [weight for weight in module.parameters() if weight.requires_grad]
    update = torch.optim.AdamW(wanted, lr=RATES[how], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(update, RATES[how], total_steps=steps)
    scale = module.logit_scale.exp().detach()
    for _ in range(steps):
        rows = torch.randint(len(images), (batch,))
        made = normalize(module.encode_image(images[rows]), dim=1)
        loss = cross_entropy(scale * made @ texts.T, classes[rows])
        update.zero_grad()
        loss.backward()
        update.step()
        schedule.step()
    return module.eval()


def named(table, words):
    """Mean share of an explanation's weight that lies on concepts naming one of the words."""
    places = [name.removeprefix("concept_") for name in table.columns if re.fullmatch(r"concept_\d+", name)]
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(words))) + r")s?\b")
    weights = np.stack([table[f"coefficient_{place}"] for place in places], axis=1)
    hits = np.stack([table[f"concept_{place}"].str.contains(pattern) for place in places], axis=1)
    return float((weights * hits).sum() / weights.sum())


def random_table(model, dictionary, number=500):
    drawn = np.random.default_rng(0).standard_normal((number, model.width))
    said = hs.explain_directions(drawn - drawn.mean(axis=1, keepdims=True), dictionary, joint=hs.joint_map(model))
    columns = {}
    for place in range(5):
        columns[f"concept_{place}"] = np.array(dictionary.texts, dtype=object)[said.indices[:, place]]
        columns[f"coefficient_{place}"] = said.coefficients[:, place]
    import pandas as pd

    return pd.DataFrame(columns)


def run(options):
    torch.set_num_threads(options.threads)
    base = hs.load_model(options.model)
    dictionary = hs.load_dictionary("demo", model=base)
    scan = hs.scan(base, dictionary, poles="both", significance=0)
    beside = {
        "base's strongest": scan.strongest(2 * TOP),
        "base's all": scan.table(),
        "random": random_table(base, dictionary),
    }
    rows, words, spoken, kept = [], [], [], {}
    for name, task in tasks().items():
        texts = normalize(torch.from_numpy(base.encode_text(list(task.texts))), dim=1)
        images, classes = pictures(task, 5_000_000 + options.seed, options.pictures, "train")
        before = accuracy(base.module, task, texts, options.test)
        for how in RATES:
            start = time.monotonic()
            module = hs.load_model(options.model).module  # its own copy
            made = tune(
                module, images, classes, texts, how=how, steps=options.steps, batch=options.batch, seed=options.seed
            )
            after = accuracy(made, task, texts, options.test)
            other, gap = as_tuned(made, how, base)
            found = hs.compare(base, other, dictionary=dictionary)
            kept[f"{name}, {how}"] = found
            told = found.summary()
            by_chance = (told["reweighted"] + told["mixed"]) / base.rank
            rows.append((name, how, before, after, *told.values(), by_chance, gap, time.monotonic() - start))
            sets = {"change": found.changes.head(2 * TOP), **beside}
            for kind, listed in task.words.items():
                words.append((name, how, kind, *(named(table, listed) for table in sets.values())))
            spoken.append((name, how, found.changes.head(6)))
            sys.stderr.write(f"{rows[-1]}\n{words[-1]}\n")
            report(options, base, rows, words, spoken)  # again after each run: one cut short leaves what it has
    draw(kept)


def as_tuned(made, how, base):
    """Return what to compare with, and how far an adapter's comparison is from its merged model's."""
    if how == "full":
        return hs.load_model(made), 0.0
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        adapter = hs.load_adapter(folder)
    merged = hs.load_model(made.merge_and_unload().eval())
    places, numbers = ["layer", "head"], ["change", "sigma_moved", "reweighted", "mixed", "outside"]
    one, two = (hs.compare(base, tuned).heads.sort_values(places)[numbers].to_numpy() for tuned in (adapter, merged))
    return adapter, float(np.abs(one - two).max())


def report(options, base, rows, words, spoken):
    lines = [
        "# Fine-tuning the demo CLIP, compared head by head",
        "",
        f"`python benchmarks/paper/finetune.py --images FOLDER --steps {options.steps} --pictures {options.pictures} "
        f"--test {options.test}`;",
        f"base `{base.name}` with weights {base.weights_hash[:12]}; {options.pictures:,} training pictures,",
        f"{options.steps} steps of {options.batch}, AdamW, one cycle to {RATES['full']:g} (full) and",
        f"{RATES['lora']:g} (LoRA, r = 4, attention); {options.test:,} test pictures in the held-out style;",
        f"seed {options.seed}; torch {torch.__version__}, open_clip {open_clip.__version__}.",
        "",
        "Shares are of the squared change of all heads' W_VO: along the base's own singular directions (reweighted),",
        "from one of them to another (mixed), beyond their spans (outside). *By chance*: what would be reweighted if",
        "the part inside the spans were turned at random in them, inside / rank. Adapter - merged is the largest",
        "difference between the adapter's comparison and its merged model's.",
        "",
        "| task | tuning | accuracy before | after | relative change | singular values moved | write angle "
        "| read angle | reweighted | mixed | outside | by chance | adapter - merged | seconds |",
        "| --- | --- |" + " ---: |" * 12,
    ]
    for row in rows:
        name, how, before, after, relative, moved, write, read, diagonal, mixed, outside, chance, gap, seconds = row
        difference = f"{gap:.1e}" if how == "lora" else ""
        shares = " | ".join(f"{value:.1%}" for value in (diagonal, mixed, outside, chance))
        moves = f"{relative:.3f} | {moved:.3f} | {write:.2f}° | {read:.2f}°"
        lines.append(
            f"| {name} | {how} | {before:.1%} | {after:.1%} | {moves} | {shares} | {difference} | {seconds:.0f} |"
        )
    lines += [
        "",
        f"Share of the explanations' weight on concepts that name the task: the {TOP} strongest directions of the",
        "change, both poles, beside the base's strongest, all of the base's, and 500 random directions.",
        "",
        "| task | tuning | words | change | base's strongest | base's all | random |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {' | '.join(row[:3])} | {' | '.join(f'{v:.1%}' for v in row[3:])} |" for row in words]
    for name, how, table in spoken:
        lines += ["", f"What the change writes, {name}, {how}: strongest first", ""]
        lines += ["| layer | head | index | pole | sigma | concepts |", "| ---: | ---: | ---: | --- | ---: | --- |"]
        for row in table.itertuples():
            lines.append(
                f"| {row.layer} | {row.head} | {row.index} | {row.pole} | {row.sigma:.3f} | {row.concepts} |"
            )
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(kept):
    """One row of maps a run: relative change, write angle, share reweighted."""
    from matplotlib.figure import Figure

    shown = {"relative": "relative change", "write_angle": "write angle, degrees", "reweighted": "share reweighted"}
    figure = Figure(figsize=(9, 2.4 * len(kept)), layout="constrained")
    for row, (name, found) in zip(figure.subplots(len(kept), len(shown)), kept.items(), strict=True):
        for axes, (column, title) in zip(row, shown.items(), strict=True):
            grid = found.heads.pivot(index="layer", columns="head", values=column)
            drawn = axes.imshow(grid.to_numpy(), aspect="auto", vmin=0)
            axes.set(title=f"{name}: {title}", xlabel="head", ylabel="layer")
            figure.colorbar(drawn, ax=axes)
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", required=True, help="folder of packed pictures")
    add("--model", default="demo")
    for name, value in (
        ("steps", 200),
        ("batch", 64),
        ("pictures", 6000),
        ("test", 2000),
        ("seed", 0),
        ("threads", 2),
    ):
        add(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    import os

    os.environ["HEADSCAN_DEMO_IMAGES"] = options.images
    run(options)


if __name__ == "__main__":
    main()
