"""The items of ``input``: what is wrong with them for the backend, and how they are mended. Pure.

Every item is looked at through a struct of its few telling members; content is skipped, not parsed. Items without a
fault keep their bytes. What the backend does not take:

* ``role: system`` (it becomes ``developer``, in place);
* item ids that another system made (they are dropped: nothing is stored, so an id names nothing);
* reasoning items without ``encrypted_content`` (nothing is stored, so they are empty shells) and references to
  stored items (refused: there is nothing to refer to);
* members of chat messages that stray clients leave in (``tool_calls``, ``reasoning_content`` and the like).

Encrypted parts open only for the account that made them. ``without`` takes the foreign ones out: calls and their
outputs stay in pairs, and an output whose call went away with a compaction item becomes plain user text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from gateway.errors import GatewayError
from gateway.shorten import KEPT, shortened

EMPTY: Final = Raw()


class Head(msgspec.Struct):
    """The telling members of an input item. Raw members: only whether they are there counts."""

    type: str = "message"
    role: str | None = None
    id: str | None = None
    call_id: str | None = None
    encrypted_content: str | None = None
    tool_calls: Raw = EMPTY
    function_call: Raw = EMPTY
    reasoning_content: Raw = EMPTY
    reasoning_details: Raw = EMPTY


class _PlainHead(msgspec.Struct):
    """The same of an item that has nothing stray and no odd role; most requests hold only such."""

    type: str = "message"
    role: Literal["user", "assistant", "developer", "tool"] | None = None
    id: str | None = None
    call_id: str | None = None
    encrypted_content: str | None = None
    tool_calls: None = None
    function_call: None = None
    reasoning_content: None = None
    reasoning_details: None = None


class _SealedHead(msgspec.Struct):
    """What matters of an item when another account's parts are taken out."""

    type: str = "message"
    id: str | None = None
    call_id: str | None = None
    encrypted_content: str | None = None


