"""Metrics of answers as tables, of one run and of several side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from annotation.source import Source
from pipeline.errors import DataError
from pipeline.evaluate.answers import Accuracy
from pipeline.evaluate.explanations import claimed_columns

METRICS = "metrics.json"

Metrics = Mapping[str, Any]
"""The object that `holmes eval answers --json` prints."""


def answer_table(metrics: Metrics) -> Iterator[str]:
    """Yield the lines of a table of one run, for people."""
    yield (
        f"{metrics['num']} answers, {metrics['empty']} empty; {metrics['missing']} references without one; "
        f"{len(metrics['contradicted'])} references contradict their label"
    )
    judgement = metrics["judgement"]
    if judgement is not None:
        yield ""
        yield f"{'judgement':<24}{'answers':>8}{'right':>8}{'unreadable':>12}{'accuracy':>10}   95% interval"
        yield _accuracy_line("all", judgement["overall"])
        for label, accuracy in judgement["per_class"].items():
            yield _accuracy_line(label, accuracy)
        yield f"{'always the larger class':<24}{_number(judgement['larger_class_accuracy']):>38}"
        yield (
            f"balanced accuracy {_number(judgement['balanced_accuracy'])}; abnormal: "
            f"precision {_number(judgement['precision'])}, recall {_number(judgement['recall'])}, "
            f"F1 {_number(judgement['f1'])}"
        )
    if metrics["explanation"] is not None:
        yield from explanation_lines(metrics["explanation"])
    if metrics["probes"] is not None:
        yield from probe_lines(metrics["probes"])
    if any(group["text"] for group in metrics["groups"]):
        yield ""
        yield f"{'texts':<24}{'answers':>8}{'judged':>8}" + "".join(f"{title:>9}" for _, title in _TEXT_COLUMNS)
    for group in metrics["groups"]:
        text = group["text"]
        if text is not None:
            name = group["level"] if group["task"] is None else f"{group['level']}, {group['task']}"
            right = group["judgement"] and group["judgement"]["overall"]["accuracy"]
            yield f"{name:<24}{group['num']:>8}{_number(right, 3):>8}{_text_numbers(text)}"
            if group["text_by_chance"] is not None:
                yield f"{_BY_CHANCE:<40}{_text_numbers(group['text_by_chance'])}"
    if (variant := _meteor_of(metrics)) is not None:
        yield _METEOR_NOTES[variant]
    if metrics["judge"] is not None:
        yield ""
        yield judge_line(metrics["judge"])


def explanation_lines(explanation: Metrics) -> Iterator[str]:
    """Yield how much of what answers tell is true, which class is taken for which, and the worst answers."""
    rows = {title: explanation[key] for title, key in _EXPLANATION_ROWS}
    rows |= {f"  true, {label}": share for label, share in explanation["per_class"].items()}
    yield from share_table("explanations", rows)
    if explanation["not_judged"]:
        yield f"{explanation['not_judged']} answers about classes whose words are not known: only verdicts are judged"
    confusion = explanation["confusion"]
    columns = claimed_columns(confusion)
    yield ""
    yield f"{'what happens / what is told':<28}" + "".join(f"{name[:12]:>13}" for name in columns)
    for label, counts in confusion.items():
        yield f"{label[:27]:<28}" + "".join(f"{counts.get(name, 0):>13}" for name in columns)
    if explanation["worst"]:
        yield ""
        yield "the worst answers"
    for one in explanation["worst"]:
        yield f"{one['id']}: {one['label']}; {'; '.join(one['faults'])}"
        yield textwrap.fill(one["answer"] or "(empty)", _WIDTH, initial_indent="  ", subsequent_indent="  ")


def probe_lines(probes: Metrics) -> Iterator[str]:
    """Yield how far a model tells events that happen from those that do not."""
    rows = {title: probes[key] for title, key in _PROBE_ROWS}
    rows |= {f"  both right, {label}": share for label, share in probes["per_class"].items()}
    yield from share_table("paired probes", rows)


def share_table(title: str, rows: Mapping[str, Metrics | None], width: int = 30) -> Iterator[str]:
    """Yield a table of shares with their intervals, an empty line before it."""
    yield ""
    yield f"{title:<{width}}{'of':>6}{'count':>8}{'share':>10}   95% interval"
    for name, share in rows.items():
        yield _share_line(name, share, width)


def _share_line(title: str, share: Metrics | None, width: int) -> str:
    """Say a share with its interval in a line of a table; None is a dash."""
    if share is None:
        return f"{title:<{width}}{'-':>6}"
    return (
        f"{title:<{width}}{share['num']:>6}{share['right']:>8}{share['share']:>10.4f}"
        f"   {share['low']:.4f} to {share['high']:.4f}"
    )


def judge_line(judge: Metrics) -> str:
    """Say in a line what a language model thinks of the answers."""
    means = ", ".join(f"{name} {_number(value, 2)}" for name, value in judge["means"].items())
    money = "" if judge["cost"] is None else f", cost {judge['cost']:,.4f}"
    return (
        f"{judge['model']} scored {judge['num']} answers from 0 to 5: {means}; {judge['failed']} failed; "
        f"{judge['requests']} requests{money}"
    )


def read_runs(named: Sequence[str]) -> dict[str, Metrics]:
    """Read runs to compare, each `NAME=FILE`, the file a metrics.json or what --json printed.

    Raises:
        DataError: a file is none of that, or the runs were not measured on the same references in the same way.
    """
    runs: dict[str, Metrics] = {}
    for entry in named:
        name, _, file = entry.rpartition("=")
        path = Path(file) / METRICS if Path(file).is_dir() else Path(file)
        metrics = Source(path).json
        if not isinstance(metrics, dict) or not {"references_hash", "groups", "judgement"} <= metrics.keys():
            raise DataError(f"{path}: not the metrics of `holmes eval answers`")
        runs[name or path.parent.name or path.stem] = metrics
    if len(runs) < len(named):
        raise DataError(f"two runs have one name: {', '.join(named)}; name them: NAME=FILE")
    for what, value_of in (("references", itemgetter("references_hash")), ("METEOR", _meteor_of)):
        # A run without text metrics has no METEOR, and so none that differs.
        found = {name: value for name, run in runs.items() if (value := value_of(run)) is not None}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{name}: {value}" for name, value in found.items())
            raise DataError(f"the runs cannot be compared, their {what} differ: {told}")
    return runs


def compare_table(runs: Mapping[str, Metrics]) -> Iterator[str]:
    """Yield tables with a row for every run: judgement accuracy, then texts level by level; by class, with a column."""
    width = max(24, *(len(name) + 2 for name in runs))
    yield f"{'judgement':<{width}}{'answers':>8}{'right':>8}{'unreadable':>12}{'accuracy':>10}   95% interval"
    for name, run in runs.items():
        if run["judgement"] is None:
            yield f"{name:<{width}}{'no verdicts asked for':>8}"
        else:
            yield _accuracy_line(name, run["judgement"]["overall"], width)
    by_class = {name: run["judgement"]["per_class"] for name, run in runs.items() if run["judgement"] is not None}
    if by_class:
        yield ""
        widths = {name: max(10, len(name) + 2) for name in by_class}
        yield f"{'accuracy by class':<{width}}{'answers':>8}" + "".join(f"{n:>{w}}" for n, w in widths.items())
        # Runs on the same references have the same classes.
        for label, first in next(iter(by_class.values())).items():
            cells = (f"{_number(by_class[name][label]['accuracy']):>{w}}" for name, w in widths.items())
            yield f"{label:<{width}}{first['num']:>8}{''.join(cells)}"
    yield from _compared_shares("true explanations", runs, "explanation", "explanations", width)
    yield from _compared_shares("paired probes, both right", runs, "probes", "pairs", width)
    levels = dict.fromkeys(
        group["level"] for run in runs.values() for group in run["groups"] if group["text"] is not None
    )
    for level in levels:
        yield ""
        yield f"{f'texts, {level}':<{width}}{'answers':>8}" + "".join(f"{title:>9}" for _, title in _TEXT_COLUMNS)
        by_chance = None
        for name, run in runs.items():
            # The first group of a level is all of it.
            group = next((group for group in run["groups"] if group["level"] == level), None)
            if group is not None and group["text"] is not None:
                yield f"{name:<{width}}{group['num']:>8}{_text_numbers(group['text'])}"
                by_chance = by_chance or group["text_by_chance"]
        if by_chance is not None:
            yield f"{_BY_CHANCE:<{width + 8}}{_text_numbers(by_chance)}"
    if variants := {found for run in runs.values() if (found := _meteor_of(run)) is not None}:
        yield _METEOR_NOTES[variants.pop()]
    graded = {name: run["judge"] for name, run in runs.items() if run.get("judge")}
    if graded:
        yield ""
        yield from (f"{name}: {judge_line(judge)}" for name, judge in graded.items())


def _compared_shares(title: str, runs: Mapping[str, Metrics], part: str, key: str, width: int) -> Iterator[str]:
    """Yield a table of one share of the runs that have it: older ones were not measured so."""
    measured = {name: run[part] for name, run in runs.items() if run.get(part)}
    if measured:
        yield from share_table(title, {name: found[key] for name, found in measured.items()}, width)


_TEXT_COLUMNS = (
    ("bleu", "BLEU"), ("bleu_4", "BLEU-4"), ("cider", "CIDEr"), ("meteor", "METEOR"), ("rouge_l", "ROUGE-L"),
)  # fmt: skip
_EXPLANATION_ROWS = (
    ("true explanations", "explanations"),
    ("right verdicts", "verdicts"),
    ("right events", "events"),
    ("contradictions", "contradictions"),
    ("claims of unseen events", "unseen_claims"),
    ("events told of calm videos", "invented"),
)
_PROBE_ROWS = (
    ("both right, of events", "pairs"),
    ("event that happens is seen", "happening"),
    ("other event is denied", "absent"),
    ("it is the less likely one", "ranked"),
    ("both denied, of calm clips", "calm"),
)
_WIDTH = 110
_BY_CHANCE = "  right answers about others"
_METEOR_NOTES = {
    "stem": "BLEU: sum of BLEU-1 to BLEU-4. METEOR: exact and stem matches, no synonyms (NLTK)",
    "java": "BLEU: sum of BLEU-1 to BLEU-4. METEOR: 1.5 (Java)",
}


def _accuracy_line(name: str, accuracy: Mapping[str, Any], width: int = 24) -> str:
    found = Accuracy(**accuracy)
    return (
        f"{name:<{width}}{found.num:>8}{found.correct:>8}{found.unreadable:>12}{found.accuracy:>10.4f}"
        f"   {found.low:.4f} to {found.high:.4f}"
    )


def _text_numbers(text: Mapping[str, Any]) -> str:
    return "".join(f"{_number(text[key], 3):>9}" for key, _ in _TEXT_COLUMNS)


def _meteor_of(run: Metrics) -> str | None:
    return next((group["text"]["meteor_variant"] for group in run["groups"] if group["text"] is not None), None)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
