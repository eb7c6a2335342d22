# shellcheck shell=bash disable=SC2154 # set in lab/lab and lab/versions
# One lab from start to end: its scratch directory and cgroups, the processes that
# hold it (runner, guard, the chain that leads to process 1), and its removal.
#
#   lab/lab run ── setpriv ▸ unshare (mount, cgroup) ▸ enter outer ▸ unshare (pid, ipc, uts) ── enter inner ▸ tini ── command.sh ── COMMAND
#        └ flock (the guard): asleep on the run's lock until the runner has gone
#
# "──" forks and "▸" execs. Each of the chain dies with its parent (PDEATHSIG), all
# others with process 1; what a death leaves on disk and in the cgroups goes by
# end_run, called by whoever is left: the runner, its guard, or the next start.

runs=$cache/runs

# begin_run: makes $runs/ID and sets run (its path) and run_lock (its lock, held).
begin_run() {
  mkdir -p "$runs"
  local starting
  exec {starting}>"$runs/.starting"
  # Held while a run has a directory but not yet its lock: see sweep_dead_runs.
  flock "$starting"
  run=$(mktemp -d "$runs/XXXXXX")
  exec {run_lock}>"$run/lock"
  flock "$run_lock"
  exec {starting}>&-
  : >"$run/cgroups"
  mkdir "$run"/{upper,work,root,var-lib,scratch}
}

# end_run RUN: needs the run's lock. May be done again where it was broken off.
end_run() {
  [[ -d $1 ]] || return 0
  remove_cgroups "$1/cgroups" || say "processes of the lab ${1##*/} would not die; see $1/cgroups"
  # The lock goes last: a directory without one belongs to nobody.
  find "$1" -xdev -mindepth 1 ! -path "$1/lock" ! -path "$1/cgroups" -delete &&
    cgroups_gone "$1/cgroups" && rm -rf "$1"
}

sweep_dead_runs() {
  local directory starting lock dead=()
  [[ -d $runs ]] || return 0
  exec {starting}>"$runs/.starting"
  flock "$starting"
  for directory in "$runs"/*/; do
    directory=${directory%/}
    [[ -d $directory ]] || continue
    exec {lock}>"$directory/lock"
    if flock -n "$lock"; then dead+=("$directory:$lock"); else exec {lock}>&-; fi
  done
  exec {starting}>&-
  for directory in "${dead[@]}"; do
    lock=${directory##*:}
    end_run "${directory%:*}" || true
    exec {lock}>&-
  done
}

# Outlives the runner, in a session of its own; wakes when the runner's lock goes.
# It carries the functions with it: these files may change in the meantime.
start_guard() {
  local functions
  functions=$(declare -f say thaw cgroups_gone remove_cgroups end_run)
  (
    close_descriptors
    exec setsid flock --no-fork "$run/lock" \
      bash -c "$functions; end_run \"\$1\"" guard "$run" </dev/null >/dev/null 2>&1
  ) &
  guard=$!
}

# CRIU fails on descriptors that a container inherited from whoever called us.
close_descriptors() {
  local path descriptor
  for path in /proc/self/fd/*; do
    descriptor=${path##*/}
    ((descriptor <= 2)) || eval "exec $descriptor>&-"
  done
}

# run_lab: what the options in the variables of lab/lab say. Ends the process.
run_lab() {
  local first status=0
  chain='' timer='' guard='' run='' interrupted=''
  trap 'exit 129' HUP
  trap 'interrupted=yes; exit 130' INT
  trap 'exit 143' TERM
  trap finish_run EXIT
  begin_run
  start_guard
  # What `enter` needs to know, as assignments.
  declare -p lab repository run userland binds links environment directory \
    interactive private_network argv >"$run/plan"
  make_cgroups "stasis-lab-${run##*/}" "$run/cgroups"
  (
    exec {run_lock}>&-
    close_descriptors
    join_cgroups "$run/cgroups"
    exec setpriv --pdeathsig KILL \
      unshare --mount --cgroup -- bash "$lab/enter" outer "$run/plan"
  ) <&0 &
  chain=$!
  (
    close_descriptors
    exec setpriv --pdeathsig KILL sleep "$deadline" </dev/null >/dev/null 2>&1
  ) &
  timer=$!
  wait -n -p first "$chain" "$timer" || status=$?
  if [[ $first == "$timer" ]]; then
    say "deadline of $deadline s passed: the lab was killed"
    exit 124
  fi
  chain=
  exit "$status"
}

finish_run() {
  local status=$?
  trap '' HUP INT TERM
  trap - EXIT
  [[ -z $timer ]] || end_process "$timer"
  [[ -z $chain ]] || end_process "$chain"
  [[ -z $run ]] || end_run "$run" || say "left for the next start to remove: $run"
  [[ -z $guard ]] || end_process "$guard"
  if ((status == 130)) && [[ -n $interrupted ]]; then
    # To die of the signal, as it were: a shell that calls us in a loop goes on
    # after a mere status of 130.
    trap - INT
    kill -INT $BASHPID
  fi
  exit "$status"
}

# end_process PID: of a child. Its wait is silent, else bash reports the kill.
end_process() {
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

