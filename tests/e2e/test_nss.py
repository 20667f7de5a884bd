"""The people of the builtin directory are seen by everything that asks the C library."""

import re

import pytest

from harness import product

PASSWORD = "first-Passw0rd"


@pytest.fixture
def box(make_gpubox):
    box = make_gpubox(sshd=False)
    box.gpuhub("group", "add", "ml", "--gid", "1000000500")
    box.gpuhub("group", "add", "empty")
    box.add_user("ada", PASSWORD, "--uid", "1000000001", "--full-name", "Ada Adams", "--groups", "ml")
    return box


def test_getent(box):
    entry = box.out(["getent", "passwd", "ada"]).split(":")
    assert entry[0] == "ada" and entry[1] == "*" and entry[2] == "1000000001"
    assert entry[4] == "Ada Adams" and entry[5] == "/home/ada" and entry[6] == "/bin/bash"
    assert box.out(["getent", "passwd", "1000000001"]).split(":") == entry
    assert box.out(["getent", "group", "ml"]) == "ml:*:1000000500:ada"
    assert box.out(["getent", "group", "1000000500"]) == "ml:*:1000000500:ada"
    assert re.fullmatch(r"empty:\*:\d+:", box.out(["getent", "group", "empty"]))
    for database, key in (("passwd", "nobody-here"), ("passwd", "1999999999"), ("group", "no-group")):
        assert box.run(["getent", database, key], check=False).returncode == 2


def test_enumeration_has_everybody_once(box):
    names = [line.split(":")[0] for line in box.out(["getent", "passwd"]).splitlines()]
    assert names.count("ada") == 1 and names.count("root") == 1
    assert "ml" in [line.split(":")[0] for line in box.out(["getent", "group"]).splitlines()]


def test_id_and_ls_and_getgrouplist(box):
    primary = box.out(["id", "-g", "ada"])
    assert f"uid=1000000001(ada) gid={primary}" in box.out(["id", "ada"])
    assert "1000000500(ml)" in box.out(["id", "ada"])
    assert set(box.out(["getent", "initgroups", "ada"]).split()[1:]) == {"1000000500"} or \
        {"1000000500", primary} == set(box.out(["getent", "initgroups", "ada"]).split()[1:])
    box.run("touch /tmp/hers && chown ada:ml /tmp/hers")
    assert box.out(["stat", "-c", "%u %g", "/tmp/hers"]) == "1000000001 1000000500"
    assert re.search(r"\bada\s+ml\b", box.out(["ls", "-l", "/tmp/hers"]))


def test_every_user_sees_them(box):
    box.run(["useradd", "tess"])
    assert box.out(["id", "-Gn", "ada"], user="tess").split()[-1] == "ml"
    assert box.out(["id", "-un"], user="ada") == "ada"
    assert "ml" in box.out(["id", "-Gn"], user="ada").split()


def test_setuid_programs_see_them(box):
    box.run("cp /usr/bin/id /tmp/id && chmod u+s /tmp/id")
    assert "euid=0(root)" in box.out(["/tmp/id"], user="ada")


def test_without_the_broker_what_was_published_is_still_known(box):
    before = [box.out(["getent", "passwd", "ada"]), box.out(["id", "ada"])]
    for number in (15, 9):
        box.stop_broker(number)
        assert [box.out(["getent", "passwd", "ada"]), box.out(["id", "ada"])] == before
        box.start_broker()


def test_lookups_are_quick_with_a_dead_broker_and_with_a_hanging_one(box):
    for number in (9, 19):
        box.kill("gpuhubd", number)
        took = box.out("time -p (getent passwd nobody-here; getent group no-group; id ada) 2>&1 | true; "
                       "s=$(date +%s%N); getent passwd nobody-here; ls -l /etc >/dev/null; id ada >/dev/null; "
                       "echo $(( ($(date +%s%N) - s) / 1000000 ))").splitlines()[-1]
        assert int(took) < 1500, f"{took} ms"
        box.kill("gpuhubd", 18)
        box.restart_broker()


