# shellcheck shell=bash disable=SC2154 # set in lab/lab and lab/versions
# The parts of the virtual machines: a userland with its suite's kernel, as a disk
# that this kernel mounts without an initrd (NVMe and ext4 are built into Debian's
# cloud kernels).
#
#   vmlinuz               the kernel
#   root.img              one partition with the userland, kernel modules included
#   var/lib/dpkg/status   what is in it

# Its space costs nothing until it is written.
disk_megabytes=4096
partition_megabytes=1
# The kernel finds its root by this: with several NVMe drives, which one is called
# nvme0n1 differs from boot to boot.
disk_signature=53544153
# shellcheck disable=SC2034 # read in vm.sh
root_partition=PARTUUID=$disk_signature-01

# build_disk PART DIRECTORY
build_disk() {
  local root=$2/.root kernel
  # Debian's hook makes no initrd if told so.
  INITRD=No build_userland "$1" "$root"
  kernel=("$root"/boot/vmlinuz-*)
  cp "${kernel[0]}" "$2/vmlinuz"
  mkdir -p "$2/var/lib/dpkg"
  cp "$root/var/lib/dpkg/status" "$2/var/lib/dpkg/"
  find "$root/boot" -mindepth 1 -delete
  make_disk "$root" "$2/root.img"
  rm -rf --one-file-system "$root"
}

# make_disk DIRECTORY IMAGE: a partition table and a file system with the directory's
# content, made without a loop device or a mount.
make_disk() {
  truncate -s "${disk_megabytes}M" "$2"
  # No journal: what a machine writes is thrown away.
  mke2fs -q -F -t ext4 -O ^has_journal -d "$1" \
    -E "lazy_itable_init=1,offset=$((partition_megabytes << 20))" \
    "$2" "$((disk_megabytes - partition_megabytes))M"
  # The table of a DOS disk: signature at 440, first partition at 446 (type, first
  # sector, number of sectors), mark at 510.
  {
    little_endian $((16#$disk_signature))
    printf '\0\0\0\0\0\0\x83\0\0\0'
    little_endian $((partition_megabytes * 2048))
    little_endian $(((disk_megabytes - partition_megabytes) * 2048))
  } | dd of="$2" bs=1 seek=440 conv=notrunc status=none
  printf '\x55\xaa' | dd of="$2" bs=1 seek=510 conv=notrunc status=none
}

# little_endian NUMBER: its four bytes.
little_endian() {
  local shift octets=''
  for shift in 0 8 16 24; do octets+=$(printf '\\x%02x' $(($1 >> shift & 255))); done
  printf '%b' "$octets"
}
