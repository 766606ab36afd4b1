"""Column lineage: which columns of its inputs stand behind each column of a derived dataset, read from the query itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from falaj.core.errors import InvalidInput, MissingDependency
from falaj.stages.contracts.spec import Derived

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

KINDS = ("identity", "transformation", "aggregation", "opaque")
"""How a column stands behind another, the farther one later: as it is; changed; summed up over rows; in a way that is not
read (a Python function, or SQL that cannot be followed): then every input column may stand behind every output column."""

Place: TypeAlias = tuple[str, str]
"""(dataset, column)"""
Behind: TypeAlias = dict[Place, str]
"""Input column → kind."""


@dataclass(frozen=True, slots=True)
class ColumnLineage:
    direct: Mapping[str, Mapping[Place, str]]
    """Output column → the input columns that its value is made of, and how."""
    indirect: frozenset[Place] = frozenset()
    """Input columns that decide which rows there are, or in which group: filters, joins, groups, windows, orders."""


def column_lineage(plan: Derived, inputs: Mapping[str, Sequence[str]], outputs: Sequence[str] = ()) -> ColumnLineage:
    """`inputs`: dataset → its columns. `outputs`: the columns of the contract, which name those of the query.

    Never refuses a query that DuckDB takes: what cannot be followed is `opaque`. Raises MissingDependency without sqlglot.
    """
    if plan.sql:
        try:
            found = read_lineage(plan.sql, inputs)
            named = {column.lower(): column for column in outputs}  # letters count alike in DuckDB, large or small
            return replace(found, direct={named.get(column.lower(), column): behind for column, behind in found.direct.items()})
        except InvalidInput:
            pass
    every = {(dataset, column): "opaque" for dataset in plan.inputs for column in inputs.get(dataset, ())}
    return ColumnLineage(dict.fromkeys(outputs, every))


def read_lineage(sql: str, inputs: Mapping[str, Sequence[str]]) -> ColumnLineage:
    """The lineage of one SELECT in DuckDB's dialect. Raises InvalidInput where it cannot be followed, MissingDependency."""
    try:
        import sqlglot
        from sqlglot.optimizer.qualify import qualify
        from sqlglot.optimizer.scope import build_scope
    except ModuleNotFoundError as exc:
        raise MissingDependency.of("Column lineage", "sqlglot", "sql") from exc
    schema: dict[str, object] = {
        f'"{name}"': {f'"{column}"': "unknown" for column in columns} for name, columns in inputs.items() if columns
    }
    try:
        written = sqlglot.parse_one(sql, read="duckdb")
        names = {found.name.lower(): found.name for found in written.find_all(sqlglot.exp.Identifier)}
        names |= {column.lower(): column for columns in inputs.values() for column in columns}
        plain = qualify(written, schema=schema, dialect="duckdb", validate_qualify_columns=False, quote_identifiers=False)
        scope = build_scope(plain)
    except (sqlglot.errors.SqlglotError, ValueError, KeyError, AttributeError, RecursionError) as exc:
        raise InvalidInput(f"The columns of the query cannot be followed: {(str(exc).splitlines() or [''])[0][:300]}") from exc
    if scope is None:
        raise InvalidInput("The columns of the query cannot be followed: it is no SELECT.")
    reading = _Reading({name.lower(): name for name in inputs}, names, {name for name in inputs if not inputs[name]})
    found = reading.scope(scope)
    return ColumnLineage(
        {names.get(name, name): dict(sorted(behind.items())) for name, behind in found.columns.items()}, frozenset(found.indirect)
    )


@dataclass(slots=True)
class _Found:
    """What one SELECT gives, by its columns in order, and what decides its rows."""

    columns: dict[str, Behind] = field(default_factory=dict)
    indirect: set[Place] = field(default_factory=set)


