"""A real container, as people build them: the package, one configuration file, gpuhub-entrypoint."""

import pytest

PASSWORD = "first-Passw0rd"
ENTRY = ("gpuhub-entrypoint", "/bin/sh", "-c", "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -p 2222")


@pytest.fixture
def start(podman):
    started = []

    def begin(*command, options=()):
        started.append(podman.start("gpu-box", *command, options=options))
        return started[-1]

    yield begin
    for container in started:
        podman.run("rm", "-f", "-t", "0", container.number, check=False)


def log_in(container):
    container.wait("gpuhub", "status", what="the broker")
    container.exec("gpuhub", "user", "add", "ada", "--password-stdin", input=PASSWORD + "\n")
    container.wait("/bin/bash", "-c", ": < /dev/tcp/127.0.0.1/2222", what="sshd")
    return container.ssh("ada", PASSWORD, "id; stat -c '%a %U' .")


def test_a_login_in_a_container_with_few_capabilities(start):
    container = start(*ENTRY)
    screen = log_in(container)
    assert "(ada)" in screen and "700 ada" in screen, screen + container.logs()
    line = next(line for line in container.audit() if line["event"] == "auth")
    assert line["user"] == "ada" and line["result"] == "ok" and line["host"] == "gpu1" and line["service"] == "sshd"
    assert container.out("id", "-un", "ada") == "ada"
    assert PASSWORD not in container.logs()


def test_a_read_only_root_with_one_directory_for_state(start):
    container = start(*ENTRY, options=(
        "--read-only", "--tmpfs=/run:rw,mode=755", "--tmpfs=/tmp:rw", "--tmpfs=/home:rw,mode=755",
        "--tmpfs=/var/lib/gpuhub:rw,mode=700"))
    screen = log_in(container)
    assert "(ada)" in screen, screen + container.logs()


def test_the_command_s_status_is_the_container_s(start, podman):
    container = start("gpuhub-entrypoint", "/bin/sh", "-c", "exit 42")
    assert podman.run("wait", container.number).stdout.strip() == "42"


def test_a_stop_is_passed_on(start, podman):
    container = start("gpuhub-entrypoint", "/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done")
    container.wait("gpuhub", "status", what="the broker")
    podman.run("stop", "-t", "10", container.number)
    assert podman.run("inspect", "-f", "{{.State.ExitCode}}", container.number).stdout.strip() == "7"


def test_without_the_broker_s_volume_root_still_works(start):
    container = start("sleep", "100")
    assert container.out("id", "-un") == "root"
    container.exec("useradd", "-m", "tess")
    assert container.out("id", "-un", "tess") == "tess"
