# shellcheck shell=bash disable=SC2154,SC2034 # set and read in lab/lab, lab/versions, run.sh and disk.sh
# A virtual machine from start to end, held and removed as run.sh does it for a lab.
# It is emulated: slow, but with cgroup version 2 and with a kernel that tracks which
# pages were written, wherever the lab runs.
#
#   lab/lab vm ── setpriv ▸ unshare (pid) ── boot ── qemu-system-x86_64: guest ── COMMAND
#
# Three drives: the part's disk, whose changes nobody keeps; an archive that the
# machine unpacks over its root, with the repository and what --copy and --needs name;
# one that it writes its exit status to, and what is to come back.

# Emulated memory is the host's as soon as it was written to.
default_memory=2048
most_memory=3072
# What comes back fits into this; its space costs nothing until it is written.
result_size=2G

check_vm() {
  [[ $(uname -m) == x86_64 ]] || die "the virtual machine is made for x86_64 hosts: this one is $(uname -m)"
  if [[ ! $memory =~ ^[1-9][0-9]{1,5}$ ]] || ((memory < 256 || memory > most_memory)); then
    die "--memory takes 256 to $most_memory, not $memory"
  fi
  [[ -z $bring || -d $bring ]] || die "--bring takes a directory of this host: $bring is none"
  need_commands mke2fs qemu-system-x86_64
  need_disk "$cache" 1000 "a virtual machine"
}

# run_vm: the machine that the options ask for. Ends the process.
run_vm() { supervise "the virtual machine" start_vm; }

start_vm() {
  local part
  part=$(part_path "vm-$suite")
  # What `boot` needs to know, as assignments.
  declare -p lab run part memory root_partition bring argv >"$run/plan"
  truncate -s "$result_size" "$run/result"
  mkfifo "$run/out" "$run/err"
  make_archive "$run/archive"
  (
    close_descriptors
    # Held by the machine's processes, all of them; end_run waits for it.
    exec 3>"$run/alive"
    flock 3
    exec setpriv --pdeathsig KILL unshare --pid --fork --kill-child=KILL -- \
      bash "$lab/boot" "$run/plan" </dev/null
  ) &
  chain=$!
}

# make_archive FILE: what the machine gets to see of the host.
make_archive() {
  local pair path
  mkdir -p "$run/seed/run/lab"
  cp "$lab/guest" "$run/seed/run/lab/guest"
  # What `guest` needs to know.
  declare -p links environment directory bring argv >"$run/seed/run/lab/plan"
  tar -C "$run/seed" -cf "$1" run
  # The compiler's output is too much; --copy takes what is wanted of it.
  add_to_archive "$1" / --anchored --no-wildcards --exclude="${repository#/}/target" \
    --exclude="${repository#/}/.git" --exclude="${cache#/}" -- "${repository#/}"
  for path in "${copies[@]}"; do add_to_archive "$1" / -- "${path#/}"; done
  for pair in "${binds[@]}"; do
    add_to_archive "$1" "${pair%%:*}" --transform="flags=rh;s,^\.,${pair#*:/}," -- .
  done
}

# add_to_archive FILE DIRECTORY OPTION... -- NAME
add_to_archive() {
  local status=0
  tar -rf "$1" -C "$2" "${@:3}" || status=$?
  # 1: a file changed meanwhile, in a checkout that someone works in.
  ((status <= 1)) || die "cannot pack ${*: -1} for the virtual machine (see the message above)"
}
