# shellcheck shell=bash disable=SC2154 # here, work and caches are set in lab/test
# Tests of `lab/lab vm`, a part of lab/test. A machine takes 5 seconds to start, on
# two busy cores thrice that. It is emulated: what is slow is slower in it.

# As `lab` in lab/test.
vm() {
  if [[ -n ${direct:-} ]]; then exec "$here/lab" vm --deadline 500 "$@"; fi
  timeout --kill-after=5 560 "$here/lab" vm --deadline 500 "$@"
}

# start_marked WORD OPTION...: a machine in the background that would never end. Sets
# runner, and id when it is up.
start_marked() {
  local word=$1
  shift
  env --default-signal "$here/lab" vm "$@" -- sh -c "sleep 600; : $word" >"$work/out" 2>&1 &
  runner=$!
  within 60 run_with "$word" >/dev/null
  id=$(run_with "$word")
  within 180 grep -qs 'lab: up' "$cache/runs/$id/console"
}

# vm_gone RUN-ID WORD: QEMU has the run's directory in its command line.
vm_gone() { gone "$1" "$2" && none_marked "runs/$1/"; }

vm_is_a_lab_of_its_own() {
  mkdir "$work/in" "$work/back"
  echo copied >"$work/in/a file"
  gives 7 vm --env X="a b" --copy "$work/in" --bring "$work/back" -- bash -c '
    printf "\0\r\n\377\n"
    echo err >&2
    back=$1; shift
    cat "$@" >"$back/a file"
    mkdir "$back/sub"
    echo "$STASIS_LAB $STASIS_LAB_VM $STASIS_LAB_SUITE $X" >"$back/sub/environment"
    [[ -s $STASIS_LAB_IMAGE && -w $STASIS_LAB_SCRATCH ]]
    [[ $(</sys/class/net/lo/operstate) == unknown && $(ls /sys/class/net) == lo ]]
    sha256sum lab/test >"$back/sum"
    # Left behind, with the output open: it does not hold the machine.
    setsid sleep 600 &
    exit 7' command "$work/back" "$work/in/a file" >"$work/out" 2>"$work/err"
  cmp "$work/out" <(printf '\0\r\n\377\n')
  equal err "$(<"$work/err")"
  equal copied "$(<"$work/back/a file")"
  equal "1 1 trixie a b" "$(<"$work/back/sub/environment")"
  # Alike inside and outside, below the same directory.
  (cd "$here/.." && sha256sum --check --quiet "$work/back/sum")
}

# In both suites, with CRIU 4.1 and 4.2.
criu_tracks_memory() {
  equal "$1" "$(vm --suite "$2" -- bash -euc '
    cd /scratch
    [[ $(stat -f -c %T /sys/fs/cgroup) == cgroup2fs ]]
    for controller in cpu cpuset io memory pids; do
      grep -qw $controller /sys/fs/cgroup/cgroup.subtree_control
    done
    mkdir /sys/fs/cgroup/mine first second
    echo 33554432 >/sys/fs/cgroup/mine/memory.max
    criu check --feature mem_dirty_track >&2
    criu check >&2
    mkfifo ready
    setsid bash -c "x=\$(head -c 4000000 /dev/zero | tr \"\\0\" x); : >ready; sleep 600; : \$x" </dev/null >/dev/null 2>&1 &
    read -r <ready || true
    criu pre-dump --tree $! --images-dir first --verbosity=1 >&2
    criu dump --tree $! --images-dir second --prev-images-dir ../first --track-mem --verbosity=1 >&2
    # What was not written since is in the first alone.
    pages=($(for images in first second; do cat $images/pages-*.img | wc -c; done))
    ((pages[0] > 4000000 && pages[1] < 1000000)) || { echo "pages: ${pages[*]}" >&2; exit 1; }
    version=$(criu --version)
    version=${version#Version: }
    echo "${version%.*}"')"
}
vm_trixie_tracks_memory() { criu_tracks_memory 4.1 trixie; }
vm_forky_tracks_memory() { criu_tracks_memory 4.2 forky; }

vm_deadline_ends_everything() {
  local word id runner
  word=$(mark)
  "$here/lab" vm --deadline 10 -- sh -c "sleep 600; : $word" >"$work/out" 2>&1 &
  runner=$!
  within 60 run_with "$word" >/dev/null
  id=$(run_with "$word")
  gives 124 wait "$runner"
  equal "lab: deadline of 10 s passed: the virtual machine was killed" "$(<"$work/out")"
  vm_gone "$id" "$word"
}

vm_signal_ends_everything() {
  local word id runner
  word=$(mark)
  start_marked "$word"
  kill -TERM "$runner"
  gives 143 wait "$runner"
  vm_gone "$id" "$word"
}

sigkill_of_the_vms_runner_leaves_nothing() {
  local word id runner
  word=$(mark)
  start_marked "$word"
  kill -KILL "$runner"
  within 60 vm_gone "$id" "$word"
}

two_with() { (($(grep -lF "$1" "$cache"/runs/*/plan /dev/null 2>/dev/null | wc -l) == 2)); }

two_vms_at_once() {
  local word first second
  word=$(mark)
  vm -- sh -c "echo one >>/scratch/x; sleep 10; cat /scratch/x; : $word" >"$work/one" &
  first=$!
  vm -- sh -c "echo two >>/scratch/x; sleep 10; cat /scratch/x; : $word" >"$work/two" &
  second=$!
  within 60 two_with "$word"
  wait "$first"
  wait "$second"
  equal "one two" "$(cat "$work/one" "$work/two" | xargs)"
}

a_panic_shows_the_console() {
  gives 125 vm -- sh -c 'echo c >/proc/sysrq-trigger' 2>"$work/err"
  grep -qx 'lab: the virtual machine ended before the command did; its last lines:' "$work/err"
  grep -q '^lab: | .*Kernel panic - not syncing: sysrq triggered crash' "$work/err"
}

missing_qemu() {
  local output status=0
  path_of unshare setpriv flock setsid mount umount env sha256sum tar gzip find awk \
    bash dirname readlink cat cut stat df tail sort tr uname mke2fs
  output=$(PATH=$work/bin STASIS_LAB_CACHE=$empty_cache "$here/lab" vm -- true 2>&1) || status=$?
  equal 125 "$status"
  equal "lab: missing on this host: qemu-system-x86 (apt-get install qemu-system-x86, or lab/lab install vm)" "$output"
}

check_vms() {
  check "vm: status, streams, environment, files there and back" vm_is_a_lab_of_its_own
  check "vm: trixie: cgroup version 2, and CRIU dumps changed pages only" vm_trixie_tracks_memory
  check "vm: forky: cgroup version 2, and CRIU dumps changed pages only" vm_forky_tracks_memory
  check "vm: two at once do not see each other" two_vms_at_once
  check "vm: the deadline gives 124 and leaves nothing" vm_deadline_ends_everything
  check "vm: SIGTERM ends it and leaves nothing" vm_signal_ends_everything
  check "vm: SIGKILL of the runner leaves nothing" sigkill_of_the_vms_runner_leaves_nothing
  check "vm: a panic gives 125 and shows the console" a_panic_shows_the_console
  check "vm: without QEMU: one clear line" missing_qemu
}
