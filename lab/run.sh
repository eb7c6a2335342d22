# shellcheck shell=bash disable=SC2154 # set in lab/lab and lab/versions
# One lab from start to end: its scratch directory and cgroups, the processes that
# hold it (runner, guard, the chain that leads to process 1), and its removal. A
# virtual machine (vm.sh) is held and removed in the same way by another chain.
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
  # Held by the processes of a virtual machine, which are being killed.
  [[ ! -e $1/alive ]] || flock --wait 60 "$1/alive" true || true
  # A start, or a removal, may have been broken off where there is none.
  [[ -e $1/cgroups ]] || : >"$1/cgroups"
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
    # Whoever ends it may be removing it just now.
    { exec {lock}>"$directory/lock"; } 2>/dev/null || continue
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

# run_lab: the lab that the options ask for. Ends the process.
run_lab() { supervise "the lab" start_lab; }

# supervise WHAT START: makes a run, in which START starts WHAT and sets chain, and
# waits for its end, the deadline or a signal. Ends the process.
supervise() {
  local first='' status=0
  chain='' timer='' guard='' run='' signal=''
  # They only note the signal, and end the timer: in a trap that breaks into a `wait`,
  # bash 5.2 can lose a child and then wait for it for ever.
  trap 'signal=HUP; end_timer' HUP
  trap 'signal=INT; end_timer' INT
  trap 'signal=TERM; end_timer' TERM
  trap finish_run EXIT
  begin_run
  start_guard
  "$2"
  start_timer
  if [[ -z $signal ]]; then
    wait -n -p first "$chain" "$timer" || status=$?
  fi
  if [[ -z $signal && $first == "$timer" ]]; then
    say "deadline of $deadline s passed: $1 was killed"
    exit 124
  fi
  exit "$status"
}

start_lab() {
  # What `enter` needs to know, as assignments.
  declare -p lab repository run userland binds links environment directory \
    interactive private_network argv >"$run/plan"
  make_cgroups "stasis-lab-${run##*/}" "$run/cgroups"
  start_chain
}

start_chain() {
  (
    close_descriptors
    join_cgroups "$run/cgroups"
    exec setpriv --pdeathsig KILL \
      unshare --mount --cgroup -- bash "$lab/enter" outer "$run/plan"
  ) <&0 &
  chain=$!
}

start_timer() {
  (
    close_descriptors
    exec setpriv --pdeathsig KILL sleep "$deadline" </dev/null >/dev/null 2>&1
  ) &
  timer=$!
}

# A signal that comes between the look at it and the `wait` does not end the `wait`.
end_timer() { [[ -z $timer ]] || kill -TERM "$timer" 2>/dev/null || true; }

finish_run() {
  local status=$?
  trap '' HUP INT TERM
  trap - EXIT
  end_processes "$timer" "$chain"
  if [[ -n $run ]]; then end_run "$run" || say "left for the next start to remove: $run"; fi
  end_processes "$guard"
  if [[ -n $signal ]]; then
    # To die of it: a shell that runs labs in a loop goes on after a mere 130.
    trap - "$signal"
    kill -s "$signal" $BASHPID
  fi
  exit "$status"
}

# end_processes PID...: of children, without bash's report of their end. Returns
# when they have gone.
end_processes() {
  local pid tries
  for pid; do
    # One that has ended is no job any more.
    if [[ -z $pid ]] || ! disown "$pid" 2>/dev/null; then continue; fi
    kill -KILL "$pid" 2>/dev/null || true
    for ((tries = 0; tries < 1000; tries++)); do
      [[ -d /proc/$pid ]] || break
      sleep 0.01
    done
  done
}
