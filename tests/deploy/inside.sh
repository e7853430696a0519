#!/bin/bash
# Runs inside the throw-away root, as root, with its own systemd: a site from package to purge and back.
# Prints one line a step; the first step that fails ends the machine with 1.
set -uo pipefail
cd /
factor=5
deb=$(ls /srv/system-test/debs/good/*.deb)
bad=$(ls /srv/system-test/debs/bad/*.deb 2>/dev/null || true)
site=/etc/sopgw/sopgw.yaml
python=/opt/sopgw/bin/python
step=0

now_ms() { date +%s%3N; }
began=$(now_ms)
say() {
    local done_ms
    done_ms=$(now_ms)
    step=$((step + 1))
    printf 'ok %2d  %-72s %6d ms\n' "$step" "$1" "$((done_ms - began))"
    began=$(now_ms)
}
number() { echo "$1" | tr -cd 0-9; }
die() {
    printf 'FAILED after step %d: %s\n' "$step" "$1"
    systemctl status --no-pager -l sopgw.service 2>&1 | head -20
    journalctl --no-pager -n 60 -u sopgw -u sopsim@lv4x250 -u mosquitto 2>&1 | tail -60
    exit 1
}
# until SECONDS COMMAND…: wait for a condition
until_holds() {
    local last=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $last ] || return 1
        sleep 0.1
    done
}
status_field() {
    as_service "$python" - "$1" <<'PY' 2>/dev/null
import asyncio, sys
from pathlib import Path
from gateway.app import control_path
from gateway.config.site_file import load_site
from gateway.runtime.control import ask
path = control_path(load_site(Path("/etc/sopgw/sopgw.yaml")))
print(asyncio.run(ask(path, {"verb": "status"}))["status"][sys.argv[1]])
PY
}
state_is() { [ "$(status_field state)" = "$1" ]; }
door_answers() {
    "$python" -c "import sys, urllib.request as u; r = u.urlopen(sys.argv[1], timeout=5); sys.exit(r.status != 200)" "$1"
}
trade_minutes() {  # the next whole simulated minute at least 15 s ahead, as the market writes it
    "$python" - "$1" <<'PY'
import sys, datetime as dt
from pathlib import Path
from gateway.runtime.clock import BenchClock
now_ms = BenchClock.load(Path("/var/lib/sopgw/timebase.json")).utc_us() // 1000
start_ms = -(-(now_ms + int(sys.argv[1])) // 60_000) * 60_000
print(dt.datetime.fromtimestamp(start_ms / 1000, tz=dt.UTC).strftime("%Y-%m-%dT%H:%MZ"))
PY
}
send_trade() {  # ID
    sopgw trade sign -q --new --id "$1" --site elm --from region-b --to region-c --power 120kW \
        --start "$(trade_minutes 15000)" --resolution PT1M --key /srv/system-test/market.pem -o "/srv/system-test/$1.json" || return 1
    sopgw trade submit -q "/srv/system-test/$1.json" --broker mqtt://127.0.0.1:1883 --wait 20s
}
# Reading commands keep derived files beside the ledger: root's would be in the service's way.
as_service() { runuser -u sopgw -- "$@"; }
delivered() { as_service sopgw trade show "$1" --ledger /var/lib/sopgw/ledger --json | grep -q '"kind": *"delivery"'; }
verified() {
    as_service "$python" -c "
from pathlib import Path
from gateway.journal.ledger_journal import key_of
print(key_of(Path('/var/lib/sopgw/ledger.key'), 'elm.example/SOP-1'))" > /run/bench/ledger.vkey \
        && as_service sopledger verify /var/lib/sopgw/ledger --key /run/bench/ledger.vkey
}
bench_time() {  # simulated and shared, because a throw-away root has no disciplined clock
    "$python" - "$factor" <<'PY'
import sys
from pathlib import Path
from gateway.runtime.clock import BenchClock, SystemClock
path = Path("/var/lib/sopgw/timebase.json")
BenchClock.start(utc_epoch_us=SystemClock().utc_us(), factor=int(sys.argv[1])).save(path)
path.chmod(0o644)
PY
    install -d -m 0755 /run/bench && install -m 0644 /var/lib/sopgw/timebase.json /run/bench/timebase.json
    for unit in sopgw.service sopsim@lv4x250.service; do
        line=$(grep ^ExecStart= "/usr/lib/systemd/system/$unit" 2>/dev/null \
            || grep ^ExecStart= /usr/lib/systemd/system/sopsim@.service)
        mkdir -p "/etc/systemd/system/$unit.d"
        printf '[Service]\nExecStart=\n%s --timebase /run/bench/timebase.json\n' "$line" \
            > "/etc/systemd/system/$unit.d/bench.conf"
    done
    systemctl daemon-reload
}
write_site() {  # what an engineer fills into the file that init wrote
    "$python" - "$1" <<'PY'
import re, sys
from pathlib import Path
path = Path("/etc/sopgw/sopgw.yaml")
text = path.read_text()
from gateway.cli import demo_bench
ports = demo_bench.Ports(station_port=5020, meter_ports=(5021, 5022, 5023, 5024), broker_port=1883)
import base64
whole = demo_bench.site_text(ports, base64.b64decode(sys.argv[1]))
middle = whole[whole.index("devices:"):whole.index("ledger:")].replace("gate: 2 min", "gate: 5 s")
middle = middle.replace("rearm: manual", "rearm: auto")
head, tail = text[:text.index("devices:")], text[text.index("ledger:"):]
head = head.replace("mode: blocked ", "mode: on ")
path.write_text(head + middle + tail + "web: {listen: 127.0.0.1:8080}\n")
PY
}

echo "machine: $(. /etc/os-release; echo "$PRETTY_NAME"), $(python3 -V), systemd $(systemctl --version | head -1 | cut -d' ' -f2)"
dpkg -i "$deb" > /srv/system-test/install.log 2>&1 || { cat /srv/system-test/install.log; die "dpkg -i"; }
say "package installed ($(du -sm /opt/sopgw | cut -f1) MB on disk)"
dpkg -i "$deb" > /srv/system-test/again.log 2>&1 || { cat /srv/system-test/again.log; die "second dpkg -i"; }
/var/lib/dpkg/info/sopgw.postinst configure >/dev/null 2>&1 || die "postinst twice"
say "installed again over itself"
systemd-analyze verify /usr/lib/systemd/system/sop*.service > /srv/system-test/verify.log 2>&1 || { cat /srv/system-test/verify.log; die "verify"; }
[ ! -s /srv/system-test/verify.log ] || { cat /srv/system-test/verify.log; die "verify"; }
say "units verified"
sopgw init /etc/sopgw --site elm --name "Elm Street" >/dev/null || die "sopgw init"
public=$(sopgw trade keygen /srv/system-test/market.pem | grep -o '[A-Za-z0-9+/]\{43\}=' | head -1)
write_site "$public" || die "site file"
sopgw config check "$site" > /srv/system-test/check.log || { cat /srv/system-test/check.log; die "config check"; }
say "sopgw init, site filled in, checked"
install -d /etc/mosquitto/conf.d
printf 'listener 1883 127.0.0.1\nallow_anonymous true\n' > /etc/mosquitto/conf.d/bench.conf
bench_time || die "time base"
systemctl restart mosquitto sopsim@lv4x250 || die "broker and simulator"
say "broker and simulated devices up"
systemctl restart sopgw || die "service start"
say "systemctl start sopgw: READY"
until_holds 60 state_is READY || die "state READY, is $(status_field state)"
say "in control: $(systemctl show -P StatusText sopgw)"
until_holds 20 door_answers http://127.0.0.1:8080/ || die "page"
door_answers http://127.0.0.1:8080/metrics || die "metrics"
say "page and metrics answer"
send_trade trd-1 || die "trade accepted"
until_holds 90 delivered trd-1 || die "trade delivered"
say "trade accepted and delivered"
until_holds 10 verified || { verified; die "ledger"; }
say "ledger verifies while it is written"

main=$(systemctl show -P MainPID sopgw)
kill -STOP "$main"
until_holds 40 sh -c "[ \$(systemctl show -P MainPID sopgw) != $main ] && [ \$(systemctl show -P MainPID sopgw) != 0 ]" \
    || die "watchdog"
until_holds 60 state_is READY || die "READY after the watchdog"
say "stopped process replaced by the watchdog, in control again"
kill -KILL "$(systemctl show -P MainPID sopgw)"
until_holds 60 state_is READY || die "READY after SIGKILL"
say "killed process started again, in control again"

main=$(systemctl show -P MainPID sopgw)
send_trade trd-2 || die "second trade accepted"
until_holds 60 state_is EXECUTING || die "EXECUTING, is $(status_field state)"
! dpkg -i "$deb" > /srv/system-test/powered.log 2>&1 || die "an upgrade under power must be refused"
grep -q 'power is commanded now' /srv/system-test/powered.log || { cat /srv/system-test/powered.log; die "refusal under power"; }
[ "$(systemctl show -P MainPID sopgw)" = "$main" ] || die "the service was touched"
until_holds 90 delivered trd-2 || die "trade delivered all the same"
until_holds 60 state_is READY || die "READY after the trade"
say "upgrade refused while power is commanded, the trade delivered all the same"

systemctl stop sopgw || die "stop for work on the plant"
systemctl disable -q sopgw
dpkg -i "$deb" > /srv/system-test/left.log 2>&1 || { cat /srv/system-test/left.log; die "upgrade of a stopped gateway"; }
! systemctl is-active -q sopgw || die "an upgrade started what people had stopped"
! systemctl is-enabled -q sopgw || die "an upgrade enabled what people had disabled"
systemctl mask -q sopgw
dpkg -i "$deb" > /srv/system-test/masked.log 2>&1 || { cat /srv/system-test/masked.log; die "upgrade of a masked gateway"; }
! systemctl is-active -q sopgw || die "an upgrade started what people had masked"
systemctl unmask -q sopgw && systemctl enable -q sopgw && systemctl start sopgw || die "start after the work"
until_holds 60 state_is READY || die "READY after the work"
say "upgrade leaves a gateway stopped, disabled and masked as people left it"

if [ -n "$bad" ]; then
    before=$(dpkg-query -W -f '${Version}' sopgw)
    ! dpkg -i "$bad" > /srv/system-test/bad.log 2>&1 || die "an upgrade that refuses the site file must fail"
    grep -q 'upgrade undone' /srv/system-test/bad.log || { cat /srv/system-test/bad.log; die "rollback"; }
    until_holds 60 state_is READY || die "READY after the rollback"
    ! dpkg --configure -a > /srv/system-test/pending.log 2>&1 || die "an upgrade undone is called done"
    grep -qF "holds version $before" /srv/system-test/pending.log || { cat /srv/system-test/pending.log; die "what is pending"; }
    say "upgrade whose check refuses the site file undone by itself, old version in control"
    dpkg -i "$deb" > /srv/system-test/good.log 2>&1 || { cat /srv/system-test/good.log; die "back to $before"; }
    [ "$(ls -d /opt/sopgw/lib/python3*/site-packages/sop_gateway-*.dist-info | wc -l)" = 1 ] || die "two versions lie in one tree"
    until_holds 60 state_is READY || die "READY after the upgrade"
    say "good version installed over it"
    /usr/lib/sopgw/rollback "by hand" > /srv/system-test/rollback.log 2>&1 || { cat /srv/system-test/rollback.log; die "rollback by hand"; }
    grep -qF "back to version $before (by hand)" /srv/system-test/rollback.log || { cat /srv/system-test/rollback.log; die "which version"; }
    until_holds 60 state_is READY || die "READY after the rollback by hand"
    say "rolled back by hand, in control"
