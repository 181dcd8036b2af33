"""The simulator as one ASGI application: the backend, the issuer and the control API by path.

The model path is taken before Starlette's router: it is raw ASGI and hot. Unknown paths are 404 ``Not Found`` in the
backend's shape.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ops.clock import Clock, SystemClock
from ops.simulator.authorize import AuthorizeEndpoint
from ops.simulator.config import SimulatorConfig
from ops.simulator.control import Control
from ops.simulator.device import DeviceEndpoints
from ops.simulator.oauth import RevokeEndpoint, TokenEndpoint
from ops.simulator.responses import ResponsesEndpoint
from ops.simulator.state import Simulator
from ops.simulator.wham import ChatGptEndpoints

RESPONSES_PATH = "/backend-api/codex/responses"


class SimulatorApp:
    """The ASGI application; ``state`` is the Simulator behind it."""

    def __init__(self, state: Simulator) -> None:
        self.state = state
        chatgpt, device = ChatGptEndpoints(state), DeviceEndpoints(state)
        self._raw: dict[str, ASGIApp] = {
            RESPONSES_PATH: ResponsesEndpoint(state),
            "/oauth/token": TokenEndpoint(state),
            "/oauth/revoke": RevokeEndpoint(state),
        }
        wham = "/backend-api/wham"
        issuer = "/api/accounts"
        self._routed = Starlette(
            routes=[
                Route("/backend-api/codex/models", chatgpt.models),
                Route(f"{wham}/usage", chatgpt.usage),
                Route(f"{wham}/accounts/check", chatgpt.accounts_check),
                Route(f"{wham}/settings/user", chatgpt.user_settings),
                Route(f"{wham}/rate-limit-reset-credits", chatgpt.reset_credits),
                Route(f"{wham}/rate-limit-reset-credits/consume", chatgpt.consume_reset_credit, methods=["POST"]),
                Route(f"{issuer}/v1/user-auth-credential/whoami", chatgpt.whoami),
                Route(f"{issuer}/deviceauth/usercode", device.user_code, methods=["POST"]),
                Route(f"{issuer}/deviceauth/token", device.poll, methods=["POST"]),
                Route("/oauth/authorize", AuthorizeEndpoint(state).page, methods=["GET", "POST"]),
                Route("/codex/device", device.page, methods=["GET", "POST"]),
                *Control(state).routes(),
                Route("/{path:path}", chatgpt.not_found, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._raw.get(scope["path"]) if scope["type"] == "http" else None
        await (app or self._routed)(scope, receive, send)


def build_simulator(config: SimulatorConfig | None = None, clock: Clock | None = None) -> SimulatorApp:
    """A fresh simulator; its handles are at ``app.state``."""
    return SimulatorApp(Simulator(config or SimulatorConfig(), clock or SystemClock()))
