"""Pages of the documentation that are made from code: tasks, models, metrics, notes, commands, peers. A hook of mkdocs.

mkdocs build --strict                makes them, and the rest of the site
python -m tools.site README.md       writes the table of published results in README.md anew
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocabench.core.formatting import escape as escape_for_forges
from cocabench.core.formatting import table
from tools import clip_benchmark

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

    from cocabench.specs.spec import TaskSpec

ROOT = Path(__file__).parents[1]
SHOWN = (
    "coca_ViT-L-14:laion2b_s13b_b90k",
    "ViT-L-14:laion2b_s32b_b82k",
    "coca_ViT-B-32:laion2b_s13b_b90k",
    "ViT-B-32:laion2b_s34b_b79k",
    "coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k",
)
"""The CoCas with published weights, each above the CLIP of its size and data; last, fine-tuned for captions."""
COLUMNS = {
    "ImageNet": ("imagenet1k", "acc1"),
    "Flickr30k t2i R@5": ("flickr30k", "t2i_recall@5"),
    "i2t R@5": ("flickr30k", "i2t_recall@5"),
    "COCO t2i R@5": ("mscoco_captions", "t2i_recall@5"),
    "i2t R@5 ": ("mscoco_captions", "i2t_recall@5"),
}
START, END = "<!-- published: python -m tools.site README.md -->\n", "<!-- end of the table -->"


def escape(text: str) -> str:
    """Return text escaped for mkdocs' Markdown, which knows no strikethrough and so no escaped ~."""
    return escape_for_forges(text).replace("\\~", "~")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the site's; mkdocs calls this."""
    from mkdocs.structure.files import File

    for name, make in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    return files


def tasks() -> str:
    """Return the page of all tasks, by kind: what, primary metric, counts, where the data are from, licence; groups."""
    from cocabench.kinds import every
    from cocabench.specs.registry import all_tasks, families

    found = [task.spec for task in all_tasks().values()]
    text = [
        f"# Tasks\n\n`--tasks` takes these {len(found)} names, their groups, and your own files "
        "([your own task](../guides/own-task.md)). The licence is that of the data, as their authors state it: check "
        "it before you use them.\n"
    ]
    for kind in every():
        own = families(spec for spec in found if spec.evaluator == kind.name)
        rows = [
            [f"`{name}`", f"{escape(about)} Primary metric: `{specs[0].primary}`.", *_counts(specs), *_where(specs[0])]
            for name, about, specs in own
        ]
        header = ["task", "what", "images", "texts, classes, items", "where to get the data", "their licence"]
        text.append(f"## {kind.title()}\n\n{_summary(kind)}\n\n{table(header, rows, left=6)}")
    groups = sorted({group for spec in found for group in spec.groups})
    rows = [
        [f"`{g}`", ", ".join(f"`{one.name}`" for one in families(s for s in found if g in s.groups))] for g in groups
    ]
    return "\n".join([*text, "## Groups\n", table(["group", "its tasks"], rows, left=2)])


def _where(spec: TaskSpec) -> tuple[str, str]:
    """Return where a task's data are from, and their licence."""
    return escape(str(spec.data.get("source") or "comes with cocabench")), escape(spec.licence)


def _counts(specs: Sequence[TaskSpec]) -> tuple[str, str]:
    """Return how many images, and what else, the files of a task, or of the languages of a set, expect."""
    found: dict[str, list[int]] = {}
    for spec in specs:
        for key, value in spec.expect.model_dump().items():
            if isinstance(value, int):
                found.setdefault(key, []).append(value)
    texts = {key: _range(values) for key, values in found.items()}
    return texts.pop("images", ""), ", ".join(f"{text} {key}" for key, text in texts.items())


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _summary(thing: object) -> str:
    return escape((thing.__doc__ or "").strip().partition("\n")[0])


def metrics() -> str:
    """Return the page of all metrics, by kind of task."""
    from cocabench.kinds import every

    text = ["# Metrics\n\nFractions and caption scores are printed times 100. What an interval covers: "]
    text[0] += "[how numbers are made](../numbers.md).\n"
    for kind in every():
        rows = [
            [f"`{m.name}`", m.unit, "higher" if m.higher_is_better else "lower", escape(m.summary)]
            for m in kind.listed()
        ]
        text.append(f"## {kind.title()}\n\n{table(['metric', 'unit', 'better', 'definition'], rows, left=4)}")
    return "\n".join(text)


def notes() -> str:
    """Return the page of all notes: code, meaning, what to do."""
    from cocabench.core.notes import CODES

    rows = [[f"`{code}`", escape(one.meaning), escape(one.advice)] for code, one in CODES.items()]
    return (
        "# Notes\n\nA note says what you must know beside a number. Records, `--json` and reports name its code, which "
        "stays the same between versions; its text may change.\n\n"
        + table(["code", "meaning", "what to do"], rows, left=3)
    )


