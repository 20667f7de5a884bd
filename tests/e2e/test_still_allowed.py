"""People who signed in once, and come in by keys and passcodes: their provider is asked again whether they may."""

import time

import pytest

from harness.hub import PAM_SERVICE
from harness.oidc import ACCOUNTS
from harness.product import OIDC
from harness.ssh import authorize_key, ssh_key

from test_oidc import log_in
from test_passcode import ON, PASSCODE, form, with_passcode

AT_ONCE = 'ask_again = "0s"\n'


def a_box(make_gpubox, lines=AT_ONCE, more=""):
    box = make_gpubox(OIDC + lines + more)
    box.write_file("/etc/pam.d/jupyterhub", PAM_SERVICE)
    return box


def with_key(box, oidc, user):
    assert log_in(box, oidc, user).accepted
    authorize_key(box, user, f"/home/{user}")


def without(user):
    return {name: account for name, account in ACCOUNTS.items() if name != user}


def test_who_is_disabled_at_the_provider_is_refused_at_the_next_login_by_key(make_gpubox, oidc):
    box = a_box(make_gpubox)
    with_key(box, oidc, "dave")
    with_key(box, oidc, "erin")
    for _ in range(2):
        assert ssh_key(box, "dave").accepted, "each time with the token that came last time"
    oidc.set_accounts(without("dave"))
    refused = ssh_key(box, "dave")
    assert not refused.accepted and "no longer counts" in refused.transcript, refused
    line = box.wait_audit(event="account", user="dave", result="denied", reason="not-honoured")
    assert line["backend"] == "sso" and "invalid_grant" in line["detail"], line
    assert ssh_key(box, "erin").accepted, "of nobody else"
    # Enabled again, she has to show it once; whatever had happened to the broker meanwhile.
    oidc.set_accounts(ACCOUNTS)
    box.restart_broker()
    assert not ssh_key(box, "dave").accepted
    assert log_in(box, oidc, "dave").accepted
    assert ssh_key(box, "dave").accepted
    assert ssh_key(box, "erin").accepted, "what she can be asked about by outlives the broker"


def test_a_passcode_is_good_while_the_provider_honours_her(make_gpubox, oidc):
    box = a_box(make_gpubox, more=ON.removeprefix(OIDC))
    with_passcode(box, oidc, "dave")
    assert form(box, "dave", PASSCODE) == "PAM_SUCCESS"
    oidc.set_accounts(without("dave"))
    assert form(box, "dave", PASSCODE) == "PAM_ACCT_EXPIRED"
    box.wait_audit(event="auth", user="dave", result="denied", reason="not-honoured", method="passcode")


def test_groups_follow_by_the_same_call(make_gpubox, oidc):
    box = a_box(make_gpubox, AT_ONCE + 'required_groups = ["gpu-users", "ops"]\n')
    with_key(box, oidc, "dave")
    oidc.set_accounts({**ACCOUNTS, "dave": {**ACCOUNTS["dave"], "groups": ["gpu-users", "ops"]}})
    groups = ssh_key(box, "dave", "id -Gn").transcript.split()
    assert "ops" in groups and "vision" not in groups, groups
    oidc.set_accounts({**ACCOUNTS, "dave": {**ACCOUNTS["dave"], "groups": ["vision"]}})
    assert not ssh_key(box, "dave").accepted
    box.wait_audit(event="account", user="dave", result="denied", reason="not-allowed")
    oidc.set_accounts(ACCOUNTS)
    assert ssh_key(box, "dave").accepted, "in the group again, and nothing else has changed"


def test_the_provider_away_and_its_word_old(make_gpubox, oidc):
    box = a_box(make_gpubox, 'ask_again = "1s"\ngrace = "8s"\n')
    with_key(box, oidc, "dave")
    began = time.monotonic()
    oidc.stop()
    time.sleep(1.5)
    assert ssh_key(box, "dave").accepted
    line = box.wait_audit(event="account", user="dave", result="ok", count=2)
    assert "did not say" in line["detail"], line
    time.sleep(max(0, 9 - (time.monotonic() - began)))
    refused = ssh_key(box, "dave")
    assert not refused.accepted and "unavailable" in refused.transcript
    box.wait_audit(event="account", user="dave", result="error", reason="backend-unavailable")


@pytest.mark.parametrize("what", ["lost", "of-before"])
def test_nothing_to_ask_with(make_gpubox, oidc, ca, what):
    """The key is lost, or she signed in before the provider was asked again: it takes a sign-in."""
    box = a_box(make_gpubox, "" if what == "of-before" else AT_ONCE)
    with_key(box, oidc, "dave")
    if what == "lost":
        assert box.out(["stat", "-c", "%a %U", "/etc/gpuhub/grant.key"]).split() == ["600", "root"]
        box.run(["rm", "/etc/gpuhub/grant.key"])
    box.configure(OIDC + AT_ONCE, ca)
    box.restart_broker()
    refused = ssh_key(box, "dave")
    assert not refused.accepted
    box.wait_audit(event="account", user="dave", result="denied", reason="sign-in-needed")
    assert log_in(box, oidc, "dave").accepted
    assert ssh_key(box, "dave").accepted
