"""Ids on a box: who gets which, by which groups of the machine, in which namespace, and how they move in."""

import json
import re

import pytest

from harness import product
from harness.product import LDAP
from harness.ssh import ssh_kbdint
from test_container import ENTRY, log_in

PASSWORD = "first-Passw0rd"


# ---- groups -------------------------------------------------------------------------------------

def test_a_primary_group_for_all(make_gpubox):
    box = make_gpubox('[ids]\nprimary_group = "people"\n')
    box.gpuhub("group", "add", "ml")
    for name in ("ada", "ben"):
        box.add_user(name, PASSWORD, "--groups", "ml")
        assert box.out(["id", "-gn", name]) == "people"
        assert box.out(["id", "-Gn", name]) == "people ml"
    assert box.run(["getent", "group", "ada"], check=False).returncode == 2, "no group of her own"
    session = ssh_kbdint(box, "ada", [PASSWORD], "touch x && stat -c '%U %G' x")
    assert "ada people" in session.transcript, session


def test_a_gpu_s_group_is_joined_by_rule_and_by_root_s_list(make_gpubox):
    box = make_gpubox(up=False)
    # As a container is given a device: the number is the host's, and no group here has it.
    box.run("mknod /dev/gpu0 c 1 3 && chgrp 987 /dev/gpu0 && chmod 660 /dev/gpu0")
    box.configure('[[local_group]]\ndevice = "/dev/gpu0"\ngroups = ["ml"]\n[[local_group]]\nname = "video"\n')
    box.up()
    box.gpuhub("group", "add", "ml")
    box.add_user("ada", PASSWORD, "--groups", "ml")
    box.add_user("ben", PASSWORD)
    groups = lambda name: box.out(["id", "-G", name]).split()  # noqa: E731
    notes = lambda: [n["what"] for n in json.loads(box.gpuhub("doctor", "--json").stdout) if n["id"] == "local-group"]  # noqa: E731
    assert "987" not in groups("ada") and "44" not in groups("ada"), "root has allowed nothing"
    assert len(notes()) == 2 and "/dev/gpu0 (gid 987)" in notes()[0], notes()
    box.write_file("/etc/gpuhub/extra-gids", "/dev/gpu0   # a GPU\n44\n", mode=0o644)
    assert notes() == []
    assert "987" in groups("ada") and "44" in groups("ada")
    assert "987" not in groups("ben") and "44" in groups("ben"), "only whom the rule names"
    assert "44(video)" in box.out(["id", "ada"])
    # It can be opened: it is /dev/null by another name.
    session = ssh_kbdint(box, "ada", [PASSWORD], "cat /dev/gpu0 && echo opened")
    assert "opened" in session.transcript, session
    assert box.run(["setpriv", "--reuid=ben", "--regid=44", "--init-groups", "cat", "/dev/gpu0"],
                   check=False).returncode == 1
    # Whoever could write the list could join any group.
    box.run("chmod 666 /etc/gpuhub/extra-gids")
    assert "987" not in groups("ada") and len(notes()) == 2


def test_a_collision_is_audited_recorded_and_never_decided_again(make_gpubox):
    box = make_gpubox('[ids]\nuid_range = [70000, 70031]\nregistry = "local"\n', sshd=False)
    names = [f"user{n}" for n in range(24)]
    for name in names:
        box.gpuhub("user", "add", name)
    ids = {name: box.out(["id", "-u", name]) for name in names}
    assert len(set(ids.values())) == len(names)
    collided = {line["user"] for line in box.audit(event="id-collision")}
    assert collided and collided < set(names), "of 24 names in 32 ids some want the same one"
    given = json.loads(box.gpuhub("idmap", "export", "--format", "json").stdout)
    assert {row["name"]: str(row["id"]) for row in given if row["kind"] == "user"} == ids
    # The one who had the id that another wanted goes. It is not given again, and nobody moves.
    gone = next(name for name in names if name not in collided)
    box.gpuhub("user", "del", gone)
    box.restart_broker()
    for name in names:
        if name != gone:
            assert box.out(["id", "-u", name]) == ids[name]
    box.gpuhub("user", "add", "late")
    assert box.out(["id", "-u", "late"]) not in ids.values()


# ---- user namespaces ----------------------------------------------------------------------------

@pytest.fixture
def start_in_64k(podman, tmp_path):
    """Starts containers whose user namespace has 65,536 ids, with that configuration."""
    started = []

    def begin(config):
        file = tmp_path / "gpuhub.toml"
        file.write_text(config)
        maps = ("--uidmap=0:100000:65536", "--gidmap=0:100000:65536", f"--volume={file}:{product.CONFIG}:ro")
        started.append(podman.start("gpu-box", *ENTRY, options=maps))
        return started[-1]

    yield begin
    for container in started:
        podman.run("rm", "-f", "-t", "0", container.number, check=False)


