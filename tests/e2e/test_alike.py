"""The same people out of `files`, nslcd and gpuhub: every program must say the same of them, byte for byte.

What a program says is its output, its complaints and its exit status. gpuhub is asked twice: first when its
broker has met nobody, so that it must ask the directory, and again when it has. Who the people are, and how
their order comes to be one, is in `harness/alike.py`. Two things only are sorted before they are compared:

- The members of a group, since nslcd keeps them in a hash table and tells them in that one's order.
- Whom a system enumerates, since who comes first is nobody's promise.

Everybody here has a shell, and a name that gpuhub takes: what it says of others is its own decision.
"""

import concurrent.futures
import difflib
import re

import pytest

from harness import alike
from harness.alike import EVERYBODY, FILES, GROUPS, PEOPLE

NAMES = [one.name for one in PEOPLE]
IDS = [str(one.uid) for one in PEOPLE]
GROUP_NAMES = [one.name for one in GROUPS]
GROUP_IDS = [str(one.gid) for one in GROUPS]

# What is nobody's: other spellings, what a directory or a shell might take for more than a name, what is too
# long, and what is no name at all.
NOBODY = ["nobody-here", "ADA", "Ada", "kim", "KIM", "mAx", "PEOPLE", "Empty", "domain users", "", " ", " ada", "ada ",
          "ad*", "*", "ada)(uid=*", "(ada", "\\61da", "ada,ou=people", "uid=ada", "ada\nbob", "ada:x", "ada/..", "ada\\",
          "-ada", "--", "+", "@", ".", "é", "\x01", "ada@", "x" * 65, "x" * 300, "x" * 5000]
NO_ID = ["39999", "999999", "4294967294", "4294967295", "4294967296", "99999999999999999999", "-1", "-30001", "30001x",
         "0x7531", "30001.0", "65535", "61184", "12"]
LOCAL = ["root", "0", "www-data"]


@pytest.fixture(scope="module")
def boxes(lan, ca, slapd_session, package):
    alike.fill(slapd_session)
    made = []
    try:
        made.append(alike.files(lan))
        made.append(alike.nslcd(lan))
        made.append(alike.gpuhub(lan, ca))
        for box in made:
            alike.own_files(box)
        yield made
    finally:
        for box in made:
            box.close()
        alike.empty(slapd_session)


@pytest.fixture
def cold(boxes):
    alike.forget(boxes[-1])
    return boxes


def compare(boxes, script, keys=(), user=None, order=lambda said: said):
    """What all of them say; that it is the same is what these tests are about."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda box: alike.say(box, script, keys, user), boxes))
    answers.append(alike.say(boxes[-1], script, keys, user))
    first, *others = [order(said) for said in answers]
    differences = []
    for name, said in zip(("nslcd", "gpuhub, cold", "gpuhub"), others, strict=True):
        differences += difflib.unified_diff(first.splitlines(), said.splitlines(), "files", name, n=1, lineterm="")
    assert not differences, "\n".join(line[:400] for line in differences[:60])
    return first


def each(command):
    """Runs the command for every key."""
    return f"while IFS= read -r -d '' k; do {command} 2>&1; echo \"= $?\"; done"


def members_sorted(said):
    """In lines of group(5)."""
    return re.sub(r"(?m)^([^:\n]+:[^:\n]*:\d+:)(.+)$", lambda m: m[1] + ",".join(sorted(m[2].split(","))), said)


ASKED = {
    "getent passwd": ('getent passwd -- "$k"', [*NAMES, *IDS, *NOBODY, *NO_ID, *LOCAL, "0030001"]),
    "getent group": ('getent group -- "$k"', [*GROUP_NAMES, *GROUP_IDS, *NOBODY, *NO_ID, *LOCAL, "0040000"]),
    "getent initgroups": ('getent initgroups -- "$k"', [*NAMES, *NOBODY, "root"]),
    "id": ('id -- "$k"', [*NAMES, *IDS, *NOBODY, *NO_ID, "root"]),
    "id -G": ('id -G -- "$k"', [*NAMES, *NOBODY[:6], "root"]),
    "id -Gn": ('id -Gn -- "$k"', [*NAMES, *NOBODY[:6], "root"]),
    "id -un, -gn": ('id -un -- "$k"; id -gn -- "$k"', [*NAMES, *IDS[:8], "nobody-here", "ADA"]),
    "groups": ('groups -- "$k"', [*NAMES, *NOBODY[:6]]),
    "find -user": (f'find {FILES} -user "$k" | sort', [*NAMES, *IDS[:5], "nobody-here", "ADA", "", *NO_ID]),
    "find -group": (f'find {FILES} -group "$k" | sort', [*GROUP_NAMES[:12], *GROUP_IDS[:5], "PEOPLE", "", *NO_ID]),
    "chown": (f'chown -- "$k" {FILES}/nobodys; stat -c "%u %U %g %G" {FILES}/nobodys; chown 39999:48888 {FILES}/nobodys',
              [*NAMES, "ada:dots", "ada:", ":Domain Users", ":eve", "ada:nobody-here", "ADA", "ada.big", *NO_ID]),
    "~name": ('bash -c "echo ~$k"', [*NAMES, "nobody-here", "ADA"]),
}


@pytest.mark.parametrize("what", ASKED)
def test_each_alone(cold, what):
    command, keys = ASKED[what]
    said = compare(cold, each(command), keys, order=members_sorted)
    assert said.count("\n= ") >= len(keys) - 1 and "= 0" in said


@pytest.mark.parametrize("command", [
    f"ls -l {FILES}", f"ls -ld --author {FILES}/*", f"stat -c '%n %U %u %G %g' {FILES}/*", f"ls -ln {FILES}",
    f"find {FILES} -printf '%p %u %g\\n' | sort", f"find {FILES} -nouser -o -nogroup | sort",
    f"tar -c -C {FILES} --sort=name . | tar -tv", f"cp -a {FILES} /tmp && ls -l /tmp/owned",
], ids=lambda command: command.split(" /")[0])
def test_owners(cold, command):
    said = compare(cold, command)
    assert "nobodys" in said and "= 0" in said


def test_several_at_once(cold):
    said = compare(cold, "getent passwd ada nobody-here bea; echo $?; getent group nobody-here dots big people",
                   order=members_sorted)
    assert "ada:*:30001" in said and "dots:*:40001:dot\n" in said and "= 2" in said


def test_su(cold):
    script = 'su - "$k" -c \'id; id -Gn; pwd; echo "$HOME $SHELL $USER $LOGNAME"; getent passwd $(id -u)\''
    said = compare(cold, each(script), [*NAMES, "nobody-here", "ADA", "root"])
    assert "This account is currently not available" in said and "/home/ada /bin/bash ada ada" in said


@pytest.mark.parametrize("user", ["bea", "hal", "far", "_svc"])
def test_asked_by_one_of_them(cold, user):
    said = compare(cold, f"id; id -Gn; whoami; groups; id ada; ls -ld {FILES}/*; cd; touch x; stat -c %U:%G x; rm x",
                   user=user)
    assert f"\n{user}\n" in said


# ---- as programs ask -----------------------------------------------------------------------------

_PYTHON = r"""
import grp, os, pwd, sys
def say(call, *arguments):
    try:
        said = call(*arguments)
        if isinstance(said, grp.struct_group):
            said = (*said[:3], sorted(said.gr_mem))
        said = ascii(said)
    except Exception as error:
        said = f"{type(error).__name__} {error!a}"
    print(call.__name__, *map(ascii, arguments), said)
