"""A faithful stand-in for the Codex backend and its OAuth issuer: for the demo, the tests and the benchmarks.

Nothing here talks to anything; it answers. The gateway and the real Codex CLI are pointed at it by their ordinary
settings. Three ways in::

    app = build_simulator(SimulatorConfig(), clock)            # ASGI, handles at app.state
    async with running_simulator(SimulatorConfig()) as sim:    # sim.url, sim.base_url, sim.issuer, sim.state
        auth = sim.state.new_account(plan="pro")               # an auth.json
        sim.state.script(id, ["http=usage_limit_reached,resets_in_s=60", ""])
    serve("127.0.0.1", 18100, tls=False)                       # blocks; driven by /simulator/... (control.py)

What a prompt or a script can ask for is the language of ``script.py``; failures by name are in ``failures.py``.
"""

from __future__ import annotations

from ops.simulator.app import SimulatorApp, build_simulator
from ops.simulator.authorize import decide_by_url
from ops.simulator.config import SimulatorConfig
from ops.simulator.device import approve, deny, expire
from ops.simulator.script import Fail, Plan, Refresh
from ops.simulator.server import RunningSimulator, running_simulator, serve
from ops.simulator.state import Recorded, Simulator

__all__ = [
    "Fail",
    "Plan",
    "Recorded",
    "Refresh",
    "RunningSimulator",
    "Simulator",
    "SimulatorApp",
    "SimulatorConfig",
    "approve",
    "build_simulator",
    "decide_by_url",
    "deny",
    "expire",
    "running_simulator",
    "serve",
]