@dataclass(slots=True)
class _Reading:
    datasets: Mapping[str, str]
    names: Mapping[str, str]
    without: set[str]
    """Datasets whose columns nobody knows: whatever is asked of one that stands alone is taken to be one of them."""
    done: dict[int, _Found] = field(default_factory=dict)
    so_far: dict[int, _Found] = field(default_factory=dict)
    """The first SELECT of a recursive query → what the whole query is known to give."""

    def scope(self, scope: Scope) -> _Found:
        from sqlglot import exp

        node = scope.expression
        if id(node) in self.so_far:
            return self.so_far[id(node)]
        if id(scope) in self.done:
            return self.done[id(scope)]
        if isinstance(node, exp.SetOperation):
            found = self._union(scope, node)
        elif isinstance(node, exp.Select):
            found = self._select(scope, node)
        elif isinstance(node, exp.Subquery | exp.Values | exp.UDTF | exp.Table):
            found = self._rows(scope, node)
        else:
            raise InvalidInput(f"The columns of the query cannot be followed through {type(node).__name__}.")
        self.done[id(scope)] = found
        return found

    def _union(self, scope: Scope, node: exp.SetOperation) -> _Found:
        from sqlglot import exp

        first, second = scope.set_operation_scopes
        left = self.scope(first)
        found = _both(node, left, _Found({name: {} for name in left.columns}))
        is_recursive = (
            isinstance(node.parent, exp.CTE) and node.parent.parent is not None and node.parent.parent.args.get("recursive")
        )
        while True:
            before, kept = _size(found), dict(self.done)
            if is_recursive:
                self.so_far[id(node.this)] = found
            found = _both(node, found if is_recursive else left, self.scope(second))
            if not is_recursive or _size(found) == before:
                break
            self.done = kept  # what was read of the second part speaks of an earlier answer of the whole
        self.so_far.pop(id(node.this), None)
        found.indirect |= self._ordered(scope, node, found)
        return found

    def _select(self, scope: Scope, node: exp.Select) -> _Found:
        from sqlglot import exp

        found, alone = _Found(), set[Place]()
        for _, source in scope.selected_sources.values():
            if not isinstance(source, exp.Table):
                found.indirect |= self.scope(source).indirect
        for sub in scope.subquery_scopes:
            found.indirect |= self.scope(sub).indirect
        for projection in node.selects:
            if projection.is_star or isinstance(projection.unalias(), exp.Columns):
                raise InvalidInput("The columns of the query cannot be followed through COLUMNS(…).")
            behind, decides = self._expression(scope, projection.unalias())
            _add(found.columns.setdefault(projection.alias_or_name.lower(), {}), behind)
            found.indirect |= decides
            alone |= set() if projection.find(exp.AggFunc) else set(behind)
        if (group := node.args.get("group")) is not None and group.args.get("all"):
            found.indirect |= alone
        for part in ("where", "group", "having", "qualify", "distinct", "windows"):
            for item in _listed(node.args.get(part)):
                found.indirect |= self._everything(scope, item, found)
        for join in node.args.get("joins") or ():
            found.indirect |= {place for part in ("on", "using", "match_condition") for item in _listed(join.args.get(part))
                               for place in self._everything(scope, item)}  # fmt: skip
        found.indirect |= self._ordered(scope, node, found)
        if isinstance(node.args.get("distinct"), exp.Distinct) and not node.args["distinct"].args.get("on"):
            found.indirect |= {place for behind in found.columns.values() for place in behind}
        return found

    def _rows(self, scope: Scope, node: exp.Expr) -> _Found:
        """Rows that are written out, or unnested from a column."""
        behind = dict.fromkeys(self._everything(scope, node), "transformation")
        alias = node.args.get("alias")
        columns = [column.name.lower() for column in alias.columns] if alias is not None else []
        return _Found({name: dict(behind) for name in columns} or {"*": behind})

    def _ordered(self, scope: Scope, node: exp.Expr, found: _Found) -> set[Place]:
        return {place for item in _listed(node.args.get("order")) for place in self._everything(scope, item, found)}

    def _expression(self, scope: Scope, node: exp.Expr, found: _Found | None = None) -> tuple[Behind, set[Place]]:
        """What a value is made of, and what only decides over which rows it is made."""
        from sqlglot import exp

        direct: Behind = {}
        indirect: set[Place] = set()
        waiting: list[tuple[exp.Expr, str]] = [(node, "identity")]
        while waiting:
            item, kind = waiting.pop()
            if isinstance(item, exp.Column):
                own = found.columns.get(item.name.lower()) if found is not None and not item.table else None
                _add(direct, self._column(scope, item) if own is None else own, kind)
            elif isinstance(item, exp.Window):
                waiting.append((item.this, _farther(kind, "transformation")))
                aside = [*(item.args.get("partition_by") or ()), *_listed(item.args.get("order"))]
                indirect |= {place for part in aside for place in self._everything(scope, part)}
            elif isinstance(item, exp.Filter):
                waiting.append((item.this, kind))
                indirect |= self._everything(scope, item.expression)
            elif isinstance(item, exp.Query | exp.Subquery):
                inner, decides = self._subquery(scope, item)
                is_test = isinstance(item.parent, exp.Exists | exp.In)
                _add(direct, {} if is_test else inner, _farther(kind, "transformation"))
                indirect |= decides | (set(inner) if is_test else set())
            else:
                is_plain = isinstance(item, exp.Paren | exp.Alias)
                sums_up = isinstance(item, exp.AggFunc) and not isinstance(item, _one_row())
                further = "aggregation" if sums_up else "identity" if is_plain else "transformation"
                waiting.extend((child, _farther(kind, further)) for child in item.iter_expressions())
        return direct, indirect

    def _everything(self, scope: Scope, node: Any, found: _Found | None = None) -> set[Place]:
        """Every input column that is spoken of; `found`: the SELECT's own columns, which may be spoken of by name alone."""
        from sqlglot import exp

        if not isinstance(node, exp.Expression):
            return set()
        direct, indirect = self._expression(scope, node, found)
        return set(direct) | indirect

    def _subquery(self, scope: Scope, node: exp.Expr) -> tuple[Behind, set[Place]]:
        inside = node.unnest() if hasattr(node, "unnest") else node
        for sub in scope.subquery_scopes:
            if sub.expression is inside or sub.expression is node:
                found = self.scope(sub)
                behind: Behind = {}
                for each in found.columns.values():
                    _add(behind, each)
                return behind, found.indirect
        raise InvalidInput("The columns of the query cannot be followed into one of its subqueries.")

    def _alone(self, scope: Scope) -> str:
        """The one dataset that a SELECT reads, where its columns are not known."""
        from sqlglot import exp

        sources = [source for _, source in scope.selected_sources.values()]
        only = sources[0] if len(sources) == 1 else None
        dataset = self.datasets.get(only.name.lower(), "") if isinstance(only, exp.Table) else ""
        return dataset if dataset in self.without else ""

    def _column(self, scope: Scope, column: exp.Column) -> Behind:
        from sqlglot import exp

        if not column.table and (alone := self._alone(scope)):
            return {(alone, self.names.get(column.name.lower(), column.name)): "identity"}
        at: Scope | None = scope
        while at is not None and column.table not in at.sources:
            at = at.parent  # a correlated subquery speaks of the query around it
        if at is None:
            raise InvalidInput(f"The columns of the query cannot be followed: {column.sql()} has no table.")
        source = at.sources[column.table]
        name = column.name.lower()
        if isinstance(source, exp.Table):
            dataset = self.datasets.get(source.name.lower())
            if dataset is None:
                raise InvalidInput(f"The query reads {source.name!r}, which is no input of it.")
            return {(dataset, self.names.get(name, name)): "identity"}
        inner = self.scope(source).columns
        if name in inner:
            return inner[name]
        if "*" in inner:
            return inner["*"]
        raise InvalidInput(f"The columns of the query cannot be followed: nothing gives {column.sql()}.")


