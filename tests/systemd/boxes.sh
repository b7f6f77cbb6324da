#!/usr/bin/env bash
# Machines with a real systemd: containers on a bridge of their own, in a network namespace of their own.
# boxes.sh DIR LAB root | net-up | net-down | up NAME IP [BIND...] | sh NAME COMMAND... | kill NAME
# DIR holds the root that all boxes begin with, and what each box changed. Everything started is in cgroups named LAB-NAME.
set -euo pipefail
dir=$1 lab=$2 verb=$3
shift 3
# Another name where the root has other packages: what is kept from an earlier run is then made anew.
base=$dir/root-pam
# With both versions of cgroups mounted a box needs one of each.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  tree=/sys/fs/cgroup trees=(/sys/fs/cgroup)
else
  tree=/sys/fs/cgroup/unified trees=(/sys/fs/cgroup/unified /sys/fs/cgroup/systemd)
fi
leader() { head -1 "$tree/$lab-$1/payload/init.scope/cgroup.procs" 2>/dev/null; }

case $verb in
root)
  [ ! -e "$base/etc/debian_version" ] || exit 0
  packed=$base.tar.zst
  [ -s "$packed" ] || {
    mmdebstrap --quiet --variant=minbase --include=systemd,systemd-sysv,dbus,libnss-systemd,libpam-systemd,iproute2 bookworm - |
      zstd -q -3 -T0 -o "$packed.part"
    mv "$packed.part" "$packed"
  }
  rm -rf "$base.part"
  mkdir -p "$base.part"
  zstd -dc "$packed" | tar -C "$base.part" -xp
  chroot "$base.part" systemctl --quiet enable systemd-networkd
  chroot "$base.part" systemctl --quiet disable systemd-networkd-wait-online
  mv "$base.part" "$base"
  ;;
net-up)
  ip netns add "$lab"
  ip -n "$lab" link set lo up
  ip -n "$lab" link add br0 type bridge mcast_snooping 0 forward_delay 0
  ip -n "$lab" addr add 10.77.0.1/24 dev br0
  ip -n "$lab" link set br0 up
  ;;
net-down) ip netns del "$lab" ;;
up)
  name=$1 address=$2
  shift 2
  box=$dir/$lab-$name
  mkdir -p "$box/up/etc/systemd/network" "$box/work" "$box/root"
  printf '[Match]\nName=host0\n[Network]\nAddress=%s/24\nGateway=10.77.0.1\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=no\nDHCP=no\n' \
    "$address" >"$box/up/etc/systemd/network/10-host0.network"
  echo "$name" >"$box/up/etc/hostname"
  binds=()
  for bind in "$@"; do binds+=(--bind-ro="$bind"); done
  for one in "${trees[@]}"; do mkdir -p "$one/$lab-$name"; done
  # The box has its own mounts; nspawn gives it the rest. 133: it asked for a reboot.
  setsid bash -c '
    tree=$1 lab=$2 name=$3 base=$4 box=$5; shift 5
    while [ "$1" != -- ]; do echo $$ >"$1/$lab-$name/cgroup.procs"; shift; done; shift
    exec nsenter --net="/run/netns/$lab" unshare -m --propagation private bash -c '\''
      set -e; name=$1 base=$2 box=$3; shift 3
      # What a machine may do that is no container.
      calls="bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self"
      mount -t tmpfs tmpfs /run
      mount -t overlay overlay -o "lowerdir=$base,upperdir=$box/up,workdir=$box/work" "$box/root"
      export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
      status=133
      while [ "$status" = 133 ]; do
        status=0
        systemd-nspawn -q -D "$box/root" -M "$name" --register=no --keep-unit --link-journal=no --resolv-conf=off \
          --timezone=off --system-call-filter="$calls" --network-veth --network-bridge=br0 --console=pipe "$@" --boot \
          systemd.unit=multi-user.target || status=$?
      done
    '\'' bash "$name" "$base" "$box" "$@"
  ' bash "$tree" "$lab" "$name" "$base" "$box" "${trees[@]}" -- "${binds[@]}" </dev/null >"$box/console" 2>&1 &
  ;;
sh)
  name=$1
  shift
  exec nsenter -t "$(leader "$name")" -a -- "$@"
  ;;
kill)
  name=$1
  [ ! -e "$tree/$lab-$name/cgroup.kill" ] || echo 1 >"$tree/$lab-$name/cgroup.kill"
  for _ in $(seq 100); do
    [ -n "$(find "$tree/$lab-$name" -name cgroup.procs -exec cat {} + 2>/dev/null)" ] || break
    sleep 0.05
  done
  for one in "${trees[@]}"; do find "$one/$lab-$name" -depth -type d -exec rmdir {} + 2>/dev/null || true; done
  rm -rf "${dir:?}/$lab-$name"
  ;;
esac
