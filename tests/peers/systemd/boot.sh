#!/bin/sh
# Boots this machine's systemd in namespaces of its own, on a throw-away layer over this
# machine's files, and has it run SHARE/story.sh:
#   unshare --pid --fork --kill-child --mount --cgroup --uts --ipc --net boot.sh REPO SHARE
# SHARE is /mnt inside. What the story says is in SHARE/said; SHARE/done is there at its end.
set -eu
repo=$1 share=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$share/layer"
mkdir "$share/layer/files" "$share/layer/work" "$share/layer/root"
root=$share/layer/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$share/layer/files,workdir=$share/layer/work" "$root"
mount --bind "$share" "$root/mnt"
# The kernel's own settings are everybody's: nothing in here may change them.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
# What this machine starts for itself stays out.
: >"$root/etc/fstab"
rm -rf "$root/etc/systemd/system"
mkdir -p "$root/etc/systemd/system"
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-sysctl.service \
    systemd-modules-load.service systemd-remount-fs.service systemd-random-seed.service \
    systemd-udevd-kernel.socket systemd-udevd-control.socket dev-hugepages.mount \
    dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
done
(cd "$repo" && sh packaging/install.sh "$root") >/dev/null
cp "$share/polyport.toml" "$root/etc/polyport/polyport.toml"
cat >"$root/etc/systemd/system/story.service" <<'UNIT'
[Unit]
Requires=basic.target
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh /mnt/story.sh
ExecStopPost=/bin/touch /mnt/done
StandardOutput=file:/mnt/said
StandardError=file:/mnt/said
UNIT
exec env -i container=story PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" /lib/systemd/systemd --system --unit=story.service --log-target=console
