"""What can go wrong with records and where they rest.

The tree::

    StoreError
      +- StoreUnavailable   the backend did not answer in time; nothing is known to have changed
      +- StoreUnusable      refuse to start: the file is left untouched
      |    +- StoreCorrupt
      |    +- FutureSchema
      |    +- WrongKey
      +- SealBroken         one ciphertext was altered, moved or sealed under an unknown key
      +- Conflict           a compare-and-put lost, or a unique name is taken
      +- NotFound           no such record

Every message is one line that names the cause and the next step, and holds no secret.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all errors of this package; str() is one line fit for an operator."""


class StoreUnavailable(StoreError):
    """The backend is locked, full, gone or slow. The caller may try again later."""


class StoreUnusable(StoreError):
    """The backend must not be used at all: the process refuses to start."""


class StoreCorrupt(StoreUnusable):
    """The file is not a database of ours, or fails its integrity check."""


class FutureSchema(StoreUnusable):
    """A newer release wrote this database; this release will not touch it."""


class WrongKey(StoreUnusable):
    """The key-encrypting key does not open what the database holds."""


class SealBroken(StoreError):
    """A ciphertext does not open in its place: altered, swapped, or of an unknown key id."""


class Conflict(StoreError):
    """The record has changed since it was read, or the name is taken. Nothing was written."""


class NotFound(StoreError):
    """There is no such record."""
