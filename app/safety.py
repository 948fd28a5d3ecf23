"""Who may talk to the dashboard: Host, Origin, token and cookie are checked before anything else is done.

On a loopback address there is no token, unless other names are answered there: a proxy then shows it to others. What
would be open to other web pages of the same browser is closed by two checks: the Host must be a loopback name (so a
foreign name that resolves to 127.0.0.1 is refused), and an Origin, where the browser sends one, must be the Host
itself. Any port is fine: ``ssh -L 9000:127.0.0.1:8050`` changes it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::", ""})
BODY_BYTES = 4 << 20  # the largest request: a figure's SVG on its way to PDF
FIELD_BYTES = 1 << 20


@dataclass(frozen=True)
class Guard:
    """What is let in.

    Attributes:
        names: Host names that are answered; any_literal: also every IP address written as a number, which no foreign
            name server can give out. token: what a visitor must have shown once, or None.
    """

    names: frozenset[str]
    any_literal: bool = False
    token: str | None = None

    @property
    def cookie(self) -> str:
        """Name of the cookie; two dashboards on one host have different ones, for cookies do not tell ports apart."""
        return "ganatomy-" + self._digest("name")[:8]

    @property
    def proof(self) -> str:
        """What the cookie holds: it follows from the token, and does not give it away."""
        return self._digest("proof")

    def _digest(self, purpose: str) -> str:
        return hmac.new((self.token or "").encode(), purpose.encode(), hashlib.sha256).hexdigest()

    def host_allowed(self, host: str) -> bool:
        """Tell whether a Host header, with or without a port, is one of ours."""
        name = host_name(host)
        return name is not None and (name in self.names or (self.any_literal and _is_literal(name)))

    def knows(self, proof: str | None) -> bool:
        """Tell whether a cookie's value is right, in constant time."""
        return self.token is None or hmac.compare_digest((proof or "").encode(), self.proof.encode())

    def accepts(self, token: str | None) -> bool:
        """Tell whether a token is right, in constant time."""
        return self.token is not None and hmac.compare_digest((token or "").encode(), self.token.encode())


def guard(host: str, allowed: Iterable[str] = ()) -> Guard:
    """Return the guard for a server that listens on ``host``; ``allowed`` are more Host names, e.g. of a proxy.

    There is a token wherever others than this machine's own browsers may come: at another address, or by another name.
    """
    more = frozenset(name.lower() for name in allowed)
    if is_loopback(host):
        names = LOOPBACK_NAMES | {host.strip("[]").lower()}
        return Guard(names | more, token=secrets.token_urlsafe(24) if more - names else None)
    own = {host.strip("[]").lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return Guard(LOOPBACK_NAMES | own | more, host in WILDCARDS, secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str | None:
    """Return the name in a Host header, lower case, without port and brackets; None if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    plain = parts.path == "" and not parts.query and not parts.fragment and parts.username is None
    return parts.hostname.rstrip(".").lower() if plain and parts.hostname else None


def _is_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def protect(server: Flask, guard: Guard, scripts: Iterable[str]) -> None:
    """Check every request of a server and put the headers on every answer.

    Args:
        server: Flask's.
        guard: what is let in.
        scripts: hashes of the inline scripts of the page, as a Content-Security-Policy names them.
    """
    server.config["MAX_CONTENT_LENGTH"] = BODY_BYTES
    server.config["MAX_FORM_MEMORY_SIZE"] = FIELD_BYTES
    headers = _headers(scripts)

    @server.before_request
    def _check() -> BaseResponse | None:
        reason = _refusal(guard)
        if reason is not None:
            return Response(f"ganatomy: {reason}\n", 403, mimetype="text/plain")
        if request.method == "GET" and guard.accepts(request.args.get("token")):
            answer = redirect(_without_token(), 303)
            answer.set_cookie(guard.cookie, guard.proof, httponly=True, samesite="Lax", path="/")
            return answer
        if not guard.knows(request.cookies.get(guard.cookie)):
            text = "ganatomy: this dashboard wants its token; open the address that it printed when it started\n"
            return Response(text, 401, mimetype="text/plain")
        return None

    @server.after_request
    def _seal(answer: BaseResponse) -> BaseResponse:
        for name, value in headers.items():
            answer.headers.setdefault(name, value)
        return answer


def _refusal(guard: Guard) -> str | None:
    """Return why the request is refused, whoever sent it."""
    host = request.headers.get("Host", "")
    if not guard.host_allowed(host):
        return f"no page is served under the name {host[:80]!r}"
    origin = request.headers.get("Origin")
    if origin is not None and _origin_name(origin) != host.lower():
        return "the request comes from another page"
    site, mode = request.headers.get("Sec-Fetch-Site"), request.headers.get("Sec-Fetch-Mode")
    if site in ("cross-site", "same-site") and not (request.method == "GET" and mode == "navigate"):
        return "the request comes from another page"
    return None


def _origin_name(origin: str) -> str | None:
    """Return the name and port in an Origin header, lower case; None if it is malformed."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _without_token() -> str:
    """Return the path and the query that were asked for, without the token: always a place on this server."""
    rest = urlencode([(name, value) for name, value in request.args.items(multi=True) if name != "token"])
    return "/" + request.path.lstrip("/") + (f"?{rest}" if rest else "")


def _headers(scripts: Iterable[str]) -> dict[str, str]:
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", *scripts]),
        "style-src": "'self' 'unsafe-inline'",  # the components bring their styles as style elements
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
