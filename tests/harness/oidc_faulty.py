"""An identity provider that misbehaves on request, for the faults that no real one offers.

It imitates RFC 8628 (OAuth 2.0 Device Authorization Grant: sections 3.1 to 3.5) and OpenID Connect
Core 1.0 / Discovery 1.0 (the ID token, its validation in 3.1.3.7, the discovery document) closely
enough that with no fault chosen a login by it succeeds. It runs in threads of this process, which must
be on the Lan.
"""

import base64
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time
import urllib.parse
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .ca import Authority
from .lan import HOSTS

HOST = "faulty.test"
PORT = 4500
ISSUER = f"https://{HOST}:{PORT}"
CLIENT = "gpuhub"
HANG = 120      # seconds: longer than any deadline that a login may have

# fault -> what the provider does then; everything else stays as it should be
FAULTS = {
    "": "nothing is wrong",
    "pending": "nobody ever signs in",
    "slow-down": "each poll is answered with slow_down until 3 were sent",
    "access-denied": "the person pressed Abort",
    "code-expired": "the code has expired (expired_token)",
    "hang-discovery": "the discovery document never comes",
    "hang-device": "the device authorization never comes",
    "hang-token": "the token answer never comes",
    "500-discovery": "HTTP 500 for the discovery document",
    "500-device": "HTTP 500 for the device authorization",
    "500-token": "HTTP 500 for every token request",
    "502-once": "HTTP 502 for the first token request only",
    "garbage": "the token answer is not JSON",
    "huge": "the token answer is 64 MiB",
    "redirect": "the token request is redirected to another host",
    "other-issuer": "the discovery document names another issuer (OIDC Discovery 4.3)",
    "no-id-token": "an access token only",
    "wrong-signature": "signed by another key under the right key id",
    "unknown-key": "signed by a key that the JWKS does not have",
    "rotated-key": "signed by a key that the JWKS has since a moment ago",
    "wrong-audience": "meant for another client",
    "wrong-issuer": "issued by somebody else",
    "expired": "the ID token expired an hour ago",
    "not-yet-valid": "the ID token is valid in an hour (nbf)",
    "no-expiry": "the ID token has no exp",
    "alg-none": "an unsigned ID token",
    "alg-hs256": "an ID token signed by HMAC with the public key as the secret",
    "another-user": "somebody else signed in with the code",
    "another-subject": "the same name with another subject: a recycled account",
    "empty-name": "the name claim is empty",
    "no-name": "there is no name claim",
    "odd-name": "the name claim holds a newline and a colon",
    "odd-groups": "the groups claim is not a list of strings",
    "zero-interval": "interval is 0",
}


@dataclass
class Request:
    """One request that came in: when, to which path, with which form fields."""

    at: float
    path: str
    fields: dict[str, str]


