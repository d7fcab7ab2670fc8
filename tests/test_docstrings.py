"""Every field of what users hold in their hands is said in its class's docstring, where help() shows it."""

import dataclasses
import inspect
import re

import pytest

import pgjax
from pgjax import config, types
from pgjax.algorithms.roster import Entry
from pgjax.variance import Plugs

CLASSES = [x for x in vars(types).values() if isinstance(x, type) and x.__module__ == "pgjax.types"]
CLASSES += [*config.PARTS, Entry, Plugs, pgjax.Run]


def said(cls):
    """The names before a colon in the section of attributes."""
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    return {name for line in re.findall(r"^  (\w[\w, ]*):", section, re.M) for name in line.split(", ")}


def fields(cls):
    if cls is pgjax.Run:  # an ordinary class: what its constructor takes, and what it sets
        return {*inspect.signature(cls).parameters, "signal"}
    own = [x.name for x in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else cls._fields
    return set(own)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_docstring_names_every_field_and_nothing_else(cls):
    assert said(cls) == fields(cls)


def test_the_parts_of_a_config_are_all_of_it():
    assert set().union(*map(fields, config.PARTS)) == fields(config.Config)
