"""``lm-eval-attrib``: each command parses its arguments, calls one function of the library and prints what it returns.

Libraries are imported inside the commands: ``--help`` and the commands that read a database start without torch.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .commands import rows
from .errors import ArgumentError, AttribError

if TYPE_CHECKING:
    from .explain.outcome import ExplainReport

FILE = click.Path(path_type=Path)
FORMAT = click.option(
    "--format", "form", type=click.Choice(rows.FORMATS), default="table", show_default=True, help="How rows are printed."
)
ROWS = click.option(
    "--rows",
    "most",
    type=click.IntRange(min=0),
    default=rows.MOST_ROWS,
    show_default=True,
    help="Rows of a table that are printed; 0 for all. CSV and JSON have all.",
)
DATABASE = click.argument("database", type=FILE)
MODEL_ARGS = click.option("--model_args", required=True, help="pretrained=… and any attrib_* argument, as for lm_eval.")
DEVICE = click.option("--device", help="cuda, cuda:1, cpu …; by default a GPU if there is one.")


class Errors(click.Group):
    """A group whose commands report an expected error in one message, without a traceback: exit code 1, or 2 for usage."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ArgumentError as error:
            raise click.UsageError(str(error)) from error
        except AttribError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.strerror or error}: {str(error.filename)[:100]}") from error
        except RecursionError as error:
            raise click.ClickException("a file is nested too deeply to be read") from error


