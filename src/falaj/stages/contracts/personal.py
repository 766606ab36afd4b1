"""Which columns probably hold personal data, by their names and by the form of their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

CLASSES = frozenset({"personal", "sensitive-personal", "health", "minor", "bank-confidential"})
"""The classifications of a column whose values tell of the person whose row it is."""

FORMS: Mapping[str, str] = {
    # form: the pattern that every value keeps
    "an e-mail address": r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
    "an Emirates ID number": r"^784-?[0-9]{4}-?[0-9]{7}-?[0-9]$",
    "an IBAN": r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$",
    "a telephone number": r"^\+[0-9][0-9 ()-]{6,18}$",
}
"""Emirates ID: 784, the year of birth, seven digits and a check digit. IBAN: ISO 13616. Telephone: E.164 with its +."""

_NAMES: Mapping[str, str] = {
    # what the name speaks of: the words that it may hold
    "a name of a person": "name firstname lastname surname givenname familyname fullname nationality",
    "an address": "address street postcode zipcode latitude longitude geolocation",
    "a way to reach a person": "email mail phone mobile telephone msisdn contact",
    "an identity document": "passport emirates eid nationalid ssn iqama visa licence license identity",
    "a birth": "birth birthday birthdate dob age",
    "money of a person": "iban account card salary income pan",
    "health or belief": "gender sex religion ethnicity blood diagnosis patient",
    "a trail on the network": "ip ipaddress mac imei deviceid cookie",
}
_WORDS: Mapping[str, str] = {word: what for what, words in _NAMES.items() for word in words.split()}
_OF_THINGS = frozenset(
    [
        "file",
        "table",
        "column",
        "product",
        "plane",
        "airport",
        "airline",
        "carrier",
        "station",
        "company",
        "host",
        "city",
        "model",
    ]
)
"""A name beside one of these is the name of a thing."""

_SPLIT = re.compile(r"[^a-z0-9]+")


def spoken_of(column: str) -> str:
    """What personal data the column's name speaks of, such as `a birth`; empty where it speaks of none."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column)
    words = [word for word in _SPLIT.split(spaced.lower()) if word]
    joined = {"".join(words), *("".join(pair) for pair in pairwise(words))}
    if _OF_THINGS.intersection(words):
        return ""
    return next((what for word, what in _WORDS.items() if word in words or word in joined), "")