fi

systemctl stop sopgw || die "stop"
verified > /srv/system-test/verified.log || { cat /srv/system-test/verified.log; die "ledger after stop"; }
entries=$(grep -o '[0-9][0-9,]* entries' /srv/system-test/verified.log | head -1)
say "stopped in order, ledger verifies: $entries"
backup=no
if sopgw backup create --help >/dev/null 2>&1; then
    . /srv/system-test/backup.sh
    backup_create > /srv/system-test/backup.log 2>&1 || { cat /srv/system-test/backup.log; die "backup"; }
    backup=yes
    say "backup written and verified"
fi
dpkg --purge sopgw > /srv/system-test/purge.log 2>&1 || { cat /srv/system-test/purge.log; die "purge"; }
for gone in /opt/sopgw /opt/sopgw.previous /etc/sopgw /var/lib/sopgw /usr/bin/sopgw /usr/lib/sopgw; do
    [ ! -e "$gone" ] || die "$gone is still there"
done
! getent passwd sopgw >/dev/null || die "user sopgw is still there"
say "purged: nothing is left"
dpkg -i "$deb" > /srv/system-test/install2.log 2>&1 || { cat /srv/system-test/install2.log; die "dpkg -i"; }
say "installed again"
if [ "$backup" = yes ]; then
    backup_restore > /srv/system-test/restore.log 2>&1 || { cat /srv/system-test/restore.log; die "restore"; }
    verified > /srv/system-test/verified2.log || { cat /srv/system-test/verified2.log; die "restored ledger"; }
    after=$(grep -o '[0-9][0-9,]* entries' /srv/system-test/verified2.log | head -1)
    # The restore itself may be an entry; none may be missing.
    [ "$(number "$after")" -ge "$(number "$entries")" ] || die "entries lost: $entries before, $after after"
    say "restored, ledger verifies: $after"
    bench_time
    systemctl restart sopsim@lv4x250 sopgw || die "start after restore"
    until_holds 60 state_is READY || die "READY after restore"
    say "in control with the restored state"
    systemctl stop sopgw
fi
dpkg --purge sopgw > /srv/system-test/purge2.log 2>&1 || { cat /srv/system-test/purge2.log; die "last purge"; }
say "purged again"
echo "all $step steps passed"