@click.group(cls=Errors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lm-eval-attrib")
def main() -> None:
    """Why a language model got a benchmark question wrong."""


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Evaluate and explain: lm_eval's own command line, under the model attrib-hf unless --model says otherwise."""
    from .plugin import run_lm_eval

    run_lm_eval(arguments)


@main.command()
@click.option("--samples", multiple=True, help="A samples_*.jsonl of --log_samples, or a folder; repeatable.")
@click.option("--conversations", type=FILE, help="Instead: a JSONL of judged conversations, with messages in OpenAI's form.")
@click.option("--judged", help="The field of a conversation that says whether its outcome was right.")
@MODEL_ARGS
@click.option("--db", type=FILE, help="The database to write; the same as attrib_db.")
@click.option("--task", help="The task, where a file's name does not say it.")
@DEVICE
def attribute(
    samples: tuple[str, ...],
    conversations: Path | None,
    judged: str | None,
    model_args: str,
    db: Path | None,
    task: str | None,
    device: str | None,
) -> None:
    """Explain failures that were judged elsewhere, whichever backend answered, under a local model.

    Either samples that an earlier run logged with --log_samples, or conversations with the field that judges them.
    """
    if bool(samples) == (conversations is not None) or (conversations is None) != (judged is None):
        raise ArgumentError("Give either --samples, or --conversations with --judged.")
    common: Any = {"database": db, "task": task, "device": device}
    if conversations is not None and judged is not None:
        from .commands.conversations import attribute_conversations

        _ended(attribute_conversations(conversations, judged, model_args, **common))
        return
    from .commands.attribute import attribute_samples

    _ended(attribute_samples(_expanded(samples), model_args, **common))


@main.command()
@DATABASE
@click.option("--out", type=FILE, default=Path("report"), show_default=True, help="The folder to write.")
@click.option("--run", "run_id", help="Only this run; by default all runs of the file.")
def report(database: Path, out: Path, run_id: str | None) -> None:
    """Write the pages: an index, a page a task, a page a failure. They open without a network."""
    from .reports.html import write_report

    click.echo(write_report(database, out, run_id=run_id))


@main.command()
@DATABASE
@click.argument("text", metavar="SQL", required=False)
@FORMAT
@ROWS
def sql(database: Path, text: str | None, form: rows.Format, most: int) -> None:
    """Run one SQL query; without SQL, list the views. The file is opened read-only, and SQL reaches nothing outside it."""
    from .store.database import Store

    with Store.open(database) as store:
        found = store.views() if text is None else store.sql(text)
        rows.print_rows(*rows.of(found), form, rows.WIDTH if text else 120, most)


@main.command()
@DATABASE
@click.argument("name", required=False)
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of the query; repeatable.")
@FORMAT
@ROWS
def query(database: Path, name: str | None, given: tuple[str, ...], form: rows.Format, most: int) -> None:
    """Run a named query, the same that the pages use. Without NAME, list them with their parameters."""
    from .reports import queries
    from .store.database import Store

    if name is None:
        listed = [(one.name, one.summary, ", ".join(one.parameters)) for one in queries.named_queries()]
        rows.print_rows(("name", "answers", "parameters"), listed, form, width=120)
        return
    with Store.open(database) as store:
        rows.print_rows(*rows.of(queries.run_query(store, name, **_parameters(given))), form, most=most)


@main.command()
@click.argument("database", type=FILE, required=False)
@click.option("--run", "run_id", help="The run; by default the file's only run.")
@click.option(
    "--samples", multiple=True, help="Instead of a database, samples_*.jsonl of --log_samples; no weights are loaded."
)
@click.option("--task", help="The samples' task, where a file's name does not say it.")
@click.option("--include_path", type=FILE, help="A folder with the samples' task definitions, as for lm_eval.")
@FORMAT
def ledger(
    database: Path | None,
    run_id: str | None,
    samples: tuple[str, ...],
    task: str | None,
    include_path: Path | None,
    form: rows.Format,
) -> None:
    """Is it the model: the score, what the harness lost of it (and why), and what to do."""
    from .commands import ledger as ledgers

    if (database is None) == (not samples):
        raise ArgumentError("ledger takes one of a DATABASE and --samples FILES.")
    problems: dict[str, str] = {}
    if database is not None:
        found = ledgers.stored_ledger(database, run_id)
    else:
        found, problems = ledgers.samples_ledger(_expanded(samples), task, include_path)
    if form == "table":
        click.echo(ledgers.ledger_text(found, problems))
    else:
        rows.print_rows(ledgers.FIELDS, [ledgers.values(row) for row in found], form)


@main.command()
@DATABASE
@click.argument("failure_id")
@click.option("--reproduce", is_flag=True, help="Instead: the lm_eval command that makes this one failure again.")
@click.option("--json", "as_json", is_flag=True, help="Instead: everything that is stored of it, as JSON on one line.")
def show(database: Path, failure_id: str, reproduce: bool, as_json: bool) -> None:
    """Print one failure: pair, top tokens, the label and the sentence that explains it. The beginning of an id is enough."""
    from .commands.reproduce import reproduction
    from .commands.show import failure_text
    from .reports.export import failure_json
    from .store.database import Store

    if reproduce and as_json:
        raise ArgumentError("show takes one of --reproduce and --json.")
    told = reproduction if reproduce else failure_json if as_json else failure_text
    with Store.open(database) as store:
        click.echo(told(store, failure_id))


@main.command()
@click.argument("model")
@click.option("--tokens", type=click.IntRange(min=1), default=2048, show_default=True, help="Length of the prompt to plan for.")
@click.option("--rule", default="attnlrp", show_default=True, help="attnlrp or cplrp.")
@click.option("--dtype", default="auto", show_default=True, help="bfloat16, float32 …; auto: the configuration's.")
@click.option("--trust_remote_code", is_flag=True, help="Let the model's own code run.")
def doctor(model: str, tokens: int, rule: str, dtype: str, trust_remote_code: bool) -> None:
    """Will MODEL fit, and is there a rule for each of its operations? No weights are loaded."""
    from .commands.doctor import diagnose, told

    click.echo(told(diagnose(model, tokens, rule=rule, dtype=dtype, trust_remote_code=trust_remote_code)))


@main.command()
@click.option("--out", type=FILE, default=Path("out"), show_default=True, help="The folder to write.")
@click.option("--limit", type=click.IntRange(min=0), help="Failures explained a task.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(out: Path, limit: int | None, arguments: tuple[str, ...]) -> None:
    """Evaluate and explain a small model that fails for planted reasons. Offline. ARGUMENTS, after --, go to lm_eval."""
    from .commands.demo import demonstrate

    done = demonstrate(out, limit, arguments)
    click.echo("\nFailures by task\n" + rows.format_rows(*done.by_task))
    click.echo("\nWhat was planted, and what the experiments found\n" + rows.format_rows(*done.by_label))
    click.echo(f"\nThe database is {done.database}\nThe report is   {done.page}")


@main.command()
@DATABASE
@click.option("--run", "run_id", help="The run whose pairs are explained again; by default the file's only run.")
@MODEL_ARGS
@DEVICE
def compare(database: Path, run_id: str | None, model_args: str, device: str | None) -> None:
    """Explain the same pairs under another model, size or checkpoint, as another run of the same database."""
    from .commands.compare import compare as compare_runs

    _ended(compare_runs(database, model_args, run_id=run_id, device=device))


@main.command()
@DATABASE
@click.option("--shards", type=FILE, help="Their folder; by default the one beside the database.")
def merge(database: Path, shards: Path | None) -> None:
    """Bring the shards of processes that did not end together into their database."""
    from .commands.merge import merge as bring_together

    done = bring_together(database, shards)
    click.echo(f"{done.failures} failures in {done.flushes} flushes were added to {database}")
    for problem in done.problems:
        click.echo(f"Set aside: {problem}", err=True)
    if done.problems:
        raise click.exceptions.Exit(1)


@main.command()
@MODEL_ARGS
@click.option("--tasks", required=True, help="Tasks that lm_eval knows, separated by commas.")
@click.option("--out", type=FILE, default=Path("plants.jsonl"), show_default=True, help="The file to write, a case a line.")
@click.option("--limit", type=click.IntRange(min=1), help="Documents tried a task; all by default.")
@click.option("--most", type=click.IntRange(min=1), help="Cases a task at most.")
@click.option("--kinds", default="", help="Kinds of causes, separated by commas; all by default.")
@click.option("--tokens", type=click.IntRange(min=0), default=300, show_default=True, help="Least length of a prompt.")
@click.option("--include_path", help="A folder of further tasks.")
@click.option("--seed", default=0, show_default=True, help="Chance of all that is drawn.")
@DEVICE
def plant(model_args: str, tasks: str, kinds: str, out: Path, **options: Any) -> None:
    """Make failures with a known cause: documents that are answered right, changed until they fail, and changed back."""
    from .commands.plant import plant as plant_causes

    done = plant_causes(model_args, _split(tasks), out, kinds=_split(kinds), **options)
    counts = [(*what, count) for what, count in sorted(done.outcomes.items())]
    click.echo(rows.format_rows(("task", "kind", "outcome", "documents"), counts))
    click.echo(f"\n{done.cases} cases in {out}")


@main.command()
@DATABASE
@click.option("--export", "out", type=FILE, help="Write the wrong generated answers here, to be filled in.")
@click.option("--import", "file", type=FILE, help="Check a file that was filled in.")
@click.option("--run", "run_id", help="The run; by default the file's only run.")
@click.option("--tokenizer", help="The model's tokenizer, where the run's model cannot be found under its name.")
def annotate(database: Path, out: Path | None, file: Path | None, run_id: str | None, tokenizer: str | None) -> None:
    """Mark pairs by hand: --export a CSV of responses with numbered tokens, fill it in, --import it."""
    from .commands import annotate as annotations

    if (out is None) == (file is None):
        raise ArgumentError("annotate takes one of --export FILE and --import FILE.")
    if out is not None:
        count = annotations.export(database, out, run_id=run_id, tokenizer=tokenizer)
        click.echo(f"{count} responses in {out}: fill in token, contrast and comment, then --import it.")
    if file is not None:
        count = annotations.check(database, file, run_id=run_id)
        click.echo(f"{count} annotations hold. The evaluation with attrib_annotations={file} explains them.")


def _ended(outcome: ExplainReport) -> None:
    """What went wrong has been said already; here it becomes the exit code."""
    if outcome.problems:
        raise click.exceptions.Exit(1)


def _expanded(patterns: Sequence[str]) -> list[str]:
    """Patterns that the shell left alone; what matches nothing stays, so that the error names it."""
    return [path for pattern in patterns for path in (sorted(glob.glob(pattern, recursive=True)) or [pattern])]


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _parameters(given: Sequence[str]) -> dict[str, str]:
    for one in given:
        if "=" not in one:
            raise ArgumentError(f"--set takes NAME=VALUE, not {one!r}.")
    return dict(one.split("=", 1) for one in given)
