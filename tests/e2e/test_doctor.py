"""`gpuhub doctor` on the installed package: quiet where all is well, and right about what is not."""

import json
import time

import pytest

from harness.oidc import ISSUER
from harness.product import CONFIG, LDAP, OIDC


def findings(box) -> dict[str, str]:
    """id → what, of the fatal ones; the exit status must fit."""
    done = box.gpuhub("doctor", "--json", check=False)
    found = {finding["id"]: finding["what"] for finding in json.loads(done.stdout) if finding["fatal"]}
    assert done.returncode == (1 if found else 0), done
    assert all(finding["remedy"] for finding in json.loads(done.stdout) if finding["fatal"]), done.stdout
    return found


@pytest.fixture
def box(make_gpubox):
    """A freshly installed package, running, without a configuration."""
    return make_gpubox()


def test_a_freshly_installed_package_is_well(box):
    done = box.gpuhub("doctor")
    assert done.stdout.endswith("\nNothing was found that would stop a login.\n"), done.stdout
    assert done.stdout.count("ok       ") == 6 and "note" not in done.stdout, done.stdout
    assert findings(box) == {}


def test_the_broker_is_down(box):
    box.stop_broker(9)
    assert list(findings(box)) == ["broker-down"]
    # The state of a box whose broker was never started, such as one made without the entrypoint.
    box.run(["rm", "-r", "/run/gpuhub"])
    assert "was ever started" in findings(box)["broker-down"]


def test_names_are_not_asked_of_us(box):
    box.run("sed -i 's/ gpuhub//' /etc/nsswitch.conf")
    assert list(findings(box)) == ["nsswitch"]
    box.run("rm /usr/lib/*/libnss_gpuhub.so.2")
    assert sorted(findings(box)) == ["nss-library", "nsswitch"]


def test_pam_does_not_ask_us(box):
    box.run("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --remove gpuhub")
    assert list(findings(box)) == ["pam-stack"]
    box.run("DEBIAN_FRONTEND=noninteractive pam-auth-update --package --enable gpuhub")
    assert findings(box) == {}
    box.run("rm /usr/lib/*/security/pam_gpuhub.so")
    assert list(findings(box)) == ["pam-stack"]


def test_sshd_asks_nothing(box):
    """Debian's own setting, and sshd's own word for what it runs with."""
    box.run("rm /etc/ssh/sshd_config.d/50-gpuhub.conf")
    assert list(findings(box)) == ["sshd-keyboard-interactive"]
    # Without host keys sshd does not say; its files do.
    box.run("rm -f /etc/ssh/ssh_host_*")
    assert list(findings(box)) == ["sshd-keyboard-interactive"]


def test_the_configuration_is_wrong(box):
    box.write_file(CONFIG, "[ids]\n\nuid_rang = [70000, 80000]\n", mode=0o640, owner="root:gpuhub")
    assert findings(box)["config"].startswith(f"{CONFIG}:3: unknown field")


def test_homes_cannot_be_made(box):
    box.run("chmod 0777 /home")
    assert list(findings(box)) == ["homes"]


def test_a_declared_name_is_local(box):
    box.write_file(CONFIG, '[[builtin.user]]\nname = "daemon"\n', mode=0o640, owner="root:gpuhub")
    assert list(findings(box)) == ["local-name"]


def test_somebody_else_than_root_is_told_what_was_not_looked_at(box):
    done = box.gpuhub("doctor", "--json", user="nobody")
    assert [finding["id"] for finding in json.loads(done.stdout)] == ["not-root"], done.stdout


def test_the_directory_is_away(make_gpubox, slapd):
    box = make_gpubox(LDAP)
    assert findings(box) == {}
    slapd.stop()
    start = time.monotonic()
    assert list(findings(box)) == ["ldap-unreachable"]
    assert time.monotonic() - start < 20


def test_the_provider_is_away_or_another_one(make_gpubox, oidc):
    box = make_gpubox(OIDC)
    notes = {note["id"]: note for note in json.loads(box.gpuhub("doctor", "--json").stdout)}
    assert not any(note["fatal"] for note in notes.values()), notes
    assert notes["oidc"]["seconds"] == 120 and "sshd-grace" not in notes, "as long as sshd gives her"
    box.write_file("/etc/ssh/sshd_config.d/10-grace.conf", "LoginGraceTime 119\n")
    grace = [note for note in json.loads(box.gpuhub("doctor", "--json").stdout) if note["id"] == "sshd-grace"]
    assert "119 seconds" in grace[0]["what"] and "120 seconds" in grace[0]["what"], grace
    box.configure(OIDC.replace('client_id = "gpuhub"', 'client_id = "gpuhubb"'))
    assert list(findings(box)) == ["oidc-no-code"]
    box.configure(OIDC.replace(ISSUER, ISSUER + "/"))
    assert list(findings(box)) == ["oidc-issuer"]
    box.configure(OIDC)
    oidc.stop()
    assert list(findings(box)) == ["oidc-unreachable"]


def test_a_certificate_that_is_not_trusted(make_gpubox, oidc):
    box = make_gpubox(OIDC)
    box.configure("\n".join(line for line in OIDC.splitlines() if not line.startswith("ca_file")))
    assert list(findings(box)) == ["oidc-certificate"]
