#!/bin/busybox sh
# First process of a guest whose root is a Debian system on a disk: brings the drivers of the machine in, mounts the
# root, copies the files of this run to it, and lets systemd go on.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
	insmod "/modules/$module"
done </modules/order

# Booted with one processor (see commandLine): the others join now that the devices are mapped.
for cpu in /sys/devices/system/cpu/cpu*/online; do
	[ "$(cat "$cpu")" = 1 ] || echo 1 >"$cpu"
done

tries=0
while [ -z "$disk" ]; do
	for serial in /sys/block/vd*/serial; do
		[ "$(cat "$serial")" != root ] || disk=${serial%/serial}
	done
	tries=$((tries + 1))
	[ "$tries" -lt 300 ] || { echo "no root disk"; poweroff -f; }
	[ -n "$disk" ] || sleep 0.1
done
mount -t ext4 "/dev/${disk##*/}" /root
cp -a /files/. /root/
for word in $(cat /proc/cmdline); do
	case $word in
	rig.name=*) echo "${word#*=}" >/root/etc/hostname ;;
	rig.net=*) echo "${word#*=}" >/root/etc/rig-net ;;
	esac
done
mount --move /dev /root/dev
umount /sys /proc
exec switch_root /root /usr/lib/systemd/systemd
