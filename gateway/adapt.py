"""From what a client may send to what the backend accepts. Pure: bytes in, bytes out.

The backend wants ``store: false``, ``stream: true``, a list as ``input``, no system messages, and refuses a number of
parameters of the public API. ``relaxed`` fits a request to that and names each step by a word of a closed set;
``strict`` refuses with the name of the field whenever a step would change what the client asked for. What neither
can do (there is no stored state: ``previous_response_id``, ``conversation``, ``background``) is refused in both.

A Codex client speaks the backend's dialect already: its members go up as they came, unknown ones too. Of an SDK
client only known members go up. Values that need no change keep their bytes; a large ``input`` is never parsed
deeply. The top level is always encoded anew.

Per account, and not here: the installation id (``with_installation``) and what another account has sealed
(``without_foreign_reasoning``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Raw, structs

from gateway import fields as f
from gateway import items as it
from gateway.errors import GatewayError
from gateway.models import ModelTable


class Mode(StrEnum):
    RELAXED = "relaxed"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms requests are adapted. ``known`` are the backend's model names, empty when not discovered."""

    table: ModelTable
    known: Collection[str] = ()
    mode: Mode = Mode.RELAXED


class Adapted(msgspec.Struct, frozen=True):
    """One request in the backend's dialect, still without an account. (A Struct: cheap to make, one per request.)

    ``head`` is the JSON text up to the value of ``input``, ``input`` that value; ``client_metadata`` is the client's
    object or None. ``sealed`` are the encrypted parts by position, as digests. ``echo`` holds what a Response object
    repeats of the request (only when ``stream`` is False). ``adaptations`` are words of a closed set. ``extension``
    is the object ``x_codex``, which never goes up (see x_codex.wish), or None.
    """

    model: str
    requested_model: str
    stream: bool
    head: bytes
    input: bytes
    client_metadata: bytes | None = None
    adaptations: tuple[str, ...] = ()
    prompt_cache_key: str | None = None
    sealed: tuple[it.Sealed, ...] = ()
    echo: dict[str, object] = msgspec.field(default_factory=dict)
    extension: bytes | None = None

    @property
    def has_encrypted(self) -> bool:
        return bool(self.sealed)


_MODEL: Final = re.compile(r"[\x21-\x7e]{1,128}")
_METADATA: Final = msgspec.json.Decoder(dict[str, Raw])
_INSTALLATION: Final = "x-codex-installation-id"
_TURN_METADATA: Final = "x-codex-turn-metadata"


def _too_deep() -> GatewayError:
    """What passed the gate at the very edge of the recursion limit is refused here, where the stack is deeper."""
    return GatewayError.invalid_json("it is nested too deeply")