def test_what_is_removed_is_gone_at_once(box):
    box.gpuhub("user", "del", "ada")
    assert box.run(["getent", "passwd", "ada"], check=False).returncode == 2
    assert box.run(["getent", "passwd", "1000000001"], check=False).returncode == 2
    assert box.out(["getent", "group", "ml"]) == "ml:*:1000000500:"


def test_an_id_is_never_given_again(box):
    box.add_user("fay", PASSWORD)
    first = box.out(["id", "-u", "fay"])
    box.gpuhub("user", "del", "fay")
    done = box.gpuhub("user", "add", "gil", "--uid", first, "--password-stdin", input=PASSWORD + "\n", check=False)
    assert done.returncode == 1, done


def test_local_accounts_are_never_shadowed(box):
    box.run(["useradd", "-u", "1500", "tess"])
    for arguments in (("user", "add", "tess"), ("user", "add", "root"), ("user", "add", "hal", "--uid", "1500"),
                      ("user", "add", "hal", "--uid", "0"), ("user", "add", "hal", "--uid", "61200"),
                      ("group", "add", "sudo"), ("group", "add", "docker"), ("group", "add", "ml2", "--gid", "27")):
        options = ("--password-stdin",) if arguments[0] == "user" else ()
        done = box.gpuhub(*arguments, *options, input=PASSWORD + "\n", check=False)
        assert done.returncode == 1, (arguments, done)
    assert box.out(["id", "-u", "tess"]) == "1500"
    # One that becomes local later wins too.
    box.run("echo 'ada:x:1700:1700::/:/bin/sh' >> /etc/passwd")
    assert box.out(["id", "-u", "ada"]) == "1700"


@pytest.mark.parametrize("name", ["1234", "-ada", ".ada", "a:b", "a/b", "a\nb", "", "a b", "x" * 300])
def test_odd_names_are_not_taken(box, name):
    done = box.gpuhub("user", "add", "--password-stdin", "--", name, input=PASSWORD + "\n", check=False)
    assert done.returncode != 0


def test_in_a_chroot_and_after_closing_every_descriptor(box):
    script = (
        "use POSIX; POSIX::close($_) for 3..255;"
        "my @e = getpwnam('ada'); print $e[2], qq{\\n};"
        "POSIX::close($_) for 3..255;"
        "@e = getpwuid(1000000001); print $e[0], qq{\\n};"
        "if (fork() == 0) { @e = getgrnam('ml'); print $e[2], qq{\\n}; exit } wait;"
        "mkdir('/tmp/empty'); chroot('/tmp/empty') or die; chdir('/'); POSIX::close($_) for 3..255;"
        "@e = getgrgid(1000000500); print $e[0], qq{\\n};"
        "@e = getpwnam('nobody-here'); print scalar(@e), qq{\\n};"
        # She who drops her rights in there is still found.
        "$( = $) = 1000000500; $< = $> = 1000000001; @e = getpwnam('ada'); print $e[7], qq{\\n};")
    assert box.out(["perl", "-e", script]).split() == ["1000000001", "ada", "1000000500", "ml", "0", "/home/ada"]


def test_nothing_is_there_before_the_broker_was_ever_started(make_gpubox):
    """RUN lines of a Dockerfile: the package is installed, no broker has run."""
    box = make_gpubox(up=False)
    assert box.run(["getent", "passwd", "ada"], check=False, timeout=5).returncode == 2
    box.run(["useradd", "-m", "tess"], timeout=10)
    box.run(["adduser", "--disabled-password", "--gecos", "", "ted"], timeout=20)


def test_status(box):
    status = box.gpuhub("status").stdout
    assert "broker" in status and "1 users" in status
    assert product.CONFIG and box.gpuhub("status", "--json").stdout.startswith("{")
