"""Directories whose servers DNS names, asked by the /etc/resolv.conf of the box."""

import json
import time

import pytest

from harness.box import wait_until
from harness.dns import RESOLV_CONF, Dns
from harness.product import LDAP, LDAP_STARTTLS
from harness.slapd import ALICE

BY_DNS = LDAP.replace('urls = ["ldaps://ldap.test"]', 'srv_domain = "test"\nconnect_timeout = "2s"')
BY_DNS_STARTTLS = LDAP_STARTTLS.replace('urls = ["ldap://ldap.test"]', 'srv_domain = "test"\nconnect_timeout = "2s"')

DEAD = ("ldap.test", 6, 1)
GOOD = ("ldap.test", 636, 2)


@pytest.fixture
def dns(lan):
    server = Dns(lan, "_ldaps._tcp.test")
    yield server
    server.stop()


@pytest.fixture
def by_dns(make_gpubox):
    def make(config=BY_DNS):
        box = make_gpubox(config, up=False)
        box.write_file("/etc/resolv.conf", RESOLV_CONF)
        return box.up(sshd=False)

    return make


def logs_in(box):
    return box.pam("alice", answers=(ALICE.password,)) == "PAM_SUCCESS"


def doctor(box):
    said = json.loads(box.gpuhub("doctor", "--json", check=False).stdout)
    return " ".join(finding["what"] for finding in said if finding["fatal"])


def test_dns_is_away_at_start_and_later(by_dns, dns, slapd):
    box = by_dns()
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    dns.start(DEAD, GOOD)
    wait_until(lambda: logs_in(box), "a login by the second server", 30)
    assert doctor(box) == ""
    # The answer is used beyond its time, which is 30 seconds at least, while there is no other.
    dns.stop()
    time.sleep(31)
    for _ in range(3):
        assert logs_in(box)
        time.sleep(1)
    # Then another is used, though nothing has failed; and when what it names does not work, DNS is asked again.
    dns.start(DEAD)
    wait_until(lambda: not logs_in(box), "the new answer", 30)
    dns.start(GOOD)
    wait_until(lambda: logs_in(box), "the newest answer", 30)


def test_strangers_and_names_of_others(by_dns, dns, slapd):
    dns.start(("ldap.example", 636, 1))
    box = by_dns()
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    assert "ldap.example is not under test" in doctor(box)
    # Under the domain, but another's name: its certificate says so.
    box.run("echo '127.0.0.2 impostor.test' >> /etc/hosts")
    dns.start(("impostor.test", 636, 1))
    wait_until(lambda: "impostor.test" in doctor(box), "the new answer", 30)
    assert box.pam("alice", answers=(ALICE.password,)) == "PAM_AUTHINFO_UNAVAIL"
    assert "certificate" in doctor(box)


def test_start_tls(by_dns, lan, slapd):
    dns = Dns(lan, "_ldap._tcp.test")
    dns.start(("ldap.test", 389, 1))
    try:
        assert logs_in(by_dns(BY_DNS_STARTTLS))
    finally:
        dns.stop()
