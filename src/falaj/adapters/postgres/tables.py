"""Tables: what a ledger keeps in PostgreSQL, in a schema of its own for each project, and who may do what to it.

The role that makes the tables owns them and could take their triggers away. In production falaj works under another role,
which may add events and nothing else to them: `grants` says what it needs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

VERSION = 1
_LONGEST_NAME = 63
"""Bytes of an identifier."""

TABLES = (
    """create table if not exists frontier(
        id smallint primary key check (id = 0), version smallint not null, size bigint not null, peaks bytea not null)""",
    f"insert into frontier values (0, {VERSION}, 0, '') on conflict do nothing",  # noqa: S608  # a number of this file
    """create table if not exists events(
        seq bigint primary key check (seq >= 0), leaf bytea not null, leaf_hash bytea not null,
        verb text collate "C" not null, subject text collate "C" not null, at text collate "C" not null)""",
    "create index if not exists events_by_verb on events(verb, seq)",
    "create index if not exists events_by_subject on events(subject, seq)",
    """create table if not exists records(
        kind text collate "C" not null, key text collate "C" not null, body bytea not null, seq bigint not null,
        primary key (kind, key))""",
    "create table if not exists checkpoints(size bigint primary key, root bytea not null, note text not null)",
    # Not a defence against who owns the tables, only against a slip: the hashes are the defence.
    """create or replace function only_ever_appended() returns trigger language plpgsql as $$
        begin
            raise exception '% are only ever appended', tg_table_name using errcode = 'integrity_constraint_violation';
        end $$""",
    """create or replace trigger events_never_change before update or delete or truncate on events
        for each statement execute function only_ever_appended()""",
    """create or replace trigger checkpoints_never_change before update or delete or truncate on checkpoints
        for each statement execute function only_ever_appended()""",
    """create or replace function no_gap() returns trigger language plpgsql as $$
        declare first bigint; last bigint; many bigint;
        begin
            select min(seq), max(seq), count(*) into first, last, many from added;
            if many > 0 and (last - first + 1 <> many or (first > 0 and not exists (
                select from events where seq = first - 1))) then
                raise exception 'events are only ever appended' using errcode = 'integrity_constraint_violation';
            end if;
            return null;
        end $$""",
    """create or replace trigger events_have_no_gap after insert on events referencing new table as added
        for each statement execute function no_gap()""",
)


def schema_of(project: str) -> str:
    """The name of a project's schema; where it would be too long for PostgreSQL, its end is a digest."""
    name = f"falaj_{project}"
    if len(name.encode()) > _LONGEST_NAME or "\0" in name:
        name = f"falaj_{hashlib.sha256(project.encode()).hexdigest()[:40]}"
    return name


def quoted(name: str) -> str:
    """An identifier as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def grants(project: str, role: str) -> Iterator[str]:
    """What a role that writes the ledger and does not own it is given, statement by statement."""
    schema, to = quoted(schema_of(project)), quoted(role)
    yield f"grant usage on schema {schema} to {to}"
    yield f"grant select, insert on {schema}.events, {schema}.checkpoints to {to}"
    yield f"grant select, update on {schema}.frontier to {to}"
    yield f"grant select, insert, update, delete on {schema}.records to {to}"
