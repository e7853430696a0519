#!/usr/bin/env bash
# The whole life of an installation in a throw-away Debian, never on this machine:
#   sudo tests/deploy/system_test.sh PACKAGE.deb [bookworm|trixie]
# Makes a minimal root by debootstrap (kept in SOPGW_ROOTS for the next run), lays a writable layer over it,
# boots it with systemd-nspawn without any network, runs inside.sh there and throws the layer away.
# Ends with 77 when this machine cannot do that, and says why.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deb=$(realpath "${1:?PACKAGE.deb}")
suite=${2:-bookworm}
roots=${SOPGW_ROOTS:-/var/tmp/sopgw-roots}

leave_out() {
    echo "left out: $1"
    exit 77
}
[ "$(id -u)" = 0 ] || leave_out "needs root"
for tool in debootstrap systemd-nspawn dpkg-deb; do
    command -v "$tool" >/dev/null || leave_out "needs $tool (apt-get install debootstrap systemd-container)"
done
[ "$(dpkg-deb -f "$deb" Architecture)" = "$(dpkg --print-architecture)" ] || leave_out "package of another architecture"

base=$roots/$suite
if [ ! -e "$base/.complete" ]; then
    # The mirror is the one this machine's apt uses.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
        | grep -v security | head -1)
    [ -n "$mirror" ] || leave_out "apt names no Debian mirror here"
    echo "making a minimal $suite in $base (once)"
    rm -rf "$base"
    mkdir -p "$roots"
    debootstrap --variant=minbase --include=python3,systemd,systemd-sysv,dbus,udev,passwd,mosquitto \
        "$suite" "$base" "$mirror" > "$roots/$suite.log" 2>&1 || {
        tail -5 "$roots/$suite.log"
        rm -rf "$base"
        leave_out "debootstrap did not work here: $roots/$suite.log"
    }
    rm -f "$base"/var/cache/apt/archives/*.deb "$base/etc/machine-id"
    touch "$base/.complete"
fi

scratch=$(mktemp -d "$roots/run.XXXXXX")
machine=
clean_up() {
    if [ -n "$machine" ] && kill -KILL "$machine" 2>/dev/null; then wait "$machine" 2>/dev/null || true; fi
    for mounted in "$scratch/root" "$scratch/layer"; do
        if mountpoint -q "$mounted"; then umount "$mounted"; fi
    done
    rm -rf "$scratch"
}
trap clean_up EXIT
mkdir -p "$scratch/layer" "$scratch/root"
mount -t tmpfs -o size=2g,mode=755 sopgw-test "$scratch/layer" || leave_out "cannot mount a tmpfs"
mkdir "$scratch/layer/upper" "$scratch/layer/work"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$scratch/layer/upper,workdir=$scratch/layer/work" \
    "$scratch/root" || leave_out "cannot mount an overlay"
root=$scratch/root

install -d -m 0700 "$root/srv/system-test"
mkdir -p "$root/srv/system-test/debs/good" "$root/srv/system-test/debs/bad"
cp "$deb" "$root/srv/system-test/debs/good/"
install -m 0755 "$here/inside.sh" "$here/backup.sh" "$root/srv/system-test/"
# A later version whose check refuses every site file: the upgrade has to undo itself.
dpkg-deb -R "$deb" "$scratch/layer/bad"
version=$(dpkg-deb -f "$deb" Version)
sed -i "s/^Version: .*/Version: $version+bad/" "$scratch/layer/bad/DEBIAN/control"
echo "$version+bad" > "$scratch/layer/bad/opt/sopgw/version"
# Like a real one its program says another version, in a file that the good one does not have.
for said in "$scratch"/layer/bad/opt/sopgw/lib/python3*/site-packages/sop_gateway-*.dist-info; do
    sed -i 's/^Version: .*/Version: 99.0/' "$said/METADATA"
    mv "$said" "${said%/*}/sop_gateway-99.0.dist-info"
done
printf '\nraise SystemExit(3)\n' >> "$(echo "$scratch"/layer/bad/opt/sopgw/lib/python3*/site-packages/gateway/cli/config.py)"
dpkg-deb -b --root-owner-group -Znone "$scratch/layer/bad" "$root/srv/system-test/debs/bad/bad.deb" >/dev/null
rm -rf "$scratch/layer/bad"

cat > "$root/etc/systemd/system/system-test.service" <<'UNIT'
[Unit]
Description=The whole life of an installation
After=multi-user.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=/srv/system-test/inside.sh
StandardOutput=file:/srv/system-test/output
StandardError=inherit
TimeoutStartSec=900
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
UNIT
ln -sf ../system-test.service "$root/etc/systemd/system/default.target.wants/" 2>/dev/null || {
    mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
    ln -sf ../system-test.service "$root/etc/systemd/system/multi-user.target.wants/"
}
: > "$root/srv/system-test/output"
timeout -k 5 "${SOPGW_SYSTEM_TEST_S:-900}" systemd-nspawn -q -D "$root" --boot --register=no --keep-unit --private-network --machine=sopgw-test \
    --console=pipe --link-journal=no > "$scratch/console" 2>&1 </dev/null &
machine=$!
tail --pid="$machine" -n +1 -s 0.5 -f "$root/srv/system-test/output" &
wait "$machine" && ended=0 || ended=$?
machine=
wait
if ! grep -q '^all [0-9]* steps passed' "$root/srv/system-test/output"; then
    echo "the machine ended with $ended:"
    tail -20 "$scratch/console"
    exit 1
fi
