"""The package: it comes without a question, stays out of the way, and takes back all that it added."""

import hashlib
import subprocess
import time

from harness import product, roots
from harness.places import CHECKOUT
from harness.ssh import ssh_kbdint

PASSWORD = "first-Passw0rd"


def test_installation_upgrade_removal_and_purge_in_a_clean_root(package, lan, capsys):
    """packaging/prove-install has the checks, one a line; a maintainer can run it without this harness."""
    done = subprocess.run([str(CHECKOUT / "packaging" / "prove-install"), str(roots.BASE.path), str(package)],
                          capture_output=True, text=True, timeout=600)
    failed = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
    assert done.returncode == 0, "\n".join(failed) + done.stderr


def files(box) -> dict[str, str]:
    """Every file of the root with its digest, owner and mode; caches, logs and derived files apart."""
    listing = box.out(
        "find / -xdev \\( -path /tmp -o -path /var/cache -o -path /var/log -o -path /var/lib/apt"
        " -o -path /var/lib/dpkg -o -path /root \\) -prune -o ! -type d -printf '%p %M %u %g %s %l\\n'")
    derived = ("/etc/ld.so.cache", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/var/lib/pam/")
    lines = [line for line in listing.splitlines() if not line.startswith(derived)]
    etc = box.out("find /etc -type f ! -name '*-' ! -name ld.so.cache -exec sha256sum {} +").splitlines()
    return {line.split()[0]: line for line in lines} | {"sum " + line.split()[1]: line for line in etc}


def test_a_box_with_sshd_is_as_before_after_the_purge(make_box, package):
    box = make_box()
    before = files(box)
    said = box.install_deb(package)
    assert "dpkg-reconfigure" not in said
    box.start_broker()
    box.run(["gpuhub", "user", "add", "ada", "--password-stdin"], input=PASSWORD + "\n")
    box.start_sshd()
    assert ssh_kbdint(box, "ada", [PASSWORD]).accepted
    box.run(["apt-get", "-q", "-y", "purge", "gpuhub"], env={"DEBIAN_FRONTEND": "noninteractive"})
    box.run("rm -rf /home/ada")
    after = files(box)
    assert {k: v for k, v in after.items() if before.get(k) != v} == {}
    assert set(before) == set(after)
    assert not box.pids("gpuhubd")


def test_the_machine_works_on_after_the_purge(make_box, package):
    box = make_box()
    box.run(["useradd", "-m", "-s", "/bin/bash", "tess"])
    box.run(["chpasswd"], input="tess:unixpw\n")
    box.install_deb(package)
    box.run(["dpkg", "--purge", "gpuhub"])
    box.start_sshd(KbdInteractiveAuthentication="yes")
    assert ssh_kbdint(box, "tess", ["unixpw"]).accepted


def test_state_survives_removal_and_an_upgrade(make_gpubox, package):
    box = make_gpubox()
    box.add_user("ada", PASSWORD)
    uid = box.out(["id", "-u", "ada"])
    box.run(["dpkg", "--remove", "gpuhub"])
    assert box.run(["getent", "passwd", "ada"], check=False).returncode == 2
    box.install_deb(package)
    box.start_broker()
    assert box.out(["id", "-u", "ada"]) == uid
    assert ssh_kbdint(box, "ada", [PASSWORD]).accepted


def test_what_it_puts_in_place(make_gpubox):
    box = make_gpubox(up=False)
    assert "/man/" in box.out(["dpkg", "-L", "gpuhub"])
    multiarch = box.out(["dpkg", "--print-architecture"]).replace("amd64", "x86_64") + "-linux-gnu"
    for path in (f"/usr/lib/{multiarch}/security/pam_gpuhub.so", f"/usr/lib/{multiarch}/libnss_gpuhub.so.2",
                 "/usr/bin/gpuhub-entrypoint", "/etc/ssh/sshd_config.d/50-gpuhub.conf"):
        assert path in box.out(["dpkg", "-L", "gpuhub"]).splitlines()
    box.run(["mkdir", "-p", "/run/sshd"])
    effective = box.out(["/usr/sbin/sshd", "-T"]).splitlines()
    assert "kbdinteractiveauthentication yes" in effective and "usepam yes" in effective
    assert "gpuhub" in box.out("grep ^passwd: /etc/nsswitch.conf")
    assert "/etc/gpuhub/gpuhub.toml" in box.out("dpkg-query -W -f '${Conffiles}' gpuhub")


def test_nothing_of_the_package_runs_or_resolves_during_an_image_build(make_gpubox):
    box = make_gpubox(up=False)
    assert not box.pids("gpuhubd")
    start = time.monotonic()
    box.run(["useradd", "-m", "builder"])
    box.run("for i in $(seq 50); do getent passwd nobody-$i; done", check=False)
    assert time.monotonic() - start < 5


def test_the_package_under_test_is_the_one_that_was_named(make_gpubox, package):
    box = make_gpubox(up=False)
    unpacked = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True).stdout
    binary = subprocess.run(["tar", "-xO", "./usr/sbin/gpuhubd"], input=unpacked, capture_output=True, check=True).stdout
    assert box.out(["sha256sum", "/usr/sbin/gpuhubd"]).split()[0] == hashlib.sha256(binary).hexdigest()
    assert product.package() == package
