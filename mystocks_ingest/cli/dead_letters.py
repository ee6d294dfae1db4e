"""``dead-letters``: refused rows, why, and another try."""

from __future__ import annotations

from dataclasses import asdict
from json import JSONDecodeError, loads
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli import as_typed
from mystocks_ingest.cli.arguments import DatasetName, as_json
from mystocks_ingest.cli.printing import document, table

if TYPE_CHECKING:
    from mystocks_ingest.flow.replay import Replayed
    from mystocks_ingest.monitor.journal import Buried


@click.group()
def dead_letters() -> None:
    """List, show and replay refused rows."""


@dead_letters.command("list")
@click.option("--dataset", type=DatasetName(), help="Only of this dataset.")
@click.option("--rule", help="Only those that this rule refused.")
@click.option("--source", help="Only from this source.")
@click.option("--symbol", help="Only of this symbol.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="Those that were replayed since, too.")
@as_json
def list_(
    dataset: str | None,
    rule: str | None,
    source: str | None,
    symbol: str | None,
    limit: int,
    *,
    everything: bool,
    json: bool,
) -> None:
    """List refused rows, oldest first, and count them by dataset, source and rule."""
    from mystocks_ingest.cli import arguments

    if dataset is not None:
        (wanted,) = arguments.datasets([dataset])
        dataset = wanted.name
    (who,) = arguments.symbols([symbol]) if symbol is not None else (None,)
    replayed = None if everything else False

    from mystocks_ingest.cli.process import done
    from mystocks_ingest.errands.kinds import Letters

    letters, counts = done(Letters(dataset, rule, source, who, replayed, limit))
    if json:
        sums = [{"dataset": d, "source": s, "rule": r, "rows": n} for (d, s, r), n in counts.items()]
        document({"counts": sums, "letters": [_values(b) for b in letters]})
        return
    if not counts:
        click.echo("no dead letters: every row that came was accepted")
        return
    table(("dataset", "source", "rule", "rows"), [(*k, n) for k, n in counts.items()], right=("rows",))
    table(
        ("id", "dataset", "symbol", "time", "source", "rule", "reason", "seen"),
        [
            (
                b.id,
                b.letter.dataset,
                b.letter.symbol,
                b.letter.time,
                b.letter.source,
                b.letter.rule,
                b.letter.reason,
                b.seen,
            )
            for b in letters
        ],
        right=("id", "seen"),
    )
    click.echo(f"next: {as_typed()} dead-letters show ID   # the row as the vendor sent it")


@dead_letters.command()
@click.argument("number", metavar="ID", type=int)
@as_json
def show(number: int, *, json: bool) -> None:
    """Show one refused row: why, as the vendor sent it, and as it was read."""
    from mystocks_ingest.cli.process import done
    from mystocks_ingest.errands.kinds import OneLetter

    buried = done(OneLetter(number))
    if json:
        document(_values(buried))
        return
    letter = buried.letter
    table(
        (f"dead letter {buried.id}", ""),
        [
            ("dataset", letter.dataset),
            ("source", letter.source),
            ("rule", letter.rule),
            ("reason", letter.reason),
            ("refused at", letter.at),
            ("times seen", buried.seen),
            ("run", letter.run_id),
            ("replayed at", buried.replayed_at),
        ],
    )
    for title, text in (("as the vendor sent it", letter.raw), ("as it was read", letter.row)):
        values = _json(text)
        if isinstance(values, dict):
            table(("column", "value"), [(name, _exact(value)) for name, value in values.items()], title=title)
        else:
            click.echo(f"{title}: {text}")


@dead_letters.command()
@click.argument("number", metavar="[ID]...", type=int, nargs=-1)
@click.option("--dataset", type=DatasetName(), help="Those of this dataset.")
@click.option("--rule", help="Those that this rule refused.")
@click.option("--source", help="Those from this source.")
@click.option("--all", "everything", is_flag=True, help="Every one.")
@as_json
def replay(
    number: tuple[int, ...], dataset: str | None, rule: str | None, source: str | None, *, everything: bool, json: bool
) -> int:
    """Check refused rows again and store those that pass; the others stay where they are."""
    chosen = [bool(number), bool(dataset or rule or source), everything]
    if sum(chosen) != 1:
        raise click.UsageError("say which: ids, or --dataset, --rule and --source, or --all")
    from mystocks_ingest.cli import arguments
    from mystocks_ingest.cli.process import done
    from mystocks_ingest.errands.kinds import Replay
    from mystocks_ingest.flow.replay import Choice

    if dataset is not None:
        (wanted,) = arguments.datasets([dataset])
        dataset = wanted.name
    choice = Choice(ids=number, dataset=dataset, rule=rule, source=source)
    replayed = done(Replay(choice))
    _report(replayed, json=json)
    return 3 if replayed.refused else 0


def _report(done: Replayed, *, json: bool) -> None:
    again = [
        {"dataset": d, "rule": r, "rows": n, "reason": done.reasons[d, r]} for (d, r), n in sorted(done.refused.items())
    ]
    if json:
        document({"stored": done.stored, "superseded": done.superseded, "refused": again})
        return
    if not (done.stored.total() + done.superseded.total() + done.refused.total()):
        click.echo("no such dead letters")
    for name, count in sorted(done.stored.items()):
        if count:
            click.echo(f"stored: {count:,} rows of {name}")
    for name, count in sorted(done.superseded.items()):
        if count:
            click.echo(f"superseded: {count:,} rows of {name}; newer ones of the same key are stored")
    for entry in again:
        click.echo("refused again: {rows:,} rows of {dataset} by rule {rule}; {reason}".format(**entry))


def _values(buried: Buried) -> dict[str, object]:
    letter = asdict(buried.letter)
    letter["raw"], letter["row"] = _json(buried.letter.raw), _json(buried.letter.row)
    return {"id": buried.id, **letter, "seen": buried.seen, "replayed_at": buried.replayed_at}


def _json(text: str) -> object:
    try:
        return loads(text)
    except JSONDecodeError:
        return text


def _exact(value: object) -> str:
    """As it came: no grouping, no rounding."""
    return "" if value is None else str(value)
