"""YAML with its places: what stands where, and complaints that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mystocks_ingest.errors import ConfigError

Place = tuple[str | int, ...]

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "key": ("primary_key",),
    "timescaledb": ("timescale_config", "timescale"),
    "tdengine": ("tdengine_config",),
    "classification": ("data_classification", "category"),
    "retention_days": ("retention", "retention_period", "keep_days", "keep", "drop_after"),
    "chunk_interval": ("chunk_time_interval",),
    "enabled": ("enable",),
    "compress_after": ("after", "after_days", "compress_after_days", "compression_after"),
    "segment_by": ("segmentby", "compress_segmentby", "compress_segment_by"),
    "order_by": ("orderby", "compress_orderby", "compress_order_by"),
    "level": ("compression_level",),
    "time_column": ("partition_column",),
    "auto_increment": ("autoincrement", "identity"),
    "create_tables": ("auto_create_tables",),
}
"""Other words for an entry, of which files in use make use; each model of ``entries`` and ``blocks`` takes its own."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """``at`` leads to the node; ``on_key``: to the key of the pair rather than its value."""

    at: Place
    text: str
    on_key: bool = False


class _Composer(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml, ten times as fast
    pass


class _Constructor(yaml.SafeLoader):
    """Dates and times of day stay text: what they mean is said by the entry in which they stand."""


def _as_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str | int:
    return node.value if ":" in node.value else loader.construct_yaml_int(node)  # 10:30 is no number in base 60


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", _as_text)
_Constructor.add_constructor("tag:yaml.org,2002:int", _whole)


class Source:
    """One file, composed; ``data`` is what it says, under the entry ``top``. Raises ConfigError for what is no YAML."""

    def __init__(self, path: Path, top: str = "tables") -> None:
        self.path = path
        text = _text(path, top)
        try:
            self.root = _composed(path, text, top)
            self.repeated = tuple(_repeated(self.root, (), set()))  # before merge keys are unfolded
            self.data: Any = _Constructor("").construct_document(self.root)
        except yaml.MarkedYAMLError as exc:
            raise ConfigError(_syntax(path, exc)) from None
        except RecursionError:
            raise ConfigError(f"{path}: not YAML: lists and mappings lie too deep in each other") from None
        except ValueError as exc:
            raise ConfigError(f"{path}: not YAML: {exc}") from None

    def where(self, at: Place) -> str:
        line, column = self.place(at)
        return f"{self.path}:{line}:{column}"

    def place(self, at: Place, *, on_key: bool = False) -> tuple[int, int]:
        """Line and column of the node at ``at``, or of its nearest parent that exists."""
        node, mark = self.root, self.root.start_mark
        for depth, step in enumerate(at):
            if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.start_mark
            elif isinstance(node, yaml.SequenceNode) and step == "columns":
                continue  # an index that is written as the list of its columns
            elif isinstance(node, yaml.MappingNode):
                names = (step, *SPELLINGS.get(step, ())) if isinstance(step, str) else (step,)
                pair = next(((k, v) for n in names for k, v in reversed(node.value) if k.value == n), None)
                if pair is None:
                    break
                node = pair[1]
                mark = pair[0].start_mark if on_key and depth == len(at) - 1 else node.start_mark
            else:
                break
        return mark.line + 1, mark.column + 1

    def report(self, complaints: Sequence[Complaint]) -> str:
        """All of them in the order of the file, each on its line."""
        placed = sorted((self.place(c.at, on_key=c.on_key), c.text) for c in complaints)
        lines = [f"{self.path}:{line}:{column}: {_line(text)}" for (line, column), text in dict.fromkeys(placed)]
        return lines[0] if len(lines) == 1 else f"{len(lines)} complaints\n" + "\n".join(lines)


def _line(text: str) -> str:
    """On one line, whatever a name in it holds."""
    return " ".join(text.splitlines())


def _text(path: Path, top: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"no {top.removesuffix('s')} file at {path}: set MYSTOCKS_CONFIG_DIR to the folder that holds {top}.yaml"
        ) from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 text (byte {exc.start}): save it as UTF-8") from None
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from None


def _composed(path: Path, text: str, top: str) -> yaml.Node:
    strange = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if strange is not None:
        line, column = text.count("\n", 0, strange.start()) + 1, strange.start() - text.rfind("\n", 0, strange.start())
        raise ConfigError(f"{path}:{line}:{column}: not YAML: the character {strange[0]!r} may not stand here")
    root = yaml.compose(text, Loader=_Composer)
    if root is None:
        raise ConfigError(f"{path} is empty: it must hold `{top}:`")
    return root


def _syntax(path: Path, exc: yaml.MarkedYAMLError) -> str:
    mark = exc.problem_mark or exc.context_mark
    where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    return f"{path}{where}: not YAML: {exc.problem or exc.context}"


def _repeated(node: yaml.Node, at: Place, seen: set[int]) -> Iterator[Complaint]:
    """YAML keeps the last of two equal keys in silence; that hides a column or a key."""
    if id(node) in seen:  # an anchor's node stands in several places, or within itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _repeated(item, (*at, i), seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused when the mapping is made
            if key.value in keys and key.value != "<<":
                text = f"`{key.value}` stands twice in one mapping (the last one counts)"
                yield Complaint((*at, key.value), text, on_key=True)
            keys.add(key.value)
            yield from _repeated(value, (*at, key.value), seen)
