#!/bin/sh
# Boots a real systemd as PID 1 of its own PID, mount, cgroup, UTS and IPC namespaces, on the root file system and
# the network that it was started in, with no units but those in DIR/units. Nothing of systemd has to run outside.
# Needs root, the Debian packages systemd and util-linux, and a kernel with cgroup2, mounted anywhere or nowhere.
#
# usage: unshare --mount --cgroup sh systemd-boot.sh outer DIR MARK
#
# DIR holds the FIFO kmsg, which gets systemd's own messages, and the datagram socket boot, which gets READY=1 from
# PID 1 when it is up (systemd's container interface). Ends when PID 1 has ended, and leaves nothing behind: PID 1
# carries SEAMLESS_TEST=MARK in its environment, this shell does not, so that it survives whoever KILLs the marked.
set -eu
stage=$1 dir=$2 mark=$3

outer() {
  # What is mounted from here on is seen by us alone.
  mount --make-rprivate /
  # A mount of our own: the machine's may be cgroup v1, or cgroup2 beside it, or read-only. From within a cgroup
  # namespace, since in the first one a mount without nsdelegate would take that away from the whole machine.
  mkdir "$dir/cgroup2"
  mount -t cgroup2 cgroup2 "$dir/cgroup2"
  group=$dir/cgroup2/${mark##*/}
  mkdir "$group"
  # The subshell enters the group first, so that the next namespace has it as its root.
  (
    echo 0 >"$group/cgroup.procs"
    exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh "$0" inner "$dir" "$mark"
  ) || status=$?
  # When PID 1 has been reaped, everything else in its namespace has ended; but a group is only empty when the kernel
  # has let go of the last task, and there is no waiting for that.
  tries=0
  while [ -d "$group" ] && [ $tries -lt 200 ]; do
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
    tries=$((tries + 1))
  done
  [ ! -d "$group" ] || echo "$group is still there" >&2
  exit "${status:-0}"
}

units() {
  # The few targets that every unit refers to, and what a halt needs.
  for unit in basic.target sysinit.target sockets.target timers.target paths.target slices.target local-fs.target \
    shutdown.target umount.target final.target halt.target systemd-halt.service; do
    for from in /usr/lib/systemd/system /lib/systemd/system; do
      [ ! -e "$from/$unit" ] || { cp "$from/$unit" "$dir/units/"; break; }
    done
  done
  printf '[Unit]\nRequires=basic.target\nAfter=basic.target\n' >"$dir/units/test.target"
}

inner() {
  mount --make-rprivate /
  mount -t proc -o nosuid,noexec,nodev proc /proc
  # PID 1 raises limits by sysctl, and those of files are the whole machine's.
  mount --bind /proc/sys /proc/sys
  mount -o remount,bind,ro /proc/sys
  # An absent or empty machine id would be a first boot: systemd would write an id and enable units in /etc.
  tr -d - </proc/sys/kernel/random/uuid >"$dir/machine-id"
  if [ ! -e /etc/machine-id ]; then
    cp -a /etc "$dir/etc"
    mount --bind "$dir/etc" /etc
    : >/etc/machine-id
  fi
  mount --bind "$dir/machine-id" /etc/machine-id
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir /run/lock
  [ ! -d /var/lib/systemd ] || mount -t tmpfs tmpfs /var/lib/systemd
  [ ! -d /var/log/journal ] || mount -t tmpfs tmpfs /var/log/journal
  umount -l /sys/fs/cgroup 2>/dev/null || :
  mount -t sysfs -o ro,nosuid,noexec,nodev sysfs /sys 2>/dev/null || mount -o remount,bind,ro /sys
  mount -t cgroup2 -o nosuid,noexec,nodev cgroup2 /sys/fs/cgroup
  # A /dev with our FIFO in the place of the kernel's messages.
  mkdir /run/dev
  mount -t tmpfs -o mode=755 tmpfs /run/dev
  for node in null zero full random urandom tty; do
    : >/run/dev/$node
    mount --bind /dev/$node /run/dev/$node
  done
  mkdir /run/dev/shm /run/dev/pts
  mount -t tmpfs -o mode=1777 tmpfs /run/dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts /run/dev/pts
  ln -s pts/ptmx /run/dev/ptmx
  ln -s /proc/self/fd /run/dev/fd
  for link in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${link%:*}" "/run/dev/${link#*:}"; done
  : >/run/dev/kmsg
  mount --bind "$dir/kmsg" /run/dev/kmsg
  mount --move /run/dev /dev

  for init in /usr/lib/systemd/systemd /lib/systemd/systemd; do [ ! -x "$init" ] || break; done
  exec env -i container=seamless-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    SEAMLESS_TEST="$mark" NOTIFY_SOCKET="$dir/boot" SYSTEMD_UNIT_PATH="$dir/units" \
    SYSTEMD_GENERATOR_PATH="$dir/none" SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$dir/none" \
    "$init" --system --unit=test.target --log-target=kmsg --log-level=info --show-status=no --crash-reboot=no
}

case $stage in
outer) units; outer ;;
inner) inner ;;
*) echo "unknown stage: $stage" >&2; exit 2 ;;
esac
