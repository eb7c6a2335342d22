# shellcheck shell=bash
# What the lab tells people (stderr, prefixed) and what it asks of the host.

say() { printf 'lab: %s\n' "$*" >&2; }

# 125, as env, timeout and chroot use it: the lab failed, not the command.
die() {
  say "$*"
  exit 125
}

need_root() {
  ((EUID == 0)) || die "must be root (namespaces, mounts and cgroups are made): run it as root or through sudo"
}

# Command and the Debian package that has it, for all that the lab uses of a host.
# Those of vm_commands are for the virtual machine alone.
vm_commands=(mke2fs qemu-system-x86_64)
host_commands=(
  mmdebstrap:mmdebstrap
  unshare:util-linux setpriv:util-linux flock:util-linux setsid:util-linux
  mount:mount umount:mount
  mke2fs:e2fsprogs qemu-system-x86_64:qemu-system-x86
  env:coreutils sha256sum:coreutils tar:tar gzip:gzip find:findutils awk:mawk
)
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints the package of each of the named commands that the host lacks.
missing_packages() {
  local command pair
  for command; do
    for pair in "${host_commands[@]}"; do
      if [[ $pair == "$command":* ]] && ! command -v "$command" >/dev/null; then echo "${pair#*:}"; fi
    done
  done | sort -u
}

# need_commands COMMAND...: dies with the apt-get line that would help.
need_commands() {
  local packages
  packages=$(missing_packages "$@" | tr '\n' ' ')
  [[ -z $packages ]] ||
    die "missing on this host: ${packages% } (apt-get install ${packages% }, or lab/lab install$(for_vm "$@"))"
}

# for_vm COMMAND...: the argument of `lab/lab install` that brings them.
for_vm() {
  local command
  for command; do
    if [[ " ${vm_commands[*]} " == *" $command "* ]]; then
      echo ' vm'
      return
    fi
  done
}

# need_disk DIRECTORY MEGABYTES WHAT-FOR
need_disk() {
  local free
  free=$(df --output=avail -m "$(nearest_existing "$1")" | tail -n 1)
  ((free >= $2)) ||
    die "$3 needs $2 MB below $1, where ${free// /} MB are free: make room or set STASIS_LAB_CACHE to a larger disk"
}

nearest_existing() {
  local directory=$1
  while [[ ! -d $directory ]]; do directory=$(dirname "$directory"); done
  echo "$directory"
}

# install_host_packages [vm]
install_host_packages() {
  local packages command attempt commands=()
  [[ ${1:-vm} == vm ]] || usage
  for command in "${host_commands[@]%%:*}"; do
    [[ -z ${1:-} && " ${vm_commands[*]} " == *" $command "* ]] || commands+=("$command")
  done
  packages=$(missing_packages "${commands[@]}")
  [[ -e $debian_keyring ]] || packages+=" debian-archive-keyring"
  [[ -n ${packages//[[:space:]]/} ]] || return 0
  need_root
  command -v apt-get >/dev/null ||
    die "this host has no apt-get: install by hand what stands for" "${packages//$'\n'/ }"
  say "installing ${packages//$'\n'/ }"
  # A fresh container has no lists of packages, and old ones name what is gone; and a mirror
  # or a proxy may fail for a moment.
  for attempt in 1 2 3 4; do
    if ((attempt > 1)); then
      say "once more, with new lists of packages"
      apt-get update >&2 || continue
    fi
    # shellcheck disable=SC2086 # a list of package names
    if apt_install $packages; then return; fi
  done
  die "apt-get could not install ${packages//$'\n'/ } (see the message above)"
}

# Somebody else's apt-get may run just now.
apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@" >&2
}
