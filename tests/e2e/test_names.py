"""People of a provider with a directory API are known before they log in."""

import re

import pytest

from harness.keycloak import ROOT, AdminApi
from harness.oidc import READER, SECRET
from harness.product import OIDC
from harness.ssh import Terminal, authorize_key, ssh_key

CONFIG = OIDC.replace('"oidc"', '"keycloak"') + f"""
[provider.directory]
url = "{ROOT}"
client_id = "{READER}"
client_secret_file = "/etc/gpuhub/directory.secret"
cache_ttl = "1s"
"""


@pytest.fixture
def api(lan, ca, oidc):
    api = AdminApi(ca, oidc)
    yield api
    api.close()


@pytest.fixture
def box(make_gpubox, ca, api):
    box = make_gpubox(up=False)
    box.configure(CONFIG, ca)
    box.write_file("/etc/gpuhub/directory.secret", SECRET + "\n", mode=0o640, owner="root:gpuhub")
    return box.up()


def test_who_never_logged_in_is_known_and_the_same_after_her_first_login(box, api, oidc):
    before = box.out(["id", "dave"])
    assert re.match(r"uid=(\d+)\(dave\) gid=\1\(dave\) ", before) and "(gpu-users)" in before and "(vision)" in before
    assert box.out(["getent", "passwd", "dave"]).split(":")[4] == "Dave Dunn"
    assert box.run(["getent", "passwd", "nobody-there"], check=False).returncode == 2
    terminal = Terminal(box, "dave", "id; pwd")
    oidc.device.approve(terminal.device_code(), "dave")
    terminal.line("")
    session = terminal.finish()
    assert session.status == 0 and before in session.transcript.replace("\r", ""), session
    # Her provider switches her off: her key ends there, too.
    authorize_key(box, "dave", "/home/dave")
    assert ssh_key(box, "dave").accepted
    api.disabled.add("dave")
    assert not ssh_key(box, "dave").accepted
    box.wait_audit(event="account", user="dave", result="denied", reason="account-disabled")
    assert box.out(["id", "dave"]) == before
