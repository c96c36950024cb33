"""The page of all studies, from their results."""

from __future__ import annotations

from pathlib import Path

from visiontok.base.files import contents, replacing
from visiontok.base.markdown import code, escaped
from visiontok.evaluation.results.report import Table
from visiontok.studies.result import StudyResult
from visiontok.studies.tables import study_tables

_INTRODUCTION = """# Studies

A study tests a claim of a paper at small scale. It trains and evaluates several tokenizers, generators or ways of sampling ("arms") with several
seeds, and compares the results. `visiontok study` writes everything below the line from the files in `eval/results/studies/`. Results of small
models on small images neither prove nor refute a claim about large ones.

```bash
visiontok study
```

lists the studies. A study is run by name. Complete runs in the folder of runs are reused, and stopped runs resume from their checkpoints:

```bash long
visiontok study latent-perturbation --page docs/studies.md
visiontok study latent-perturbation --seeds 5,6 -o my-results
```

A study is a YAML file: the bundled ones are in `eval/suites/studies/`, and `visiontok study my.yaml` runs any other. An arm is a tokenizer that is
trained (`recipe`) or quantized after training (`quantizes`), a generator on the tokens of such an arm (`tokens_of`), or another way to sample from
one (`generator_of`); `generator` trains the same one on the tokens of every tokenizer. Seeds, data, recipes and machine determine every value; on
another machine the last digits differ.
"""


def studies_page(results: Path) -> str:
    """The page of all results in a folder, by name."""
    found = [StudyResult.load(path) for path in contents(results) if path.suffix == ".json"]
    return "\n---\n\n".join([_INTRODUCTION, *("\n".join(_study(result)) + "\n" for result in found)])


def write_page(results: Path, page: Path) -> None:
    """Write `studies_page` atomically."""
    with replacing(page) as temporary:
        temporary.write_text(studies_page(results), encoding="utf-8")


def _study(result: StudyResult) -> list[str]:
    environment = result.runs[0].environment
    versions = ", ".join(f"{name} {environment.versions[name]}" for name in ("python", "torch", "visiontok"))
    seeds = ", ".join(map(str, result.study.seeds))
    facts = f"{code(result.name)}: {len(result.runs)} runs, seeds {seeds}; {escaped(versions)}, {escaped(environment.hardware['processor'])}."
    title = escaped(result.study.title)
    lines = [f"## {title}", "", escaped(result.study.question), "", escaped(result.study.setting), "", facts]
    if result.study.conclusion:
        lines += ["", f"### {title}: Conclusion", "", escaped(result.study.conclusion)]
    for table in study_tables(result):
        lines += ["", f"### {title}: {escaped(table.title)}", "", *_markdown(table), "", escaped(table.note)]
    return lines


def _markdown(table: Table) -> list[str]:
    rows = [table.columns, ["---"] * len(table.columns), *(row.cells for row in table.rows)]
    return [f"| {' | '.join(map(escaped, row))} |" for row in rows]