class FaultyIdp:
    """`with FaultyIdp(authority) as idp: idp.fault = "wrong-audience"; idp.account = "dave"; …`"""

    issuer = ISSUER

    def __init__(self, authority: Authority, interval: int = 1, expires_in: int = 60):
        self.fault = ""
        self.account = "dave"
        self.interval, self.expires_in = interval, expires_in
        self.requests: list[Request] = []
        self.polls = 0
        self._ending = threading.Event()
        self._keys = {name: rsa.generate_private_key(65537, 2048) for name in ("current", "next", "stranger")}
        certificate, key = authority.issue(HOST, HOSTS[HOST])
        pair = authority.directory / "faulty.pem"
        pair.write_text(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        handler = type("Handler", (_Handler,), {"idp": self, "tls": context})
        self._server = http.server.ThreadingHTTPServer((HOSTS[HOST], PORT), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def begin(self, fault: str = "", account: str = "dave") -> None:
        """A new scene: what was seen before is forgotten."""
        if fault not in FAULTS:
            raise ValueError(f"no fault {fault!r}; there are {sorted(FAULTS)}")
        self.fault, self.account, self.polls = fault, account, 0
        self.requests.clear()

    def polled(self) -> list[float]:
        """When the token endpoint was asked, in seconds on the monotonic clock."""
        return [request.at for request in self.requests if request.path == "/token"]

    # ---- the endpoints: each returns (status, body), or None after it hung up --------------------

    def answer(self, path: str, fields: dict[str, str]):
        self.requests.append(Request(time.monotonic(), path, fields))
        endpoint = {
            "/.well-known/openid-configuration": self._discovery, "/jwks": self._jwks,
            "/device": self._device, "/token": self._token}.get(path)
        return endpoint(fields) if endpoint else (404, {"error": "not_found"})

    def _stumble(self, where: str):
        """The faults that one endpoint has by itself."""
        if self.fault == f"hang-{where}":
            self._ending.wait(HANG)
            return None
        if self.fault == f"500-{where}":
            return 500, "<h1>Internal Server Error</h1>"
        return ()

    def _discovery(self, _):
        stumble = self._stumble("discovery")
        if stumble != ():
            return stumble
        issuer = "https://elsewhere.test" if self.fault == "other-issuer" else ISSUER
        return 200, {
            "issuer": issuer, "jwks_uri": f"{ISSUER}/jwks", "token_endpoint": f"{ISSUER}/token",
            "authorization_endpoint": f"{ISSUER}/auth", "device_authorization_endpoint": f"{ISSUER}/device",
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"], "scopes_supported": ["openid", "profile", "email"],
            "grant_types_supported": ["urn:ietf:params:oauth:grant-type:device_code"]}

    def _jwks(self, _):
        names = ["current", "next"] if self.fault == "rotated-key" and self.polls else ["current"]
        return 200, {"keys": [self._jwk(name) for name in names]}

    def _jwk(self, name: str) -> dict:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._keys[name].public_key()))
        return {**key, "kid": name, "use": "sig", "alg": "RS256"}

    def _device(self, _):
        stumble = self._stumble("device")
        if stumble != ():
            return stumble
        return 200, {
            "device_code": "a-device-code-that-stays-secret", "user_code": "FLTY-CODE",
            "verification_uri": f"{ISSUER}/device", "expires_in": self.expires_in,
            "interval": 0 if self.fault == "zero-interval" else self.interval}

    def _token(self, _):
        self.polls += 1
        stumble = self._stumble("token")
        if stumble != ():
            return stumble
        refused = {"pending": "authorization_pending", "access-denied": "access_denied",
                   "code-expired": "expired_token"}.get(self.fault)
        if refused:
            return 400, {"error": refused}
        if self.fault == "slow-down" and self.polls <= 3:
            return 400, {"error": "slow_down"}
        if self.fault == "zero-interval" and self.polls <= 3:
            return 400, {"error": "authorization_pending"}
        if self.fault == "502-once" and self.polls == 1:
            return 502, "<h1>Bad Gateway</h1>"
        if self.fault == "garbage":
            return 200, "this is not JSON"
        if self.fault == "huge":
            return 200, "[" + " " * (64 << 20) + "]"
        if self.fault == "redirect":
            return 302, "https://sso.test:4400/token"
        answer = {"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 300}
        return 200, answer if self.fault == "no-id-token" else {**answer, "id_token": self._id_token()}

    def _id_token(self) -> str:
        now, fault = int(time.time()), self.fault
        name = "mallory" if fault == "another-user" else self.account
        claims = {
            "iss": "https://elsewhere.test" if fault == "wrong-issuer" else ISSUER,
            "aud": "another-app" if fault == "wrong-audience" else CLIENT,
            "sub": "subject-of-" + ("somebody-new" if fault == "another-subject" else name),
            "iat": now - (7200 if fault == "expired" else 0), "exp": now + (-3600 if fault == "expired" else 300),
            "preferred_username": {"empty-name": "", "odd-name": f"{name}:x\nroot:x:0:0"}.get(fault, name),
            "name": name.title(), "email": f"{name}@example.org", "email_verified": True,
            "groups": {"gpu-users": [1]} if fault == "odd-groups" else ["gpu-users"]}
        if fault == "not-yet-valid":
            claims["nbf"] = now + 3600
        if fault == "no-expiry":
            del claims["exp"]
        if fault == "no-name":
            del claims["preferred_username"]
        if fault == "alg-none":
            return jwt.encode(claims, None, algorithm="none")
        if fault == "alg-hs256":
            return self._confused(claims)
        signer = {"wrong-signature": "stranger", "unknown-key": "stranger", "rotated-key": "next"}.get(fault, "current")
        kid = {"unknown-key": "stranger", "rotated-key": "next"}.get(fault, "current")
        return jwt.encode(claims, self._keys[signer], algorithm="RS256", headers={"kid": kid})

    def _confused(self, claims: dict) -> str:
        """HMAC with the PEM of the public key: what a verifier accepts that lets the token choose."""
        secret = self._keys["current"].public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT", "kid": "current"}, claims)]
        signed = b".".join(_b64(part) for part in parts)
        return (signed + b"." + _b64(hmac.digest(secret, signed, hashlib.sha256))).decode()


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class _Handler(http.server.BaseHTTPRequestHandler):
    idp: FaultyIdp
    tls: ssl.SSLContext
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self):
        # The handshake is done here, in the connection's own thread: a slow client delays nobody.
        self.request = self.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self):
        self._reply({})

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self._reply(dict(urllib.parse.parse_qsl(text)))

    def _reply(self, fields: dict[str, str]) -> None:
        answer = self.idp.answer(urllib.parse.urlsplit(self.path).path, fields)
        if answer is None:
            self.close_connection = True
            return
        status, body = answer
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", data.decode())
            data = b""
        self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    def log_message(self, *_):
        """Silent: `idp.requests` has it all."""
