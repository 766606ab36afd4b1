"""Compliance packs: what a regulator asks for, as policies and as values that say where they stand and how sure that is."""

from falaj.packs.merge import Conflict, Strictest, strictest
from falaj.packs.pack import Pack, Value, known, load, read_pack

__all__ = ["Conflict", "Pack", "Strictest", "Value", "known", "load", "read_pack", "strictest"]
