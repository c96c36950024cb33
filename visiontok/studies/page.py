"""The page of all studies, written from their results."""

from __future__ import annotations

from pathlib import Path

from visiontok.base.files import replacing
from visiontok.evaluation.results.report import Table
from visiontok.studies.result import StudyResult
from visiontok.studies.tables import study_tables

_INTRODUCTION = """# Studies

Claims of papers, held against measurement at small scale. A study trains several tokenizers ("arms") with several seeds, measures them, and
where the claim is about generators trains one on the tokens of each; then it compares. Everything below the line is written by
`visiontok study` from the files in `eval/results/studies/`, whatever they say. Small models on small pictures can contradict a paper
without refuting it, and agree without proving it.

```bash
visiontok study
```

lists the studies. One is run by its name; the folder of its runs keeps every training, so that a run that is stopped goes on where it was
and a finished one is not repeated:

```bash long
visiontok study latent-perturbation --page docs/studies.md
visiontok study latent-perturbation --seeds 5,6 -o my-results
```

A study is a YAML file (those that come along lie in `eval/suites/studies/`), and `visiontok study my.yaml` runs your own. Seed, data, recipes
and machine determine every number; on another machine the last digits differ.
"""


def studies_page(results: Path) -> str:
    """The page over all results in a folder, by name."""
    found = [StudyResult.load(path) for path in sorted(results.glob("*.json"))]
    return "\n---\n\n".join([_INTRODUCTION, *("\n".join(_study(result)) + "\n" for result in found)])


def write_page(results: Path, page: Path) -> None:
    """Write `studies_page`, whole or not at all."""
    with replacing(page) as temporary:
        temporary.write_text(studies_page(results), encoding="utf-8")


def _study(result: StudyResult) -> list[str]:
    environment = result.runs[0].environment
    versions = ", ".join(f"{name} {environment.versions[name]}" for name in ("python", "torch", "visiontok"))
    seeds = ", ".join(map(str, result.study.seeds))
    facts = f"`{result.name}`: {len(result.runs)} runs, seeds {seeds}; {versions}, {environment.hardware['processor']}."
    lines = [f"## {result.study.title}", "", result.study.question.strip(), "", result.study.setting.strip(), "", facts]
    for table in study_tables(result):
        lines += ["", f"### {result.study.title}: {table.title}", "", *_markdown(table), "", table.note]
    return lines


def _markdown(table: Table) -> list[str]:
    rows = [table.columns, ["---"] * len(table.columns), *(row.cells for row in table.rows)]
    return [f"| {' | '.join(row)} |" for row in rows]
