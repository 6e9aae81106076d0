#!/bin/sh
# First process of a guest: mounts what programs expect, loads the drivers of the
# machine, names it, and keeps the agent running. It stays the parent of orphans.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
mkdir -p /run/lock /var/lib/drbd /mnt
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/mounts /etc/mtab

for module in virtio_pci virtio_blk virtio_net virtio_console virtio_rng; do
	modprobe -q "$module"
done

# Booted with one processor (see commandLine): the others join now that the devices are mapped.
for cpu in /sys/devices/system/cpu/cpu*/online; do
	[ "$(cat "$cpu")" = 1 ] || echo 1 >"$cpu"
done

ip link set lo up
for word in $(cat /proc/cmdline); do
	case $word in
	rig.name=*)
		hostname "${word#*=}"
		;;
	rig.net=*)
		IFS=,
		for pair in ${word#*=}; do
			ip address add "${pair#*:}" dev "${pair%%:*}"
			ip link set "${pair%%:*}" up
		done
		unset IFS
		;;
	esac
done
{
	echo "127.0.0.1 localhost"
	echo "10.77.0.1 alpha"
	echo "10.77.0.2 beta"
} >/etc/hosts

while :; do
	rig-agent >/dev/console 2>&1
	echo "agent ended: $?" >/dev/console
	sleep 1
done