class _Adapter:
    """The work on one request: collects pieces and words; lives for one call of ``adapt``."""

    __slots__ = ("codex", "pieces", "strict", "words")

    def __init__(self, strict: bool, codex: bool) -> None:
        self.strict = strict
        self.codex = codex
        self.words: list[str] = []
        self.pieces: list[bytes | Raw] = []

    def put(self, name: str, value: bytes | Raw) -> None:
        self.pieces += (f.key(name), value)

    def change(self, word: str, param: str, why: str) -> None:
        """Notes a step that changes what the client asked for; strict refuses instead."""
        if self.strict:
            raise GatewayError.invalid(f"{param}: {why} (this gateway is set to strict).", param)
        if word not in self.words:
            self.words.append(word)

    def note(self, word: str) -> None:
        """Notes a step that changes nothing for the client."""
        self.words.append(word)

    def member(self, name: str, raw: Raw) -> None:
        """One top-level member that has no rule of its own below."""
        if name in f.PASSED:
            f.check(name, raw)
            self.put(name, raw)
        elif name in f.DROPPED:
            f.check(name, raw)
            if bytes(raw) not in f.HARMLESS.get(name, ()):
                self.change(f"dropped:{name}", name, "the backend does not take this parameter")
        else:
            self.change("dropped:other", name, "this parameter is not known here")

    def include(self, raw: Raw) -> None:
        wanted = f.decode("include", raw, f.STRINGS)
        taken = [name for name in wanted if name in f.INCLUDES]
        if len(taken) == len(wanted):
            self.put("include", raw)
            return
        self.change("include_filtered", "include", "the backend does not take all of these values")
        self.put("include", msgspec.json.encode(taken))

    def service_tier(self, raw: Raw) -> None:
        tier = f.decode("service_tier", raw, f.STRING)
        if tier == "fast":
            self.note("service_tier")
            raw = Raw(b'"priority"')
        elif tier in ("auto", "default"):
            return
        self.put("service_tier", raw)

    def tools(self, raw: Raw) -> None:
        changed = f.backend_tools(raw)
        if changed is not None:
            self.change("tool_alias", "tools", "web_search_preview is called web_search by the backend")
        self.put("tools", raw if changed is None else changed)

    def tool_choice(self, raw: Raw) -> None:
        changed = f.backend_tool_choice(raw)
        if changed is not None:
            self.change("tool_alias", "tool_choice", "web_search_preview is called web_search by the backend")
        self.put("tool_choice", raw if changed is None else changed)

    def reasoning(self, raw: Raw | None, effort: str | None) -> None:
        if effort is not None:
            members = {} if raw is None else f.decode("reasoning", raw, f.MEMBERS)
            if f.absent(members.get("effort")):
                members["effort"] = Raw(msgspec.json.encode(effort))
                raw = Raw(msgspec.json.encode(members))
                self.note("effort_from_model")
        if raw is not None:
            f.check("reasoning", raw)
            self.put("reasoning", raw)

    def input(self, raw: Raw | None, digest: Callable[[bytes], bytes]) -> tuple[bytes, tuple[it.Sealed, ...]]:
        if raw is None:
            raise GatewayError.invalid("input is missing: send a text or a list of items.", "input")
        first = bytes(memoryview(raw)[:1])
        if first == b'"':
            self.change("input_string", "input", "the backend takes a list of items only")
            return it.user_message(raw), ()
        if first != b"[":
            raise GatewayError.invalid("input must be a text or a list of items.", "input")
        items = bytes(raw)
        if self.codex:
            return items, it.sealed_of(items, digest)
        sealed, found = it.look_at(items, digest)
        if not found:
            return items, sealed
        for index, words in found.items():
            for word in words:
                self.change(word, f"input[{index}]", f.ITEM_REASONS[word])
        content, kept = it.mend(items, found)
        positions = {old: new for new, old in enumerate(kept)}
        return content, tuple((positions[old], d) for old, d in sealed if old in positions)


def adapt(fields: dict[str, Raw], terms: Terms, codex_client: bool, digest: Callable[[bytes], bytes]) -> Adapted:
    """Fits the members of a request to the backend; ``fields`` is used up.

    ``digest`` makes the keyed digest of an encrypted part. Raises GatewayError ``invalid_request`` with the name of
    the field at fault (``invalid_json`` for what is nested too deeply), and nothing else, whatever the JSON.
    """
    try:
        return _adapted(fields, terms, codex_client, digest)
    except RecursionError:
        raise _too_deep() from None


def _adapted(fields: dict[str, Raw], terms: Terms, codex_client: bool, digest: Callable[[bytes], bytes]) -> Adapted:
    work = _Adapter(terms.mode is Mode.STRICT, codex_client)
    f.drop_nulls(fields)
    f.refuse_stored_state(fields)
    requested = _model(fields.pop("model", None))
    model, effort = terms.table.resolve(requested, terms.known)
    stream = f.flag(fields.pop("stream", None), "stream")
    echo = {} if stream else {"model": model, **f.echo_of(fields)}
    items = fields.pop("input", None)
    metadata = fields.pop("client_metadata", None)
    cache_key = fields.get("prompt_cache_key")
    extension = fields.pop("x_codex", None)

    work.pieces += (b'{"model":', msgspec.json.encode(model), b',"stream":true,"store":false')
    _store(work, fields.pop("store", None))
    if not stream:
        work.note("stream_true")
    if "instructions" not in fields and not codex_client:
        work.note("instructions_added")
        work.put("instructions", b'""')
    work.reasoning(fields.pop("reasoning", None), effort)
    for name, raw in fields.items():
        if name in f.OWN:
            continue
        if codex_client and name not in f.DROPPED:
            work.put(name, raw)
            continue
        rule = _RULES.get(name)
        if rule is None:
            work.member(name, raw)
        else:
            rule(work, raw)
    if extension is not None:
        work.note("dropped:x_codex")
    content, sealed = work.input(items, digest)
    work.pieces.append(b',"input":')
    return Adapted(
        model=model,
        requested_model=requested,
        stream=stream,
        head=b"".join(work.pieces),
        input=content,
        client_metadata=None if metadata is None else f.object_bytes("client_metadata", metadata),
        adaptations=tuple(work.words),
        prompt_cache_key=None if cache_key is None else f.decode("prompt_cache_key", cache_key, f.STRING),
        sealed=sealed,
        echo=echo,
        extension=None if extension is None else f.object_bytes("x_codex", extension),
    )