def _both(node: exp.SetOperation, left: _Found, right: _Found) -> _Found:
    """Rows of two SELECTs, one after the other; of EXCEPT and INTERSECT the second only says which rows stay."""
    from sqlglot import exp

    found = _Found({name: dict(behind) for name, behind in left.columns.items()}, left.indirect | right.indirect)
    if not isinstance(node, exp.Union):
        found.indirect |= {place for side in (left, right) for behind in side.columns.values() for place in behind}
        return found
    names = list(left.columns)
    for place, (name, behind) in enumerate(right.columns.items()):
        _add(found.columns.setdefault(name if node.args.get("by_name") else names[min(place, len(names) - 1)], {}), behind)
    if node.args.get("distinct"):
        found.indirect |= {place for behind in found.columns.values() for place in behind}
    return found


def _size(found: _Found) -> tuple[int, int, int]:
    kinds = [KINDS.index(kind) for behind in found.columns.values() for kind in behind.values()]
    return len(kinds), sum(kinds), len(found.indirect)


def _one_row() -> tuple[type[exp.Expr], ...]:
    """Functions that sqlglot counts among the aggregates and that take the value of one row."""
    from sqlglot import exp

    return (exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue)


def _add(into: Behind, more: Mapping[Place, str], kind: str = "identity") -> None:
    """Adds what stands behind; of two ways to the same column the farther one counts."""
    for place, how in more.items():
        into[place] = _farther(_farther(how, kind), into.get(place, "identity"))


def _farther(one: str, other: str) -> str:
    return max(one, other, key=KINDS.index)


def _listed(part: Any) -> Iterator[Any]:
    items: Iterable[Any] = part if isinstance(part, list) else [] if part is None else [part]
    return iter(items)
