"""The installed library, as a process that the kernel watches has it."""

import pytest
from harness import tools

PASSWORD = "first-Passw0rd"


@pytest.fixture
def box(make_gpubox):
    box = make_gpubox(sshd=False)
    box.gpuhub("group", "add", "ml", "--gid", "1000000500")
    box.add_user("ada", PASSWORD, "--uid", "1000000001", "--groups", "ml")
    box.add_user("bob", PASSWORD, "--uid", "1000000002", "--groups", "ml")
    tools.install(box, "quiet")
    return box


def ask(box, *questions, **options):
    return box.run(["quiet", *questions], check=False, **options).stdout.strip()


ANSWERS = [
    "1:pwnam:ada", "1:pwuid:1000000001", "1:pwnam:bob", "1:grnam:ml", "1:grgid:1000000500", "1:groups:ada",
    "0:pwnam:carol", "0:pwuid:1999999999", "0:grnam:no-group", "0:grgid:1999999999", "0:groups:carol",
    "0:pwnam:root", "0:pwuid:0", "0:grnam:root", "0:grnam:sudo", "0:grnam:docker", "0:grgid:0", "0:grgid:27",
    "0:groups:root", "0:pwuid:65534", "0:grgid:4294967295", "0:pwnam:a b", "0:grnam:1000",
]


def test_what_the_snapshot_answers_takes_no_system_call_and_no_memory(box):
    expected = f"quiet, questions: {len(ANSWERS)}"
    assert ask(box, *ANSWERS) == expected, "as root"
    assert ask(box, *ANSWERS, user="ada") == expected, "as one of ours"
    # Also in the file that a change was made in, and that was replaced by a restart.
    box.gpuhub("user", "del", "bob")
    answers = [question.replace("1:pwnam:bob", "0:pwnam:bob") for question in ANSWERS]
    assert ask(box, *answers) == expected
    box.restart_broker()
    assert ask(box, *answers) == expected


def test_the_program_sees_what_it_forbids(make_gpubox):
    """Where no broker was ever started each question looks for its directory anew."""
    box = make_gpubox(up=False)
    tools.install(box, "quiet")
    assert ask(box, "0:pwnam:carol").startswith("system call ")
    assert ask(box, "1:pwnam:carol") == "wrong answer to question 1"