_RULES: Final[dict[str, Callable[[_Adapter, Raw], None]]] = {
    "include": _Adapter.include,
    "service_tier": _Adapter.service_tier,
    "tools": _Adapter.tools,
    "tool_choice": _Adapter.tool_choice,
}


def _model(raw: Raw | None) -> str:
    if raw is None:
        raise GatewayError.invalid("model is missing. GET /v1/models lists what there is.", "model")
    model = f.decode("model", raw, f.STRING)
    if not _MODEL.fullmatch(model):
        raise GatewayError.invalid("model must be a name of 1 to 128 printable ASCII characters.", "model")
    return str(model)


def _store(work: _Adapter, raw: Raw | None) -> None:
    if raw is None:
        if not work.codex:
            work.note("store_false")
    elif f.flag(raw, "store"):
        work.change("store_false", "store", "nothing is stored: send false")


# -- per account ---------------------------------------------------------------------------------------------------


def with_installation(adapted: Adapted, installation_id: str, codex_client: bool) -> Sequence[bytes]:
    """The body for one account as buffers whose concatenation is the JSON text; ``input`` is not copied.

    The account's installation id takes the place of the client's, so that one account always shows one installation;
    a client that sends none gets it unless it is a Codex client, whose shape is kept.
    """
    given = adapted.client_metadata
    if given is None and (codex_client or not installation_id):
        return adapted.head, adapted.input, b"}"
    try:
        members: dict[str, Any] = {} if given is None else _METADATA.decode(given)
    except RecursionError:
        raise _too_deep() from None
    if installation_id and (_INSTALLATION in members or not codex_client):
        members[_INSTALLATION] = installation_id
    else:
        members.pop(_INSTALLATION, None)
    turn = members.get(_TURN_METADATA)
    if turn is not None:
        members[_TURN_METADATA] = _turn_metadata_string(turn, installation_id)
    return adapted.head, adapted.input, b',"client_metadata":' + msgspec.json.encode(members) + b"}"


def _turn_metadata_string(raw: Raw, installation_id: str) -> object:
    """The JSON string of turn metadata with the account's installation id; what is no such string stays."""
    try:
        text = msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return raw
    return turn_metadata(text.encode(), installation_id).decode()


def turn_metadata(value: bytes, installation_id: str) -> bytes:
    """The value of an ``x-codex-turn-metadata`` header (a JSON object) with the account's installation id.

    Without an ``installation_id`` in it, or when it is not JSON, it stays as it is.
    """
    if b"installation_id" not in value:
        return value
    try:
        members: dict[str, Any] = _METADATA.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value
    if "installation_id" in members:
        members["installation_id"] = installation_id
    return msgspec.json.encode(members)


def without_foreign_reasoning(adapted: Adapted, foreign: Collection[bytes]) -> Adapted:
    """The same request without the encrypted parts whose digest is in ``foreign``.

    Calls and outputs stay in pairs. A turn-state header of that account is the caller's to drop.
    """
    if not any(digest in foreign for _, digest in adapted.sealed):
        return adapted
    try:
        content, still = it.without(adapted.input, adapted.sealed, foreign)
    except RecursionError:
        raise _too_deep() from None
    return structs.replace(adapted, input=content, sealed=still)