_HEADS: Final = msgspec.json.Decoder(list[Head])
_PLAIN_HEADS: Final = msgspec.json.Decoder(list[_PlainHead])
_SEALED_HEADS: Final = msgspec.json.Decoder(list[_SealedHead])
_RAWS: Final = msgspec.json.Decoder(list[Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_STRAY: Final = ("tool_calls", "function_call", "reasoning_content", "reasoning_details")
_ID_PREFIXES: Final = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_"}
_REFERENCES: Final = frozenset({"item_reference"})
_TELLING: Final = _REFERENCES | {"reasoning"}

SYSTEM, ID, STRAY, SHELL = "system_to_developer", "item_ids_dropped", "message_keys_dropped", "reasoning_dropped"

Sealed = tuple[int, bytes]
"""(index of the item in ``input``, digest of its encrypted part)."""


Faults = dict[int, tuple[str, ...]]
"""What has to be mended, as adaptation words, by the index of the item."""


def look_at(items: bytes, digest: Callable[[bytes], bytes]) -> tuple[tuple[Sealed, ...], Faults]:
    """(encrypted parts, oldest first; faults) of all items, in one pass when there is nothing odd among them.

    Raises GatewayError that names the item which is not what it should be.
    """
    try:
        plain = _decoded_short(_PLAIN_HEADS, items)
    except msgspec.ValidationError:
        heads = _decoded(_HEADS, items)
        return sealed_parts(heads, digest), faults(heads)
    marked = [h for h in plain if h.id is not None or h.encrypted_content or h.type in _TELLING]
    if not marked:
        return (), {}
    return sealed_parts(plain, digest), faults(plain)


def sealed_of(items: bytes, digest: Callable[[bytes], bytes]) -> tuple[Sealed, ...]:
    """The encrypted parts alone. Raises GatewayError that names the item which is not what it should be."""
    try:
        heads = _decoded_short(_SEALED_HEADS, items)
    except msgspec.ValidationError:
        heads = _decoded(_SEALED_HEADS, items)
    return sealed_parts(heads, digest)


def _decoded_short(decoder: msgspec.json.Decoder[list[Any]], items: bytes) -> list[Any]:
    """The heads, without a walk through enormous content; with it when a telling member may be part of that."""
    short = shortened(items)
    heads = decoder.decode(short)
    if short is not items and any(
        len(head.encrypted_content or "") >= KEPT or len(head.id or "") >= KEPT or len(head.call_id or "") >= KEPT
        or len(head.type) >= KEPT
        for head in heads
    ):  # fmt: skip
        return decoder.decode(items)
    return heads


def _decoded(decoder: msgspec.json.Decoder[list[Any]], items: bytes) -> list[Any]:
    try:
        return decoder.decode(items)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise GatewayError.invalid(f"An input item is not acceptable: {what}.", "input" + where.rstrip("`")) from None


def sealed_parts(
    heads: Sequence[Head | _PlainHead | _SealedHead], digest: Callable[[bytes], bytes]
) -> tuple[Sealed, ...]:
    """Where the encrypted parts are, as digests, oldest first."""
    return tuple((i, digest(h.encrypted_content.encode())) for i, h in enumerate(heads) if h.encrypted_content)


def fault_of(head: Head | _PlainHead) -> tuple[str, ...]:
    """What has to be mended, as adaptation words; empty for nearly every item."""
    found: list[str] = []
    if head.role == "system":
        found.append(SYSTEM)
    if head.id is not None and not head.id.startswith(_ID_PREFIXES.get(head.type, "")):
        found.append(ID)
    if head.type == "reasoning" and not head.encrypted_content:
        found.append(SHELL)
    if head.role is not None and (
        head.tool_calls or head.function_call or head.reasoning_content or head.reasoning_details
    ):
        found.append(STRAY)
    return tuple(found)


def faults(heads: Sequence[Head | _PlainHead]) -> Faults:
    """The items that have to be mended. Raises GatewayError for a reference to something stored."""
    found: Faults = {}
    for index, head in enumerate(heads):
        if words := fault_of(head):
            found[index] = words
        if head.type in _REFERENCES:
            raise GatewayError.invalid(
                "Nothing is stored here, so no item can be referred to: send the item itself.", f"input[{index}]"
            )
    return found


def mend(items: bytes, found: Faults) -> tuple[bytes, list[int]]:
    """(``input`` with the faulty items mended, indices of the items that stay)."""
    pieces: list[bytes | Raw] = []
    kept: list[int] = []
    for index, raw in enumerate(_RAWS.decode(items)):
        words = found.get(index)
        if words is None:
            pieces.append(raw)
        elif SHELL in words:
            continue
        else:
            pieces.append(_mended(raw, words))
        kept.append(index)
    return _array(pieces), kept


def _mended(raw: Raw, words: Collection[str]) -> bytes:
    members: dict[str, Any] = _MEMBERS.decode(raw)
    if SYSTEM in words:
        members["role"] = "developer"
    if ID in words:
        members.pop("id", None)
    if STRAY in words:
        for name in _STRAY:
            members.pop(name, None)
    return msgspec.json.encode(members)


def without(items: bytes, sealed: tuple[Sealed, ...], foreign: Collection[bytes]) -> tuple[bytes, tuple[Sealed, ...]]:
    """(``input`` without the encrypted parts whose digest is ``foreign``, what is still sealed in it).

    Ids of the items that stay are dropped: an id may tie a call to the reasoning that is gone.
    """
    gone = {index for index, digest in sealed if digest in foreign}
    digests = dict(sealed)
    heads = _SEALED_HEADS.decode(items)
    pieces: list[bytes | Raw] = []
    still: list[Sealed] = []
    calls = {h.call_id for h in heads if h.call_id and not _is_output(h)}
    for index, raw in enumerate(_RAWS.decode(items)):
        head = heads[index]
        if index in gone and head.call_id is None:
            continue
        orphan = _is_output(head) and head.call_id is not None and head.call_id not in calls
        if index not in gone and not orphan and head.id is None:
            pieces.append(raw)
        else:
            pieces.append(_kept(raw, orphan, index in gone))
        if index in digests and index not in gone:
            still.append((len(pieces) - 1, digests[index]))
    return _array(pieces), tuple(still)


def _is_output(head: _SealedHead) -> bool:
    return head.type.endswith("_output")


def _kept(raw: Raw, orphan: bool, sealed: bool) -> bytes:
    members: dict[str, Any] = _MEMBERS.decode(raw)
    if orphan:
        return _as_text(members)
    members.pop("id", None)
    if sealed:
        members.pop("encrypted_content", None)
    return msgspec.json.encode(members)


def _as_text(members: dict[str, Any]) -> bytes:
    """An output that belongs to no call any more, as a user message with the same content."""
    output = bytes(members.get("output", b'""'))
    if output.startswith(b"["):
        content: Any = Raw(output)
    else:
        text = msgspec.json.decode(output) if output.startswith(b'"') else output.decode()
        content = [{"type": "input_text", "text": f"Output of an earlier tool call:\n{text}"}]
    return msgspec.json.encode({"type": "message", "role": "user", "content": content})


def _array(pieces: list[bytes | Raw]) -> bytes:
    return b"[" + b",".join(pieces) + b"]"


def user_message(text: Raw) -> bytes:
    """``input`` as a list, for the string that ``text`` is."""
    return b'[{"type":"message","role":"user","content":[{"type":"input_text","text":' + bytes(text) + b"}]}]"