if not sys.stdin.isatty():
    keys = sys.stdin.read().split("\0")[:-1]
"""


def python(body):
    return f"/usr/bin/python3 -c '{_PYTHON}{body}'"


@pytest.mark.parametrize(("body", "keys"), [
    ("for k in keys: say(pwd.getpwnam, k); say(os.path.expanduser, \"~\" + k)", [*NAMES, *NOBODY, "root"]),
    ("for k in keys: say(pwd.getpwuid, int(k))", [*IDS, "0", *filter(str.isdigit, NO_ID), "-1"]),
    ("for k in keys: say(grp.getgrnam, k)", [*GROUP_NAMES, *NOBODY, "root"]),
    ("for k in keys: say(grp.getgrgid, int(k))", [*GROUP_IDS, "0", *filter(str.isdigit, NO_ID), "-1"]),
    # Whatever group is named as the first one, a group that lists her is hers.
    ("for k in keys:\n    for first in (0, 40000, 40001, 41003, 12345): say(os.getgrouplist, k, first)",
     [*NAMES, *NOBODY, "root"]),
    ("for k in keys:\n    if os.fork() == 0: os.initgroups(k, 12345); say(os.getgroups); sys.stdout.flush(); os._exit(0)\n    os.wait()", NAMES),
], ids=["getpwnam", "getpwuid", "getgrnam", "getgrgid", "getgrouplist", "initgroups"])
def test_python(cold, body, keys):
    said = compare(cold, python(body), keys)
    assert len(said.splitlines()) > len(keys) and said.endswith("= 0\n")


# ---- everybody -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def all_known(boxes):
    """gpuhub enumerates whom its box has met, since a directory is not copied to it. So all are met first."""
    gpuhub = boxes[-1]
    gpuhub.run(["getent", "passwd", *(one.name for one in EVERYBODY)])
    gpuhub.run(["getent", "group", *GROUP_NAMES])
    return boxes


@pytest.mark.parametrize("command", [
    "getent passwd | sort", "getent group | sort", "getent passwd $(getent passwd | cut -d: -f1 | sort)",
    "echo $(getent passwd | wc -l) $(getent passwd | sort -u | wc -l) $(getent group | wc -l)",
    python("print(*sorted(map(ascii, pwd.getpwall())), sep=\"\\n\")\nfor g in sorted(grp.getgrall()): say(lambda: g)"),
    python("for p in sorted(pwd.getpwall()):\n    if p.pw_uid > 1000: say(os.getgrouplist, p.pw_name, p.pw_gid)"),
], ids=["passwd", "group", "all by name", "how many", "getpwall, getgrall", "getgrouplist of all"])
def test_enumeration(all_known, command):
    assert len(compare(all_known, command, order=members_sorted)) > 10


def test_groups_are_given_to_people_of_the_directory_alone(all_known):
    """The one difference that is meant. A directory can list anybody as a member: `files` and nslcd then give the
    group to who has no entry, and to the box's own daemons. gpuhub does not: those are none of its business."""
    files, nslcd, gpuhub = [box.out("getent initgroups ghost; getent initgroups www-data").split() for box in all_known]
    assert files == nslcd == ["ghost", "40006", "www-data", "40006"]
    assert gpuhub == ["ghost", "www-data"]
