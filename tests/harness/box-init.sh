# Becomes process 1 of a box: an overlay with its upper half on tmpfs, and fresh /proc, /run, /tmp and
# /dev, as a container engine would make. In the environment: LOWER, PLACE, NAME, HOSTS (a file).
set -eu
mount -t tmpfs -o size=2g,mode=755 tmpfs "$PLACE"
mkdir "$PLACE/upper" "$PLACE/work" "$PLACE/root"
R=$PLACE/root
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$PLACE/upper,workdir=$PLACE/work" "$R"
mount -t proc proc "$R/proc"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
# Nodes of its own on a tmpfs of its own: a syslogd in the box may make /dev/log, and the machine's
# /dev never knows.
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$R/dev/"
mkdir "$R/dev/pts" "$R/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$R/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$R/dev/shm"
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
ln -s fd/0 "$R/dev/stdin"; ln -s fd/1 "$R/dev/stdout"; ln -s fd/2 "$R/dev/stderr"
mount -t tmpfs -o mode=755 tmpfs "$R/run"
mkdir -m 1777 "$R/run/lock"
mount -t tmpfs -o mode=1777 tmpfs "$R/tmp"
cat "$HOSTS" > "$R/etc/hosts"
echo "$NAME" > "$R/etc/hostname"
hostname "$NAME"
cd "$R"
mkdir -p run/.old
pivot_root . run/.old
# The init: it reaps what is left to it, and ends when the harness ends it.
exec chroot . /bin/bash -c '
    umount -l /run/.old; rmdir /run/.old
    trap : TERM INT HUP
    echo ready
    exec >/dev/null 2>&1
    while :; do sleep 86400 & wait $!; kill $! 2>/dev/null; done' </dev/null
