"""The fixtures of the tests against real servers. Read `tests/harness/__init__.py` first."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import layers, product, roots  # noqa: E402
from harness.ad import ActiveDirectory  # noqa: E402
from harness.box import Box  # noqa: E402
from harness.ca import Authority  # noqa: E402
from harness.container import Podman  # noqa: E402
from harness.dot import DjangoProvider  # noqa: E402
from harness.ds import DirectoryServer  # noqa: E402
from harness.hub import Hub  # noqa: E402
from harness.lan import Lan  # noqa: E402
from harness.oidc import OidcProvider  # noqa: E402
from harness.oidc_faulty import FaultyIdp  # noqa: E402
from harness.places import Missing  # noqa: E402
from harness.slapd import Slapd  # noqa: E402


def pytest_sessionstart(session):
    """What is missing ends the session and is named: nothing here is ever skipped."""
    absent = [recipe.name for recipe in roots.ALL if not recipe.path.is_dir()]
    if absent:
        pytest.exit(f"not in the cache: {' '.join(absent)}; run tests/harness/prepare.py first", returncode=3)


@pytest.fixture(scope="session")
def lan():
    """The private network; from here on this process's sockets are on it and nowhere else."""
    with Lan() as network:
        network.enter()
        yield network


@pytest.fixture(scope="session")
def ca(lan):
    return Authority(lan.directory / "ca")


@pytest.fixture(scope="session")
def slapd_session(lan, ca):
    return Slapd(lan, ca)


@pytest.fixture
def slapd(slapd_session):
    """The directory. A test that changes an entry changes it back; a stopped server is started again."""
    yield slapd_session
    slapd_session.resume()
    if not slapd_session.box.pids("slapd"):
        slapd_session.start()


@pytest.fixture(scope="session")
def ad(lan, ca):
    """A domain. A test that changes an entry changes it back."""
    return ActiveDirectory(lan, ca)


@pytest.fixture(scope="session")
def ds_session(lan, ca):
    return DirectoryServer(lan, ca)


@pytest.fixture
def ds(ds_session):
    """389 Directory Server. A test that changes an entry changes it back; a stopped server is started again."""
    yield ds_session
    ds_session.resume()
    if not ds_session.box.pids("ns-slapd"):
        ds_session.start()


@pytest.fixture(scope="session")
def oidc_session(lan, ca):
    return OidcProvider(lan, ca)


@pytest.fixture
def oidc(oidc_session):
    """The provider, with its accounts as they were at the start."""
    before = dict(oidc_session.accounts)
    yield oidc_session
    oidc_session.resume()
    oidc_session.set_accounts(before)
    if not oidc_session.box.pids("node"):
        oidc_session.start()


@pytest.fixture(scope="session")
def dot(lan, ca):
    """The second provider; nothing changes its accounts."""
    return DjangoProvider(lan, ca)


@pytest.fixture
def faulty(lan, ca):
    with FaultyIdp(ca) as idp:
        yield idp


@pytest.fixture
def make_box(lan):
    """Makes boxes without gpuhub, by root: `make_box()`, `make_box(roots.HUB)`; gone after the test."""
    made = []

    def make(root=roots.BOX, name="box"):
        made.append(Box(lan, root.stack(), name))
        return made[-1]

    yield make
    for box in made:
        box.close()


@pytest.fixture(scope="session")
def package():
    """The .deb; its layers are built here, once."""
    try:
        found = product.package()
        for root in (roots.BOX, roots.HUB, roots.PEERS):
            layers.ensure(product.installed(root))
    except (Missing, RuntimeError) as error:
        pytest.exit(f"no package to test: {error}", returncode=3)
    return found


@pytest.fixture(scope="session")
def podman(lan, package):
    """Containers of an image with the package, as people build them."""
    engine = Podman(lan.directory / "podman")
    engine.image()
    yield engine
    engine.close()


@pytest.fixture
def make_gpubox(lan, ca, package, request):
    """Makes boxes with gpuhub: `make_gpubox(config_text, name=…, root=…)`; gone after the test.

    They are running (syslogd, broker, sshd) unless `up=False`. If the test fails, their logs are shown.
    """
    made = []

    def make(config: str | None = None, name: str = "gpu1", root=roots.BOX, up: bool = True, **how):
        box = product.GpuBox(lan, name, root)
        made.append(box)
        if config is not None:
            box.configure(config, ca)
        return box.up(**how) if up else box

    yield make
    failed = getattr(request.node, "failed", False)
    for box in made:
        if failed:
            show_logs(box)
        box.close()


def show_logs(box: Box) -> None:
    for log in sorted(box.lan.logs.glob(f"{box.name}-{box.address}-*.log")):
        text = log.read_text(errors="replace")
        if text:
            print(f"---- {log.name}\n{text[-4000:]}")
    for path in ("/var/log/sshd.log", "/var/log/authpriv.json"):
        text = box.run(["tail", "-n", "30", path], check=False).stdout
        if text:
            print(f"---- {box.name}:{path}\n{text}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Lets the fixtures above know that the test failed."""
    report = (yield).get_result()
    if report.when == "call":
        item.failed = report.failed


@pytest.fixture
def make_hub():
    """Starts JupyterHub in a box that has it; ended with its box."""

    def make(box: Box, **options) -> Hub:
        return Hub(box, **options).start()

    return make