def test_a_range_inside_64k_ids_works_with_a_registry(start_in_64k):
    container = start_in_64k('[ids]\nuid_range = [10000, 60000]\nregistry = "local"\n')
    assert re.search(r"uid=\d+\(ada\)", log_in(container)), container.logs()
    assert 10_000 <= int(container.out("id", "-u", "ada")) <= 60_000
    assert not [f for f in json.loads(container.exec("gpuhub", "doctor", "--json", check=False).stdout)
                if f["id"] in ("config", "uid-range")]


@pytest.mark.parametrize("config, why", [
    ("", "1000000000 is not"),
    ('[ids]\nuid_range = [70000, 80000]\nregistry = "local"\n', "70000 is not"),
    ("[ids]\nuid_range = [10000, 60000]\n", "fewer than 16777216 ids"),
])
def test_ids_that_are_not_there_and_small_ranges_alone_are_refused(start_in_64k, config, why):
    container = start_in_64k(config)
    container.wait("/bin/bash", "-c", ": < /dev/tcp/127.0.0.1/2222", what="sshd")
    assert why in container.logs(), container.logs()
    assert container.exec("gpuhub", "status", check=False).returncode != 0, "the broker does not serve"
    found = json.loads(container.exec("gpuhub", "doctor", "--json", check=False).stdout)
    assert [f for f in found if f["fatal"] and why in f["what"]], found


# ---- moving in ----------------------------------------------------------------------------------

def test_ids_move_in_from_passwd_lines_and_out_to_another_box(make_gpubox):
    box = make_gpubox(LDAP.replace("[[provider]]", '[ids]\nregistry = "local"\n[[provider]]'))
    # As `getent -s sss passwd` or `-s ldap` prints them on the machine that is moved from.
    box.write_file("/root/people", "zoe:*:31001:31001:Zoe:/home/zoe:/bin/bash\nyan:x:31002:100::/home/yan:/bin/sh\n")
    box.write_file("/root/groups", "vision:*:31500:zoe,yan\n")
    box.run("mkdir -p /srv/old && touch /srv/old/hers && chown 31001 /srv/old/hers")
    box.add_user("zoe", PASSWORD)
    had = box.out(["id", "-u", "zoe"])
    box.run(f"touch /srv/old/now && chown {had} /srv/old/now")
    # She has an id here already: nothing is imported unless that is meant.
    refused = box.gpuhub("idmap", "import", "/root/people", "--format", "passwd", check=False)
    assert refused.returncode == 1 and "--replace" in refused.stderr + refused.stdout
    assert box.gpuhub("idmap", "show", "yan", check=False).returncode == 1, "not even the others"
    told = box.gpuhub("idmap", "import", "/root/people", "--format", "passwd", "--replace", "--dry-run",
                      "--files-under", "/srv").stdout
    assert "/srv/old/now" in told and "/srv/old/hers" in told, told
    assert box.out(["id", "-u", "zoe"]) == had, "a dry run changes nothing"
    box.gpuhub("idmap", "import", "/root/people", "--format", "passwd", "--replace")
    box.gpuhub("idmap", "import", "/root/groups", "--format", "group")
    assert box.out(["id", "-u", "zoe"]) == "31001"
    assert box.out(["id", "-g", "zoe"]) == "31001" and box.out(["id", "-gn", "zoe"]) == "zoe", "and her own group"
    box.gpuhub("group", "add", "vision")
    assert box.out(["getent", "group", "vision"]).split(":")[2] == "31500"
    assert "retired" in box.gpuhub("idmap", "show", "zoe").stdout
    assert box.gpuhub("idmap", "check").returncode == 0
    for form in ("csv", "json"):
        text = box.gpuhub("idmap", "export", "--format", form).stdout
        other = make_gpubox(name="gpu2", sshd=False)
        other.write_file(f"/root/ids.{form}", text)
        other.gpuhub("idmap", "import", f"/root/ids.{form}")
        assert other.gpuhub("idmap", "export", "--format", form).stdout == text
        other.add_user("zoe", PASSWORD)
        assert other.out(["id", "-u", "zoe"]) == "31001"
        # What was hers once is nobody's for ever.
        taken = other.gpuhub("idmap", "set", "user", "mallory", had, check=False)
        assert taken.returncode == 1 and "zoe" in taken.stderr + taken.stdout
    box.gpuhub("idmap", "move", "user", "yan", "yanis")
    assert "31002" in box.gpuhub("idmap", "show", "yanis").stdout


def test_where_bindings_go_with_the_container_the_doctor_says_so(make_gpubox, slapd):
    box = make_gpubox(LDAP)
    found = json.loads(box.gpuhub("doctor", "--json").stdout)
    assert [f["id"] for f in found if f["id"] == "state-lost"] == ["state-lost"], found
    box.configure(LDAP.replace("[[provider]]", '[ids]\nregistry = "local"\n[[provider]]'))
    found = json.loads(box.gpuhub("doctor", "--json").stdout)
    assert not [f for f in found if f["id"] == "state-lost"], found
