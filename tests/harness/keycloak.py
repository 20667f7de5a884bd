"""Keycloak's Admin REST API, beside a provider that has none: who the accounts of `oidc.py` are.

From <https://www.keycloak.org/docs-api/latest/rest-api/index.html>: `GET /admin/realms/{realm}/users` with `username`,
`exact`, `max`, and `GET .../users/{id}/groups`. It takes whatever token the provider's token endpoint gives for the
client credentials grant. It runs in threads of this process, which must be on the Lan.
"""

import http.server
import json
import ssl
import threading
import urllib.parse

from .ca import Authority
from .lan import HOSTS
from .oidc import OidcProvider

HOST = "faulty.test"
PORT = 4510
ROOT = f"https://{HOST}:{PORT}/admin/realms/lab"


class AdminApi:
    """`disabled` has the names of accounts that are switched off; `requests` what was asked."""

    def __init__(self, authority: Authority, provider: OidcProvider):
        self.provider, self.disabled, self.requests, self.away = provider, set(), [], False
        certificate, key = authority.issue(HOST, HOSTS[HOST])
        pair = authority.directory / "keycloak.pem"
        pair.write_text(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        handler = type("Handler", (_Handler,), {"api": self, "tls": context})
        self._server = http.server.ThreadingHTTPServer((HOSTS[HOST], PORT), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, target: str, authorization: str) -> tuple[int, object]:
        self.requests.append(target)
        url = urllib.parse.urlsplit(target)
        asked = dict(urllib.parse.parse_qsl(url.query))
        if self.away:
            return 503, {}
        if not authorization.startswith("Bearer ") or len(authorization) < 20:
            return 401, {"error": "HTTP 401 Unauthorized"}
        accounts = self.provider.accounts
        path = url.path.removeprefix("/admin/realms/lab/users")
        if not path:
            names = [name for name in accounts if asked.get("username", name) == name]
            return 200, [self._user(name) for name in names][:int(asked["max"])]
        match path.split("/"):
            case ["", name, "groups"] if name in accounts:
                return 200, [{"id": group, "name": group, "path": f"/{group}"} for group in accounts[name]["groups"]]
        return 404, {"error": "User not found"}

    def _user(self, name: str) -> dict:
        account = self.provider.accounts[name]
        first, last = account["name"].split()
        return {"id": name, "username": name, "firstName": first, "lastName": last, "email": account["email"],
                "emailVerified": account["email_verified"], "enabled": name not in self.disabled}


class _Handler(http.server.BaseHTTPRequestHandler):
    api: AdminApi
    tls: ssl.SSLContext
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self):
        self.request = self.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self):
        status, body = self.api.answer(self.path, self.headers.get("Authorization", ""))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Silent: `api.requests` has it all."""
