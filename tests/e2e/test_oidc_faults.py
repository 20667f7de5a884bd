"""A provider that misbehaves: every login is refused in bounded time, with its own reason in the audit log."""

import time

import pytest

from harness.oidc_faulty import FAULTS
from harness.product import FAULTY
from harness.ssh import DEVICE_PROMPT, Terminal

CONFIG = FAULTY + 'timeout = "3s"\n'

# fault -> the reasons that are right for it
REFUSED = {
    "access-denied": {"denied-by-user"},
    "code-expired": {"code-expired"},
    "hang-discovery": {"backend-unavailable"},
    "hang-device": {"backend-unavailable"},
    "500-discovery": {"backend-unavailable"},
    "500-device": {"backend-unavailable"},
    "other-issuer": {"backend-unavailable", "bad-token"},
    "redirect": {"backend-unavailable", "bad-token"},
    "garbage": {"backend-unavailable", "bad-token"},
    "huge": {"backend-unavailable", "bad-token"},
    "no-id-token": {"no-id-token"},
    "wrong-signature": {"bad-token"},
    "unknown-key": {"bad-token"},
    "wrong-audience": {"wrong-audience"},
    "wrong-issuer": {"bad-token"},
    "expired": {"token-expired"},
    "not-yet-valid": {"token-expired"},
    "no-expiry": {"bad-token"},
    "alg-none": {"bad-token"},
    "alg-hs256": {"bad-token"},
    "another-user": {"wrong-subject"},
    "empty-name": {"wrong-subject", "bad-token"},
    "no-name": {"wrong-subject", "bad-token"},
    "odd-name": {"wrong-subject", "bad-token"},
}
# Faults that last as long as the code does: the broker goes on trying, as RFC 8628 wants.
UNTIL_THE_CODE_EXPIRES = {
    "hang-token": {"backend-unavailable", "code-expired"},
    "500-token": {"backend-unavailable", "code-expired"},
    "pending": {"code-expired"},
}
ACCEPTED = {"", "502-once", "zero-interval"}
ELSEWHERE = {"another-subject", "odd-groups", "rotated-key", "slow-down"}       # tests of their own below


def test_every_fault_has_its_test():
    assert set(REFUSED) | set(UNTIL_THE_CODE_EXPIRES) | ACCEPTED | ELSEWHERE == set(FAULTS)


@pytest.fixture
def box(make_gpubox, faulty):
    return make_gpubox(CONFIG)


def try_dave(box, faulty, fault, timeout=40):
    """One login of dave; whatever prompt comes is answered with Enter."""
    faulty.begin(fault)
    terminal = Terminal(box, "dave", "id", timeout=timeout)
    if terminal.expect(DEVICE_PROMPT, r"Password: $", r"Permission denied") < 2:
        terminal.line("")
    return terminal.press_enter(timeout=timeout)


def assert_refused(box, session, reasons):
    assert not session.accepted, session
    line = box.wait_audit(event="auth", user="dave")
    assert line["reason"] in reasons and line["result"] in ("denied", "error"), line
    assert box.run(["getent", "passwd", "dave"], check=False).returncode == 2
    assert box.gpuhub("status").returncode == 0


@pytest.mark.parametrize("fault", REFUSED)
def test_refused(box, faulty, fault):
    session = try_dave(box, faulty, fault)
    assert session.seconds < 30, session
    assert_refused(box, session, REFUSED[fault])


@pytest.mark.parametrize("fault", UNTIL_THE_CODE_EXPIRES)
def test_bounded_by_the_life_of_the_code(box, faulty, fault):
    faulty.expires_in = 8
    session = try_dave(box, faulty, fault, timeout=60)
    assert session.seconds < 40, session
    assert_refused(box, session, UNTIL_THE_CODE_EXPIRES[fault])


@pytest.mark.parametrize("fault", sorted(ACCEPTED))
def test_accepted(box, faulty, fault):
    session = try_dave(box, faulty, fault, timeout=90)
    assert session.status == 0, session


def test_the_poll_keeps_to_the_interval(box, faulty):
    faulty.interval = 2
    faulty.expires_in = 9
    try_dave(box, faulty, "pending", timeout=40)
    asked = next(request.at for request in faulty.requests if request.path == "/device")
    polls = faulty.polled()
    assert polls[0] - asked >= 1.9, "the interval is waited before the first poll too"
    assert all(later - earlier >= 1.9 for earlier, later in zip(polls, polls[1:], strict=False)), polls


def test_slow_down_is_for_good(box, faulty):
    """RFC 8628, 3.5: the interval grows by 5 seconds, for this and all later polls."""
    assert try_dave(box, faulty, "slow-down", timeout=90).accepted
    polls = faulty.polled()
    gaps = [later - earlier for earlier, later in zip(polls, polls[1:], strict=False)]
    assert [gap >= wanted - 0.1 for gap, wanted in zip(gaps, (6, 11, 16), strict=True)] == [True] * 3, gaps


def test_a_key_that_the_provider_has_only_now_is_fetched(box, faulty):
    assert try_dave(box, faulty, "").accepted
    time.sleep(10)      # a stranger's tokens must not make the broker fetch keys all the time
    session = try_dave(box, faulty, "rotated-key")
    assert session.status == 0, session


def test_a_recycled_account_does_not_inherit_a_home(box, faulty):
    assert try_dave(box, faulty, "").accepted
    before = box.out(["id", "dave"])
    session = try_dave(box, faulty, "another-subject")
    assert not session.accepted
    box.wait_audit(event="auth", user="dave", reason="name-taken")
    assert box.out(["id", "dave"]) == before


def test_groups_of_an_odd_shape_are_no_groups(box, faulty):
    session = try_dave(box, faulty, "odd-groups")
    if session.accepted:
        assert "gpu-users" not in session.transcript
    else:
        box.wait_audit(event="auth", user="dave", reason="bad-token")


def test_a_hanging_provider_delays_nobody_else(box, faulty):
    box.add_user("ada", "first-Passw0rd")
    faulty.begin("hang-discovery")
    waiting = [Terminal(box, f"dave{n}") for n in range(3)]
    time.sleep(0.5)
    start = time.monotonic()
    assert box.pam("ada", answers=("first-Passw0rd",)) == "PAM_SUCCESS"
    assert time.monotonic() - start < 2
    for terminal in waiting:
        terminal.close()
