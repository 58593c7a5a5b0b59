"""The page that a model carries: what it is, what it saw, what it is good for."""

from typing import Any

from .model import Model


def card(name: str, model: Model, about: dict[str, Any]) -> str:
    """Return the model card, in Markdown.

    Parameters
    ----------
    name : str
    model : Model
    about : dict
        As `generative.production` keeps it: training, data, summary, provenance.
    """
    summary, provenance = about["summary"], about["provenance"]
    lines = [
        f"# {name}",
        "",
        f"{_first_line(model)} {summary['parameters']:,} parameters.",
        "",
        "## Data",
        "",
        f"- from `{provenance.get('data_file', 'arrays in memory')}` "
        f"(digest `{about['data'][:16]}`)",
        *(
            f"- {part}: {n:,} {model.representation.noun}"
            for part, n in summary["events"].items()
        ),
        f"- left out, {model.representation.flaw}: {summary['left_out']:,}",
        "",
        "## How it sees them",
        "",
        *_listed({"kind": model.representation.kind, **model.representation.describe()}),
        "",
        "## Options",
        "",
        *_listed(model.options.describe()),
        "",
        "## Training",
        "",
        *_listed(about["training"]),
        f"- epochs run: {summary['epochs']}, the best {summary['best_epoch']}",
        f"- {summary['seconds']:.0f} s, {summary['samples_per_second']:,.0f} samples a second",
        "",
        "## Losses",
        "",
        *_losses(summary["losses"]),
        "",
        "The test part was not seen in training. `metrics.csv` has the losses of every epoch;",
        "`coulex score` judges draws against the truth, simple baselines beside them.",
        "",
        "## Limits",
        "",
        model.representation.limits,
        "",
        "## Provenance",
        "",
        *_listed(provenance),
        "",
    ]
    return "\n".join(lines)


def _first_line(model: Model) -> str:
    return (type(model).__doc__ or "").strip().splitlines()[0]


def _listed(values: dict[str, Any]) -> list[str]:
    return [f"- {key}: {_short(value)}" for key, value in values.items()]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _losses(losses: dict[str, dict[str, float]]) -> list[str]:
    names = list(losses["train"])
    rule = "|".join(["---"] * (len(names) + 1))
    rows = ["| part | " + " | ".join(names) + " |", f"|{rule}|"]
    for part, values in losses.items():
        cells = [f"{values[name]:.6g}" if name in values else "-" for name in names]
        rows.append(f"| {part} | " + " | ".join(cells) + " |")
    return rows
