"""The exception tree. Every error says what was found, what is possible, and what to do.

AttribError
├── ArgumentError           an attrib_* argument, a setting or a profile that does not hold
├── ModelError
│   ├── NotDecoderOnly      the model is not a decoder-only causal language model
│   ├── NoRule              an operation of the model has no relevance rule
│   ├── ReplayMismatch      a decoder block run again does not reproduce its stored output
│   ├── NonFiniteRelevance  relevance became NaN or infinite in a named block
│   └── OutOfMemory         no plan fits the memory there is
├── StoreError
│   ├── NotADatabase        the file exists and is not a DuckDB database of this project
│   ├── WrongSchema         the file was written under another schema version
│   ├── Locked              another process is writing to the file
│   └── NotWritable         the path cannot be written, or the disk is full
├── SeamError               lm_eval's evaluate() is not where, or not what, it should be
├── MissingLibrary          an optional library is not installed
├── SamplesError            a samples file that cannot be explained
└── ReportError             a report cannot be written
"""

from __future__ import annotations


class AttribError(Exception):
    """Base of every error this package raises on purpose."""


class ArgumentError(AttribError, ValueError):
    """An ``attrib_*`` argument, a setting or a profile does not hold; the message lists what is known."""


class ModelError(AttribError):
    """The model cannot be attributed."""


class NotDecoderOnly(ModelError):
    """The model is not a decoder-only causal language model whose blocks can be found."""


class NoRule(ModelError):
    """An operation met in the forward pass has no relevance rule; the message names it and its module."""


class ReplayMismatch(ModelError):
    """A decoder block, run again from its kept input and arguments, gave another output."""


class NonFiniteRelevance(ModelError):
    """Relevance became NaN or infinite; the message names the block."""


class OutOfMemory(ModelError):
    """Every memory plan was tried and none fits."""


class StoreError(AttribError):
    """The attribution database cannot be used."""


class NotADatabase(StoreError):
    """The file exists and is not an attribution database."""


class WrongSchema(StoreError):
    """The database has another schema version than this release reads."""


class Locked(StoreError):
    """Another process holds the database open for writing."""


class NotWritable(StoreError):
    """The path cannot be created or written, or the disk is full."""


class SeamError(AttribError):
    """The installed lm_eval does not have the one function this package wraps, or not in the known shape."""


class MissingLibrary(AttribError, ImportError):
    """An optional library is not installed; the message says how to get it."""


class SamplesError(AttribError):
    """A samples file does not hold what is needed to explain it; the message names file and line."""


class ReportError(AttribError):
    """The report folder cannot be written, or the database holds nothing to report."""
