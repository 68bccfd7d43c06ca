r"""Tables in LaTeX: booktabs, everything escaped. ``\usepackage{booktabs}`` is all they need."""

from __future__ import annotations

import re
import unicodedata

from cocabench.report.grid import Entry, Table, notes_of

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "▲": r"$\uparrow$",
    "▼": r"$\downarrow$",
    "≥": r"$\geq$",
    "“": "``",
    "”": "''",
    "’": "'",
    "·": r"$\cdot$",
}
PRINTABLE = {chr(code) for code in range(32, 127)} | set(SPECIAL)


def escape(text: str) -> str:
    """Return text that LaTeX prints as it is. Letters outside ASCII lose what needs packages: é is e, 犬 is ?."""
    plain = "".join(letter if letter in SPECIAL else _ascii(letter) for letter in " ".join(text.split()))
    return re.sub(
        r"[^A-Za-z0-9 ]", lambda found: SPECIAL.get(found[0], found[0] if found[0] in PRINTABLE else "?"), plain
    )


def _ascii(letter: str) -> str:
    if letter.isascii():
        return letter
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or "?"


def to_latex(table: Table) -> str:
    """Return a table environment; notes stand below it, their numbers beside the entries."""
    notes = notes_of([table])
    align = "".join("r" if numeric else "l" for numeric in table.numeric())
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(table.caption)}}}",
        rf"\label{{tab:{escape_label(table.name)}}}",
    ]
    lines += [
        rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"\toprule",
        _line([escape(c) for c in table.columns]),
        r"\midrule",
    ]
    for i, (part, found) in enumerate(table.parts()):
        if i:
            lines.append(r"\midrule")
        if part and len(table.parts()) > 1:
            lines.append(rf"\multicolumn{{{len(table.columns)}}}{{@{{}}l}}{{\emph{{{escape(part)}}}}} \\")
        lines += [_line([_entry(entry, notes) for entry in line.entries]) for line in found]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {escape(table.about)}"] if table.about else []
    lines += [rf"\par\footnotesize $^{{{i}}}$ {escape(note)}" for i, note in enumerate(notes, 1)]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def escape_label(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _entry(entry: Entry, notes: list[str]) -> str:
    text = escape(entry.text)
    text = rf"\textbf{{{text}}}" if entry.best else text
    marks = ",".join(str(notes.index(note) + 1) for note in dict.fromkeys(entry.notes))
    return text + (f" {escape(entry.spread)}" if entry.spread else "") + (f"$^{{{marks}}}$" if marks else "")


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