def models() -> str:
    """Return the page of models that are known by name, with parameters, GFLOPs and published ImageNet accuracy."""
    from cocabench.demo import MODELS
    from cocabench.models.open_clip.blueprint import default_tag
    from cocabench.models.open_clip.published import architectures, tags
    from cocabench.results import published
    from cocabench.specs.aliases import CAPTIONERS

    totals = published.profile().query("tower == 'total'")
    sizes = {(row["model"], row["quantity"]): row["value"] for row in totals.to_dict("records")}
    accuracy = published.read().query("task == 'imagenet1k' and metric == 'acc1'").groupby("spec")["value"].first()
    rows = [[f"`demo/{name}`", "", "", "", "", "comes with cocabench"] for name in MODELS]
    for name in architectures():
        own = tags(name)
        default = default_tag(name, own)
        numbers = [sizes.get((name, quantity)) for quantity in ("params_millions", "gflops")]
        best = accuracy.get(f"{name}:{default}")
        rows.append(
            [f"`{name}`", f"`{default}`" if default else "none: name a file"]
            + ["" if n is None else f"{n:.0f}" for n in numbers]
            + ["" if best is None else f"{100 * best:.1f}", " ".join(f"`{tag}`" for tag in own)]
        )
    rows += [[f"`{name}`", "", "", "", "", "Apple's captioners, on the hub"] for name in CAPTIONERS]
    header = ["model", "default tag", "million parameters", "GFLOPs", "published ImageNet accuracy", "tags"]
    return (
        f"# Models by name\n\n{len(rows)} names that `--model` takes as they are, or with one of their tags "
        "(`NAME:TAG`); [what else it takes](../guides/own-checkpoint.md). GFLOPs are those of one image and one text; "
        "the accuracy is that of the default tag, in percent, as open_clip or CLIP_benchmark published it; cocabench "
        "has not measured it.\n\n" + table(header, rows, left=2)
    )


def commands() -> str:
    """Return the page of all commands: what each does, an example, its options."""
    import typer

    from cocabench.cli import app

    text = [
        "# Commands\n\nThe same texts as `cocabench COMMAND --help`. `--json` prints machine-readable output; results "
        "go to stdout, everything else to stderr. [Exit codes](../exit-codes.md).\n"
    ]
    text += (_command(words, command) for words, command in every_command(typer.main.get_command(app)) if words)
    return "\n".join(text)


def every_command(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (the words that call it, the command) for a group, its commands and theirs."""
    yield words, command
    for name, one in getattr(command, "commands", {}).items():
        yield from every_command(one, (*words, name))


def _command(words: Sequence[str], command: Any) -> str:
    said, _, example = (command.help or "").replace("\\[", "[").partition("Example: ")
    rows = []
    for param in command.params:
        if param.name == "help":
            continue
        flags = [*getattr(param, "opts", ()), *getattr(param, "secondary_opts", ())]
        is_option = flags[0].startswith("-")
        name = " ".join(f"`{flag}`" for flag in flags) if is_option else ""
        shown = getattr(param, "show_default", False)
        default = shown if isinstance(shown, str) else _default(param.default)
        what = f"{name} `{param.metavar}`" if param.metavar else name or f"`{param.name.upper()}`"
        rows.append([what, escape((param.help or "").replace("\\[", "[")), escape(default)])
    options = table(["option", "what", "default"], rows, left=3) if rows else ""
    shown = f"```bash\n{' '.join(example.split())}\n```\n" if example else ""
    return f"## {' '.join(words)}\n\n{escape(said)}\n\n{shown}\n{options}"


def _default(value: Any) -> str:
    return "" if value in (None, False, "", ()) or callable(value) else str(getattr(value, "value", value))


PAGES: Mapping[str, Callable[[], str]] = {
    "tasks": tasks,
    "models": models,
    "metrics": metrics,
    "notes": notes,
    "commands": commands,
    "clip_benchmark": clip_benchmark.page,
}


def published_table(specs: Iterable[str] = SHOWN) -> str:
    """Return a Markdown table of published results in percent; a number that was not published is a dash."""
    from cocabench.results import published

    rows = []
    for spec in specs:
        own = published.rows(spec).query("source == 'open_clip'").groupby(["task", "metric"])["value"].first()
        values = [own.get(key) for key in COLUMNS.values()]
        rows.append([f"`{spec}`", *("–" if value is None else f"{100 * value:.1f}" for value in values)])
    return table(["model", *COLUMNS], rows)


def with_table(text: str) -> str:
    """Return README's text with the table of published results made anew."""
    before, _, rest = text.partition(START)
    return f"{before}{START}{published_table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    readme = ROOT / sys.argv[1]
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
